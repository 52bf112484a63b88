"""``athanor study``: published studies repeated on virtual patients with the models that are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import TICK, say
from pipelines.catalog import Catalog

app = typer.Typer(help="Published studies, repeated on virtual patients.", no_args_is_help=True)


@app.command("galbusera")
def galbusera(
    out: Annotated[Path, typer.Option(help="folder for README.md, results.json and pictures")] = Path(
        "docs/studies/galbusera-2018"
    ),
    task: Annotated[
        list[str] | None, typer.Option(help="only this task, by the id of its pipeline; may be repeated")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="two patients instead of 30")] = False,
) -> None:
    """Six image translations of the spine as in Galbusera et al. 2018, each beside what needs no training.

    What an earlier run measured with the same weights is kept; prose in README.md stays.
    """
    if find_spec("skimage") is None or find_spec("matplotlib") is None:
        console.fail("found no scikit-image and matplotlib; `pip install .[training]` adds both", console.USAGE)
    from pipelines.studies.galbusera.cohort import TASKS, TEST
    from pipelines.studies.galbusera.report import write
    from pipelines.studies.galbusera.study import measure

    known = {one.id: one for one in TASKS}
    for name in task or ():
        if name not in known:
            console.fail(f"--task: found {name!r}; expected one of: {', '.join(known)}", console.USAGE)
    catalog = Catalog.read(console.settings().models_dir)
    with console.progress() as progress:
        bar = progress.add_task("reading what is there", total=None)

        def advance(what: str, done: int, of: int) -> None:
            progress.update(bar, description=what, completed=done, total=of)

        results = measure(out, catalog, 2 if quick else TEST, advance, [known[name] for name in task or known])
        write(out, results, catalog, advance)
    for one in TASKS:
        measured = results["tasks"][one.id]
        model = measured["weights"]["generator"]
        say(f"{one.title}: {len(measured['cases'])} patients, {model['version'] if model else 'no weights ship'}")
    say(f"{out / 'README.md'}", mark=TICK)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="study")

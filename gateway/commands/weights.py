"""``athanor weights``: bring in weights of other code bases, and check those that are installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from pipelines.errors import ManifestError, PipelineError
from pipelines.spec import MANIFEST, read_manifest

app = typer.Typer(help="Bring in weights of other code bases; check those that are installed.")


@app.command("import")
def import_weights(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="state_dict (.pth), ONNX file or MONAI bundle")],
    answers: Annotated[
        Path | None, typer.Option(help="TOML file with what FILE does not say; without it a template is printed")
    ] = None,
    json: Json = False,
) -> None:
    """Turn a generator of another code base into a pipeline, disabled at first.

    Without --answers nothing is written: what FILE holds and the questions that it leaves open are printed as TOML.
    """
    from pipelines.importing.release import release, template  # loads torch
    from pipelines.importing.source import recognised

    with recognised(source) as found:
        if answers is None:
            text = template(source, found)
            if json:
                console.show_json({"found": found.words, "template": text})
            else:
                typer.echo(text, nl=False)
            return
        spec = release(source, found, answers, console.settings().models_dir)
    if json:
        console.show_json({"id": spec.id, "folder": str(spec.path), "found": found.words, "enabled": spec.enabled})
        return
    say(f"{spec.id} {spec.version}: {found.words}")
    say(f"disabled; see `athanor pipelines test {spec.id}`, then set enabled = true in {spec.path / MANIFEST}")


@app.command("verify")
def verify(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINE]...", help="ids; without one every pipeline")
    ] = None,
    json: Json = False,
) -> None:
    """Check digest, names, shapes and values of installed weights against manifest and architecture."""
    folders = _folders(pipelines or ())
    rows = [_checked(folder) for folder in folders]
    if json:
        console.show_json(rows)
    else:
        show_table(
            ("pipeline", "version", "architecture", "weights"),
            [(row["id"], row["version"], row["architecture"], row["problem"] or "verified") for row in rows],
        )
    if any(row["problem"] for row in rows):
        raise typer.Exit(console.FAILED)


def _folders(ids: Sequence[str]) -> list[Path]:
    """The folders of these pipelines, or of all; leaves when one is not there."""
    models = console.settings().models_dir
    installed = {path.parent.name: path.parent for path in sorted(models.glob(f"*/{MANIFEST}"))}
    for name in ids:
        if name not in installed:
            known = ", ".join(installed) or "none"
            console.fail(f"found no pipeline {name!r}; expected one of: {known}", console.NOT_FOUND)
    return [installed[name] for name in ids] if ids else list(installed.values())


def _checked(folder: Path) -> dict[str, Any]:
    """What there is in one folder and what is wrong with it; one that is broken keeps no other from being checked."""
    from pipelines.weights import load_generator  # loads torch

    row = {"id": folder.name, "version": "", "architecture": "", "sha256": "", "problem": None}
    try:
        spec = read_manifest(folder)
    except ManifestError as error:
        return {**row, "problem": str(error)}
    row |= {
        "version": spec.version, "architecture": spec.generator.architecture, "sha256": spec.generator.sha256
    }  # fmt: skip
    try:
        load_generator(spec)
    except PipelineError as error:
        return {**row, "problem": str(error)}
    return row


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="weights")

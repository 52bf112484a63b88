"""``athanor demo``: the main job, whole: a T2W series goes in, a marked synthetic series comes back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import pydicom
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.commands import console
from gateway.commands.console import err, say
from gateway.commands.jobs import print_timeline
from gateway.commands.phantom import write_phantom
from gateway.commands.pictures import side_by_side
from gateway.commands.sandbox import Sandbox, SmallPacs
from gateway.store import reports, timeline
from gateway.store.database import Database

_WITHIN_S = 180.0
_ENTRIES = {"scanner", "pacs", "rules.toml", "settings.toml", "gateway.log", "state", "side-by-side.png"}


def demo(
    folder: Annotated[
        Path, typer.Option(help="where everything of it goes; an earlier demonstration there is removed")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="the virtual patient", min=0)] = 2018,
    slices: Annotated[int, typer.Option(help="slices of the series", min=3, max=60)] = 20,
) -> None:
    """Start a whole gateway, send a T2W series of a virtual patient, receive the synthetic STIR, show what happened."""
    _empty(folder)
    with _progress() as progress, SmallPacs(folder / "pacs") as pacs:
        step = progress.add_task("virtual patient", total=slices)
        sources = write_phantom(folder / "scanner", seed, slices=slices)
        progress.update(step, description="starting the gateway")
        pacs_settings = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}}
        with Sandbox(folder, {"destinations": pacs_settings}) as sandbox:
            progress.update(step, description=f"C-STORE to ATHANOR at port {sandbox.port}")
            sent = sandbox.send(sources, on_answer=lambda *_: progress.advance(step))
            answered_at = time.time()
            if not sent.is_delivered:
                console.fail(f"the gateway did not accept the series: {sent.failure or sent.outcomes}")
            database = sandbox.database()
            uid = str(pydicom.dcmread(sources[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
            progress.update(step, description="assemble, route, process, deliver", completed=0)
            series_id = _follow(progress, step, sandbox, database, uid, pacs)
            with database.read() as connection:
                detail = reports.series_detail(connection, series_id)
                events = timeline.of_series(connection, series_id)
            database.close()
    print_timeline(events)
    for job in detail["jobs"]:
        if job["error"]:
            say(f"job {job['id'][:8]} {job['state']}: {job['error']}", style="red", to=err)
    picture = side_by_side(sources, sorted(file for _, file in pacs.received), folder / "side-by-side.png")
    _print(folder, sources, pacs, picture, answered_at)
    if len(pacs.received) != len(sources):
        console.fail(f"the PACS holds {len(pacs.received)} synthetic instances, expected {len(sources)}")


def _empty(folder: Path) -> None:
    """Remove an earlier demonstration, and only that."""
    found = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if found - _ENTRIES or (found and "scanner" not in found):
        console.fail(f"{folder}: found what no demonstration left there; choose another --folder", console.USAGE)
    if found:
        shutil.rmtree(folder)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    return console.progress(*columns, TimeElapsedColumn())


def _follow(progress: Progress, step: object, sandbox: Sandbox, database: Database, uid: str, pacs: SmallPacs) -> int:
    """Show instances arriving in the PACS until the series has ended."""
    until = time.monotonic() + _WITHIN_S
    while True:
        progress.update(step, completed=len(pacs.received))  # type: ignore[arg-type] # rich's TaskID is an int
        with database.read() as connection:
            series_id = reports.find_series(connection, uid)
            if series_id is not None and reports.is_finished(connection, series_id):
                return series_id
        if time.monotonic() > until:
            console.fail(f"the series has not ended within {_WITHIN_S:g} s; see {sandbox.log_file}")
        time.sleep(0.05)


def _print(folder: Path, sources: list[Path], pacs: SmallPacs, picture: Path | None, answered_at: float) -> None:
    """The sum of it, and where to look."""
    say(f"{len(sources)} instances sent, {len(pacs.received)} synthetic instances in the PACS")
    if pacs.received:
        last = max(at for at, _ in pacs.received)
        say(f"{last - answered_at:.2f} s from the last C-STORE answer to the last result in the PACS")
    for what, where in (
        ("source series", folder / "scanner"),
        ("synthetic series", pacs.folder),
        ("side by side", picture),
        ("settings", folder / "settings.toml"),
        ("log", folder / "gateway.log"),
        ("state", folder / "state"),
    ):
        if where:
            say(f"{what:<17}{where}", indent=2)
    say(f"{'look again':<17}athanor --settings {folder / 'settings.toml'} jobs show 1", indent=2)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(demo)

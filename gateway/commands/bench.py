"""``athanor bench``: how fast the gateway is on this machine, measured and printed; nothing is asserted."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import pydicom
import typer
from rich.progress import Progress
from rich.table import Table

from gateway.commands import bench_growth, bench_inference, bench_ingest, bench_web, console
from gateway.commands.console import Json, err, out
from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import Sandbox, SmallPacs
from gateway.store import reports, timeline
from gateway.store.database import Database

app = typer.Typer(help="Benchmarks of this machine.", no_args_is_help=True)

_WITHIN_S = 120.0


@app.command("turnaround")
def turnaround(
    rounds: Annotated[int, typer.Option(help="series to send, one after another", min=1)] = 5,
    slices: Annotated[int, typer.Option(help="slices of a series", min=3, max=60)] = 20,
    matrix: Annotated[int, typer.Option(help="rows and columns", min=64, max=512)] = 256,
    json: Json = False,
) -> None:
    """Time from the last C-STORE answer to the last result accepted by the PACS, stage by stage, worker warm.

    `overhead_s` is what is neither the quiet period that the evidence asks for nor inference. Medians of the rounds.
    """
    folder = Path(tempfile.mkdtemp(prefix="athanor-bench-"))
    measured = []
    try:
        with Progress(console=err, transient=True) as progress, SmallPacs(folder / "pacs") as pacs:
            bar = progress.add_task("starting the gateway", total=rounds + 1)
            destinations = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}}
            with Sandbox(folder / "gateway", {"destinations": destinations}) as sandbox:
                database = sandbox.database()
                for number in range(rounds + 1):  # the first round is not counted
                    progress.update(bar, description=f"round {number}", completed=number)
                    paths = write_phantom(folder / f"patient-{number}", seed=number, slices=slices, matrix=matrix)
                    measured.append(_round(sandbox, database, pacs, paths))
                database.close()
    finally:
        shutil.rmtree(folder)
    _report(measured[1:], slices, matrix, json)


@app.command("ingest")
def ingest(
    rounds: Annotated[int, typer.Option(help="alternating rounds", min=1)] = 3,
    instances: Annotated[int, typer.Option(help="instances of a study", min=4)] = 100,
    growth: Annotated[
        int | None, typer.Option(help="instead: with up to so many rows in the database", min=0, max=10_000_000)
    ] = None,
    open_associations: Annotated[
        int | None, typer.Option("--open", help="instead: with so many idle associations open", min=1, max=10_000)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="delete nothing before the end")] = False,
    json: Json = False,
) -> None:
    """Instances received per second, beside DCMTK storescp, pynetdicom's storescp and Orthanc where installed.

    Only ours and Orthanc's answers promise that the instance is on disk. `limit` is a bare loop from a socket to a
    synced file, in the same rounds.
    """
    if growth is not None:
        bench_growth.growth(growth, json)
    elif open_associations is not None:
        bench_growth.open_associations(open_associations, json)
    else:
        bench_ingest.ingest(rounds, instances, keep, json)


@app.command("web")
def web(
    instances: Annotated[int, typer.Option(help="instances in the database", min=1)] = 1_000_000,
    studies: Annotated[int, typer.Option(help="studies in the database", min=1)] = 5_000,
    rounds: Annotated[int, typer.Option(help="requests of each address", min=1)] = 5,
    postgresql: Annotated[
        str | None, typer.Option(metavar="URL", help="a server on which a database is made, and dropped at the end")
    ] = None,
    json: Json = False,
) -> None:
    """Time to the first byte of each page and API list, with made-up rows in SQLite or PostgreSQL.

    Exit code 1 when one takes 200 ms or more at the median, or is answered with an error.
    """
    if not bench_web.measure(instances, studies, rounds, postgresql, json):
        raise typer.Exit(console.FAILED)


@app.command("inference")
def inference(
    pipeline: Annotated[str | None, typer.Argument(help="only this one, such as t2-to-stir")] = None,
    rounds: Annotated[int, typer.Option(help="rounds, each measures everything in turn", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="threads; 0 = as many as process.threads says", min=0)] = 0,
    record: Annotated[bool, typer.Option("--record", help="write down which runtime workers use from now on")] = False,
    json: Json = False,
) -> None:
    """Slices a second of each installed pipeline on the processor, by runtime, beside its network in plain PyTorch.

    With --record the fastest that gives the same is used by workers from their next start on; what was recorded stays.
    """
    bench_inference.measure_all(console.settings(), pipeline, rounds, threads, record, json)


def _round(sandbox: Sandbox, database: Database, pacs: SmallPacs, paths: list[Path]) -> dict[str, float]:
    """Send one series and take its times apart; seconds by stage."""
    before = len(pacs.received)
    sent = sandbox.send(paths)
    answered_at = time.time()
    if not sent.is_delivered:
        console.fail(f"the gateway did not accept the series: {sent.failure}")
    uid = str(pydicom.dcmread(paths[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    series_id = sandbox.wait_until_finished(database, uid, _WITHIN_S)
    arrived = pacs.received[before:]
    if len(arrived) != len(paths):
        console.fail(f"the PACS received {len(arrived)} of {len(paths)} instances; see {sandbox.log_file}")
    with database.read() as connection:
        events = {(event.stage, event.what): event for event in timeline.of_series(connection, series_id)}
        (job,) = reports.series_detail(connection, series_id)["jobs"]
    complete = events["assemble", "complete"].at
    made, started = events["route", "job made"].at, events["process", "started"].at
    succeeded, last = events["process", "succeeded"].at, max(at for at, _ in arrived)
    infer = job["seconds"]["infer"]
    waiting = min(complete - answered_at, sandbox.settings.assemble.quiet_full_s)
    return {
        "receive_s": sent.seconds,
        "evidence_s": waiting,
        "assemble_s": complete - answered_at - waiting,
        "route_s": made - complete,
        "queue_s": started - made,
        "process_s": succeeded - started - infer,
        "inference_s": infer,
        "deliver_s": last - succeeded,
        "total_s": last - answered_at,
        "overhead_s": last - answered_at - waiting - infer,
    }


def _report(measured: list[dict[str, float]], slices: int, matrix: int, json: bool) -> None:
    median = {key: round(statistics.median(one[key] for one in measured), 4) for key in measured[0]}
    if json:
        rounds: list[dict[str, Any]] = [{key: round(value, 4) for key, value in one.items()} for one in measured]
        console.show_json({"slices": slices, "matrix": matrix, **median, "rounds": rounds})
        return
    table = Table(box=None, pad_edge=False, title=f"{slices} slices of {matrix} x {matrix}, {len(measured)} rounds")
    for column in ("stage", "median", "least", "most"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for key, value in median.items():
        values = [one[key] for one in measured]
        table.add_row(key.removesuffix("_s"), f"{value:.3f} s", f"{min(values):.3f} s", f"{max(values):.3f} s")
    out.print(table)
    out.print("receive comes before the last C-STORE answer; total = evidence + inference + overhead")


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="bench")

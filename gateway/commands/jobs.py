"""``athanor jobs``: what became of each series and why; run again, resend."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.commands import console
from gateway.commands.console import Json, out
from gateway.store import deliveries, jobs, reports, timeline

app = typer.Typer(help="Series and jobs: what became of them and why.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(help="how many, newest first", min=1)]
Which = Annotated[str, typer.Argument(help="series id, Series Instance UID, or the start of a job id")]


@app.command("ls")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="only jobs in this state")] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the latest jobs."""
    with console.database() as database, database.read() as connection:
        rows = reports.job_list(connection, limit, state.upper() if state else None)
    if json:
        console.show_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("job", "series", "pipeline", "rule", "state", "attempt", "age", "reason"):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark = " (superseded)" if row["superseded"] else ""
        table.add_row(
            row["id"][:8], f"{row['series_id']} {row['series_description']}", row["pipeline_id"],
            f"{row['rule']}@{row['rule_version']}", row["state"] + mark, f"{row['attempt']}/{row['max_attempts']}",
            console.age(row["created_at"]), row["error"] or "",
        )  # fmt: skip
    out.print(table if rows else "no jobs yet; send a series with `athanor send DIR`")


@app.command("series")
def list_series(
    state: Annotated[str | None, typer.Option(help="only series in this state")] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the latest series, those included for which there is no job."""
    with console.database() as database, database.read() as connection:
        rows = reports.series_list(connection, limit, state.upper() if state else None)
    if json:
        console.show_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("series", "from", "description", "instances", "state", "age", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        why = row["reason"] or (row["evidence"] or {}).get("sentence") or row["waiting_for"] or ""
        table.add_row(
            str(row["id"]), row["calling_ae_title"], row["series_description"], str(row["instances"]), row["state"],
            console.age(row["last_received_at"]), why,
        )  # fmt: skip
    out.print(table if rows else "no series yet; send one with `athanor send DIR`")


@app.command("show")
def show(which: Which, json: Json = False) -> None:
    """Show one series: evidence, rules tried, jobs, deliveries, timeline."""
    with console.database() as database, database.read() as connection:
        series_id = _find(connection, which)
        detail = reports.series_detail(connection, series_id)
        events = timeline.of_series(connection, series_id)
    if json:
        console.show_json(
            {
                **detail,
                "timeline": [
                    {"at": e.at, "stage": e.stage, "what": e.what, "job_id": e.job_id, **e.detail} for e in events
                ],
            }
        )
        return
    _print_series(detail)
    print_timeline(events)


@app.command("retry")
def retry(which: Which) -> None:
    """Run the jobs of a series that ended without a result again."""
    with console.database() as database, database.write() as connection:
        detail = reports.series_detail(connection, _find(connection, which))
        again = [job["id"] for job in detail["jobs"] if jobs.run_again(connection, job["id"])]
    out.print(f"queued again: {', '.join(job_id[:8] for job_id in again)}" if again else "nothing to run again")
    if not again:
        raise typer.Exit(console.FAILED)


@app.command("resend")
def resend(
    which: Which,
    destination: Annotated[str | None, typer.Option(help="only to this destination")] = None,
    whole: Annotated[bool, typer.Option(help="also instances that were accepted already")] = False,
) -> None:
    """Send the results of a series again: the same bytes under the same UIDs."""
    give_up_s = console.settings().deliver.give_up_s
    with console.database() as database, database.write() as connection:
        detail = reports.series_detail(connection, _find(connection, which))
        again = [
            delivery["destination"]
            for job in detail["jobs"]
            for delivery in job["deliveries"]
            if destination in {None, delivery["destination"]}
            and deliveries.send_again(connection, delivery["id"], whole=whole, give_up_s=give_up_s)
        ]
    out.print(f"will be sent again to: {', '.join(again)}" if again else "nothing to send again")
    if not again:
        raise typer.Exit(console.FAILED)


def _find(connection: Any, which: str) -> int:
    found = reports.find_series(connection, which)
    if found is None:
        console.fail(f"found no series or job {which!r}; see `athanor jobs series`", console.NOT_FOUND)
    return found


def _print_series(detail: dict[str, Any]) -> None:
    out.print(
        f"series {detail['id']}  {detail['modality']} {detail['series_description']!r}  revision {detail['revision']}, "
        f"{detail['instances']} instances from {detail['calling_ae_title']}  [bold]{detail['state']}[/bold]"
    )
    if detail["evidence"]:
        out.print(f"  closed: {detail['evidence']['sentence']}", markup=False)
    elif detail["waiting_for"]:
        out.print(f"  waits: {detail['waiting_for']}", markup=False)
    if detail["reason"]:
        out.print(f"  {detail['reason']}", markup=False)
    for job in detail["jobs"]:
        superseded = ", superseded by a later revision" if job["superseded"] else ""
        out.print(
            f"  job {job['id'][:8]} {job['pipeline_id']} by rule {job['rule']}@{job['rule_version']}: "
            f"[bold]{job['state']}[/bold] at attempt {job['attempt']} of {job['max_attempts']}{superseded}"
        )
        if job["error"]:
            out.print(f"    {job['error']}", markup=False)
        for made in job["derived"]:
            out.print(f"    made series {made['series_number']}: {made['instances']} instances ({made['profile']})")
        for delivery in job["deliveries"]:
            out.print(
                f"    to {delivery['destination']}: {delivery['state']}, {delivery['accepted']} of "
                f"{delivery['instances']} accepted, attempt {delivery['attempt']}"
            )
            if delivery["error"]:
                out.print(f"      {delivery['error']}", markup=False)


def print_timeline(events: list[timeline.Event]) -> None:
    """Print a timeline: when, how long after the event before it, and what."""
    table = Table(box=None, pad_edge=False)
    table.add_column("time")
    table.add_column("after", justify="right")
    for column in ("stage", "what", "detail"):
        table.add_column(column, overflow="fold")
    before = events[0].at if events else 0.0
    for event in events:
        table.add_row(
            console.local_time(event.at), f"+{event.at - before:.3f} s", event.stage, event.what, _detail(event)
        )
        before = event.at
    out.print(table)


def _detail(event: timeline.Event) -> str:
    if "sentence" in event.detail:
        return str(event.detail["sentence"])
    return ", ".join(f"{key} {_plain(value)}" for key, value in event.detail.items() if value not in (None, ""))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {part} s" for key, part in value.items())
    return str(value)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="jobs")

"""``athanor jobs``: what became of each series and why; run again, send again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.domain.rules import Outcome
from gateway.domain.states import JobState, SeriesState
from gateway.store import deliveries, jobs, reports, timeline

app = typer.Typer(help="What became of each series, and why; run again, send again.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(help="how many, newest first", min=1)]
Which = Annotated[
    str, typer.Argument(metavar="SERIES", help="series id, Series Instance UID, or the start of a job id")
]


@app.command("ls")
def list_jobs(
    state: Annotated[
        JobState | None, typer.Option(metavar="STATE", help="only jobs in this state", case_sensitive=False)
    ] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the latest jobs."""
    with console.database() as database, database.read() as connection:
        rows = reports.job_list(connection, limit, state)
    if json:
        console.show_json(rows)
    elif not rows:
        say(f"no job is {state}" if state else "no jobs yet; send a series with `athanor send PATH`")
    else:
        show_table(
            ("job", "series", "pipeline", "rule", "state", "attempt", "age", "reason"),
            [
                (
                    row["id"][:8],
                    f"{row['series_id']} {row['series_description']}",
                    row["pipeline_id"],
                    f"{row['rule']}@{row['rule_version']}",
                    row["state"] + (" (superseded)" if row["superseded"] else ""),
                    f"{row['attempt']}/{row['max_attempts']}",
                    console.age(row["created_at"]),
                    row["error"] or "",
                )
                for row in rows
            ],
        )


@app.command("series")
def list_series(
    state: Annotated[
        SeriesState | None, typer.Option(metavar="STATE", help="only series in this state", case_sensitive=False)
    ] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the latest series, also those for which there is no job."""
    with console.database() as database, database.read() as connection:
        rows = reports.series_list(connection, limit, state)
    if json:
        console.show_json(rows)
    elif not rows:
        say(f"no series is {state}" if state else "no series yet; send one with `athanor send PATH`")
    else:
        show_table(
            ("series", "from", "description", "instances", "state", "age", "why"),
            [
                (
                    str(row["id"]),
                    row["calling_ae_title"],
                    row["series_description"],
                    str(row["instances"]),
                    row["state"],
                    console.age(row["last_received_at"]),
                    row["reason"] or (row["evidence"] or {}).get("sentence") or row["waiting_for"] or "",
                )
                for row in rows
            ],
        )


@app.command("show")
def show(which: Which, json: Json = False) -> None:
    """Show one series: evidence, rules asked, jobs, deliveries, timeline."""
    with console.database() as database, database.read() as connection:
        series_id = _find(connection, which)
        detail = reports.series_detail(connection, series_id)
        events = timeline.of_series(connection, series_id)
    if json:
        happened = [{"at": e.at, "stage": e.stage, "what": e.what, "job_id": e.job_id, **e.detail} for e in events]
        console.show_json({**detail, "timeline": happened})
        return
    _print_series(detail)
    print_timeline(events)


@app.command("retry")
def retry(which: Which, json: Json = False) -> None:
    """Run the jobs of a series again that ended without a result."""
    with console.database() as database, database.write() as connection:
        detail = reports.series_detail(connection, _find(connection, which))
        again = [job["id"] for job in detail["jobs"] if jobs.run_again(connection, job["id"])]
    if json:
        console.show_json({"queued": again})
    else:
        say(f"queued again: {', '.join(job_id[:8] for job_id in again)}" if again else "no job ended without a result")
    if not again:
        raise typer.Exit(console.FAILED)


@app.command("resend")
def resend(
    which: Which,
    destination: Annotated[str | None, typer.Option(help="only to this destination")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="also instances that were accepted already")] = False,
    json: Json = False,
) -> None:
    """Send the results of a series again: the same bytes under the same UIDs; superseded ones are left out."""
    give_up_s = console.settings().deliver.give_up_s
    with console.database() as database, database.write() as connection:
        detail = reports.series_detail(connection, _find(connection, which))
        again = [
            delivery["destination"]
            for job in detail["jobs"]
            for delivery in job["deliveries"]
            if destination in {None, delivery["destination"]}
            and not job["superseded"]
            and deliveries.send_again(connection, delivery["id"], whole=whole, give_up_s=give_up_s)
        ]
    if json:
        console.show_json({"destinations": again})
    else:
        say(f"will be sent again to: {', '.join(again)}" if again else "no delivery that has ended")
    if not again:
        raise typer.Exit(console.FAILED)


def _find(connection: Any, which: str) -> int:
    found = reports.find_series(connection, which)
    if found is None:
        console.fail(f"found no series or job {which!r}; see `athanor jobs series`", console.NOT_FOUND)
    return found


def _print_series(detail: dict[str, Any]) -> None:
    say(
        f"series {detail['id']}  {detail['modality']} {detail['series_description']!r}  revision {detail['revision']}, "
        f"{detail['instances']} instances from {detail['calling_ae_title']}  {detail['state']}",
        style="bold",
    )
    if detail["evidence"]:
        say(f"closed: {detail['evidence']['sentence']}", indent=2)
    elif detail["waiting_for"]:
        say(f"waits: {detail['waiting_for']}", indent=2)
    if detail["reason"]:
        say(detail["reason"], indent=2)
    if not detail["jobs"]:
        for rule in (detail["selection"] or {"rules": []})["rules"]:
            say(f"rule {rule['name']}: {_why_not(rule)}", indent=2)
    for job in detail["jobs"]:
        _print_job(job)


def _why_not(rule: dict[str, Any]) -> str:
    """Why a rule made no job: the conditions of its outermost level that do not hold."""
    if rule["outcome"] != Outcome.NOT_MATCHED:
        return str(rule["outcome"])
    trace = rule["trace"]
    failed = [one for one in trace["children"] if not one["matched"]] if trace["operator"] == "all" else [trace]
    return "; ".join(_condition(one) for one in failed)


def _condition(trace: dict[str, Any]) -> str:
    if not trace["attribute"]:
        inner = ", ".join(_condition(one) for one in trace["children"])
        return f"{trace['operator']} ({inner})"
    asked = " ".join(filter(None, (trace["attribute"], trace["operator"].replace("_", " "), trace["expected"])))
    return f"{asked}, found {trace['found']}"


def _print_job(job: dict[str, Any]) -> None:
    superseded = ", superseded by a later revision" if job["superseded"] else ""
    say(
        f"job {job['id'][:8]} {job['pipeline_id']} by rule {job['rule']}@{job['rule_version']}: "
        f"{job['state']} at attempt {job['attempt']} of {job['max_attempts']}{superseded}",
        indent=2,
    )
    if job["error"]:
        say(job["error"], indent=4)
    for made in job["derived"]:
        say(f"made series {made['series_number']}: {made['instances']} instances ({made['profile']})", indent=4)
    for delivery in job["deliveries"]:
        say(
            f"to {delivery['destination']}: {delivery['state']}, {delivery['accepted']} of "
            f"{delivery['instances']} accepted, attempt {delivery['attempt']}",
            indent=4,
        )
        if delivery["error"]:
            say(delivery["error"], indent=6)


def print_timeline(events: list[timeline.Event]) -> None:
    """Print a timeline: when, how long after the event before it, and what."""
    before = [events[0].at, *(event.at for event in events)] if events else []
    show_table(
        ("time", "after", "stage", "what", "detail"),
        [
            (console.local_time(event.at), f"+{event.at - at:.3f} s", event.stage, event.what, _detail(event))
            for event, at in zip(events, before, strict=False)
        ],
    )


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

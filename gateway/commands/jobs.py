"""``athanor jobs``: what became of each series and why; run again, send again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.domain.rules import Outcome
from gateway.domain.states import JobState, SeriesState
from gateway.errors import NotDicom
from gateway.store import deliveries, reports, reruns, routing, timeline
from gateway.store.spool import Spool

app = typer.Typer(help="What became of each series, and why; cancel, run, send, route again.", no_args_is_help=True)

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
    """Run the jobs of a series again that ended without a result, or whose result was lost before it was sent."""
    with console.database() as database, database.write() as connection:
        spool = Spool(console.settings().spool_dir, "commands")
        detail = reports.series_detail(connection, _find(connection, which))
        again = [
            job["id"]
            for job in detail["jobs"]
            if reruns.run_again(connection, job["id"])
            or (_is_lost(connection, spool, job["id"]) and reruns.make_again(connection, job["id"]))
        ]
    if json:
        console.show_json({"queued": again})
    else:
        said = ", ".join(job_id[:8] for job_id in again)
        say(f"queued again: {said}" if again else "no job ended without a result, or lost one that nobody has got")
    if not again:
        raise typer.Exit(console.FAILED)


def _is_lost(connection: Any, spool: Spool, job_id: str) -> bool:
    """Whether a derived file of the job is gone or damaged."""
    for path, sha256 in reruns.files_of(connection, job_id):
        try:
            spool.require_intact(path, sha256)
        except (OSError, NotDicom):
            return True
    return False


@app.command("route")
def route(which: Which, json: Json = False) -> None:
    """Ask the rules of now about a series that was routed, matched none or failed; its jobs stay as they are."""
    with console.database() as database, database.write() as connection:
        series_id = _find(connection, which)
        asked = routing.route_again(connection, series_id, by=console.operator())
    if json:
        console.show_json({"routed": [series_id] if asked else []})
    else:
        say("the rules will be asked again" if asked else "not routed yet, blocked, or its files were given up")
    if not asked:
        raise typer.Exit(console.FAILED)


@app.command("cancel")
def cancel(
    which: Which,
    destination: Annotated[str | None, typer.Option(help="only deliveries to this destination, and no job")] = None,
    json: Json = False,
) -> None:
    """Cancel what has not ended of a series: jobs and deliveries. What a destination has accepted stays there."""
    by = console.operator()
    with console.database() as database, database.write() as connection:
        detail = reports.series_detail(connection, _find(connection, which))
        ended = (
            [] if destination else [job["id"] for job in detail["jobs"] if reruns.cancel(connection, job["id"], by=by)]
        )
        sent = [
            delivery["destination"]
            for job in detail["jobs"]
            for delivery in job["deliveries"]
            if destination in {None, delivery["destination"]} and deliveries.cancel(connection, delivery["id"], by=by)
        ]
    if json:
        console.show_json({"jobs": ended, "destinations": sent})
    else:
        said = [f"job {job_id[:8]}" for job_id in ended] + [f"the delivery to {name}" for name in sent]
        say(f"cancelled: {', '.join(said)}" if said else "nothing to cancel: all has ended")
    if not ended and not sent:
        raise typer.Exit(console.FAILED)


@app.command("resend")
def resend(
    which: Annotated[
        str, typer.Argument(metavar="SERIES", help="series id, Series Instance UID, or the start of a job id")
    ] = "",
    destination: Annotated[str | None, typer.Option(help="only to this destination")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="also instances that were accepted already")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="without SERIES: whatever failed to --destination")] = False,
    json: Json = False,
) -> None:
    """Send the results of a series again: the same bytes under the same UIDs; superseded ones are left out."""
    if bool(which) == failed or (failed and not destination):
        console.fail("found neither or both; expected SERIES, or --failed with --destination NAME", console.USAGE)
    give_up_s = console.settings().deliver.give_up_s
    if failed and destination:
        _resend_failed(destination, give_up_s, whole=whole, json=json)
        return
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


def _resend_failed(destination: str, give_up_s: float, *, whole: bool, json: bool) -> None:
    with console.database() as database, database.write() as connection:
        again = [
            delivery_id
            for delivery_id in deliveries.failed(connection, destination)
            if deliveries.send_again(connection, delivery_id, whole=whole, give_up_s=give_up_s)
        ]
    if json:
        console.show_json({"destinations": [destination] * len(again)})
    else:
        say(f"deliveries that will be sent again to {destination}: {len(again)}")
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
    for rule in (detail["selection"] or {"rules": []})["rules"]:
        if not detail["jobs"] or rule["outcome"] == Outcome.PIPELINE_DISABLED:
            say(f"rule {rule['name']}: {_why_not(rule)}", indent=2)
    for job in detail["jobs"]:
        _print_job(job)


def _why_not(rule: dict[str, Any]) -> str:
    """Why a rule made no job: the conditions of its outermost level that do not hold."""
    if rule["outcome"] == Outcome.PIPELINE_DISABLED:
        return f"matches, but its pipeline is {rule['reason']}"
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
    for words in filter(None, (job["waits_for"], job["error"])):
        say(words, indent=4)
    for made in job["derived"]:
        say(f"made series {made['series_number']}: {made['instances']} instances ({made['profile']})", indent=4)
    for delivery in job["deliveries"]:
        say(
            f"to {delivery['destination']}: {delivery['state']}, {delivery['accepted']} of "
            f"{delivery['instances']} accepted, attempt {delivery['attempt']}",
            indent=4,
        )
        for words in filter(None, (delivery["waits_for"], delivery["error"], *delivery["notes"])):
            say(words, indent=6)


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

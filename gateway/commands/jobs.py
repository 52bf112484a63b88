"""``athanor jobs``: what became of each series and why; run again, send again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.domain.roles import Role
from gateway.domain.rules import Outcome
from gateway.domain.states import JobState, SeriesState
from gateway.stages.interventions import Done, Interventions
from gateway.store import by_hand, deliveries, reports, timeline
from gateway.store.directory import Directory
from gateway.store.people import Somebody
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
    with _asked(which) as (wishes, series_id):
        done = wishes.retry(series_id)
    _report(done, json, {"queued": list(done.jobs)})


@app.command("route")
def route(which: Which, json: Json = False) -> None:
    """Ask the rules of now about a series that was routed, matched none or failed; its jobs stay as they are."""
    with _asked(which) as (wishes, series_id):
        done = wishes.route(series_id)
    _report(done, json, {"routed": [series_id] if done.is_done else []})


@app.command("run")
def run(
    which: Which,
    pipeline: Annotated[str, typer.Option(help="an installed pipeline; see `athanor pipelines ls`")],
    to: Annotated[list[str], typer.Option(metavar="DESTINATION", help="where the result goes; may be repeated")],
    json: Json = False,
) -> None:
    """Run a pipeline on a series, whatever the rules say. What was synthesised is never a source."""
    with _asked(which) as (wishes, series_id):
        done = wishes.run(series_id, pipeline, to)
    _report(done, json, {"jobs": list(done.jobs)})


@app.command("cancel")
def cancel(
    which: Which,
    destination: Annotated[str, typer.Option(help="only deliveries to this destination, and no job")] = "",
    json: Json = False,
) -> None:
    """Cancel what has not ended of a series: jobs and deliveries. What a destination has accepted stays there."""
    with _asked(which) as (wishes, series_id):
        done = wishes.cancel(series_id, destination=destination)
    _report(done, json, {"jobs": list(done.jobs), "destinations": list(done.destinations)})


@app.command("resend")
def resend(
    which: Annotated[
        str, typer.Argument(metavar="SERIES", help="series id, Series Instance UID, or the start of a job id")
    ] = "",
    destination: Annotated[str, typer.Option(help="only to this destination")] = "",
    whole: Annotated[bool, typer.Option("--whole", help="also instances that were accepted already")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="without SERIES: whatever failed to --destination")] = False,
    json: Json = False,
) -> None:
    """Send the results of a series again: the same bytes under the same UIDs; superseded ones are left out."""
    if bool(which) == failed or (failed and not destination):
        console.fail("found neither or both; expected SERIES, or --failed with --destination NAME", console.USAGE)
    if failed:
        _resend_failed(destination, whole=whole, json=json)
        return
    with _asked(which) as (wishes, series_id):
        done = wishes.resend(series_id, destination=destination, whole=whole)
    _report(done, json, {"destinations": list(done.destinations)})


def _resend_failed(destination: str, *, whole: bool, json: bool) -> None:
    give_up_s, by = console.settings().deliver.give_up_s, console.operator()
    with console.database() as database, database.write() as connection:
        again = [
            delivery_id
            for delivery_id in deliveries.failed(connection, destination)
            if deliveries.send_again(connection, delivery_id, whole=whole, give_up_s=give_up_s, by=by)
        ]
    if json:
        console.show_json({"destinations": [destination] * len(again)})
    else:
        say(f"deliveries that will be sent again to {destination}: {len(again)}")
    if not again:
        raise typer.Exit(console.FAILED)


@contextmanager
def _asked(which: str) -> Iterator[tuple[Interventions, int]]:
    """What whoever gives the command may wish, and the series that it is about."""
    with console.database() as database:
        with database.read() as connection:
            series_id = _find(connection, which)
        in_use = Directory(console.settings(), database).settings
        # whoever may give commands on this machine may do what an administrator may
        who = Somebody(console.operator(), Role.ADMINISTRATOR)
        yield Interventions(database, Spool(in_use.spool_dir, "commands"), in_use, who), series_id


def _report(done: Done, json: bool, document: dict[str, Any]) -> None:
    if json:
        console.show_json(document)
    else:
        say(done.words)
    if not done.is_done:
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
        if not detail["jobs"] or rule["outcome"] in (Outcome.PIPELINE_DISABLED, Outcome.GAVE_UP):
            say(f"rule {rule['name']}: {_why_not(rule)}", indent=2)
    for job in detail["jobs"]:
        _print_job(job)


def _why_not(rule: dict[str, Any]) -> str:
    """Why a rule made no job: the conditions of its outermost level that do not hold."""
    if rule["outcome"] == Outcome.PIPELINE_DISABLED:
        return f"matches, but its pipeline is {rule['reason']}"
    if rule["outcome"] == Outcome.GAVE_UP:
        return f"matches, but waited in vain for {rule['reason']} of the same study"
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


def _by(job: dict[str, Any]) -> str:
    if job["rule"] == by_hand.NAME:
        return f"by hand, asked for by {job['rule_author']}"
    return f"by rule {job['rule']}@{job['rule_version']}"


def _print_job(job: dict[str, Any]) -> None:
    superseded = ", superseded by a later revision" if job["superseded"] else ""
    say(
        f"job {job['id'][:8]} {job['pipeline_id']} {_by(job)}: "
        f"{job['state']} at attempt {job['attempt']} of {job['max_attempts']}{superseded}",
        indent=2,
    )
    if job["inputs"]:
        say("made from " + ", ".join(f"{one['role']} series {one['series_id']}" for one in job["inputs"]), indent=4)
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

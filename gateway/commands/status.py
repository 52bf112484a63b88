"""``athanor status``: how the gateway is, on one screen."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, say, show_table
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.store import heartbeats, reports

_KINDS = {"scp": "SCP", "clock": "clock", "process": "process worker", "transfer": "transfer worker"}
_STALE_AFTER_S = 15.0
_LATELY_S = 86_400.0
_SHOWN = 10


def status(json: Json = False) -> None:
    """Show whether the gateway is well: processes, series, jobs, deliveries, refused instances, disk.

    Each problem comes with what to do. Exit code 4 when there is one.
    """
    settings = console.settings()
    with console.database() as database, database.read() as connection:
        report: dict[str, Any] = {
            "counts": reports.counts(connection),
            "processes": [
                {
                    "process": beat.process,
                    "age_s": round(beat.age_s, 1),
                    "alive": beat.age_s < _STALE_AFTER_S,
                    **beat.detail,
                }
                for beat in heartbeats.all_of(connection)
            ],
            "failed_lately": {
                "series": _lately(reports.series_list(connection, 1000, SeriesState.FAILED), "last_received_at"),
                "jobs": _lately(reports.job_list(connection, 1000, JobState.FAILED), "finished_at"),
            },
            "destinations": reports.waiting_deliveries(connection),
            "quarantine": reports.latest_quarantine(connection, _SHOWN),
        }
    free = shutil.disk_usage(existing(settings.node.state_dir)).free
    report["disk"] = {"free_bytes": free, "reserve_bytes": settings.spool.reserve_bytes}
    report["problems"] = problems = _problems(report)
    if json:
        console.show_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(console.UNHEALTHY)


def existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _lately(rows: list[dict[str, Any]], when: str) -> int:
    return sum(not row.get("superseded") and time.time() - row[when] < _LATELY_S for row in rows)


def _problems(report: dict[str, Any]) -> list[str]:
    """What an administrator has to do something about, in words."""
    found = list(_process_problems(report["processes"]))
    if report["disk"]["free_bytes"] < report["disk"]["reserve_bytes"]:
        found.append("the spool has reached its reserve and refuses instances (0xA700); free some space")
    if number := report["failed_lately"]["series"]:
        found.append(f"series that could not be routed in 24 h: {number}; see `athanor jobs series --state failed`")
    if number := report["failed_lately"]["jobs"]:
        found.append(
            f"jobs that failed in 24 h: {number}; see `athanor jobs ls --state failed` and `athanor jobs retry SERIES`"
        )
    for row in report["destinations"]:
        if row["state"] == DeliveryState.FAILED:
            found.append(
                f"deliveries to {row['destination']} that failed: {row['deliveries']}; {row['error']}; "
                "when that is repaired, `athanor jobs resend SERIES`"
            )
        elif row["error"]:
            found.append(
                f"deliveries to {row['destination']} that are tried again: {row['deliveries']}; {row['error']}; "
                f"see `athanor echo {row['destination']}`"
            )
    return found


def _process_problems(processes: list[dict[str, Any]]) -> list[str]:
    alive = {process["process"].split("-")[0] for process in processes if process["alive"]}
    if not alive:
        return ["the gateway is not running; start it with `athanor up`"]
    missing = [words for kind, words in _KINDS.items() if kind not in alive]
    return [f"no {words} is running; its log says why; start it again" for words in missing] + [
        f"{process['process']} gives no sign of life for {console.duration(process['age_s'])}; its log says why"
        for process in processes
        if not process["alive"] and process["process"].split("-")[0] in alive
    ]


def _print(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        say(problem, mark=CROSS)
    if not report["problems"]:
        say("the gateway is well", mark=TICK)
    if report["processes"]:
        show_table(
            ("process", "alive", "pid", "device"),
            [
                (
                    process["process"],
                    "yes" if process["alive"] else f"no, for {console.duration(process['age_s'])}",
                    str(process.get("pid", "")),
                    str(process.get("device", "")),
                )
                for process in report["processes"]
            ],
        )
    counts = report["counts"]
    for what in ("series", "jobs", "deliveries"):
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts[what].items())) or "none"
        if what == "jobs" and counts["oldest_job_s"] is not None:
            states += f"; the oldest is open for {console.duration(counts['oldest_job_s'])}"
        say(states, mark=console.label(what))
    say(f"{counts['instances']}, {counts['quarantined']} refused or kept beside", mark=console.label("instances"))
    for row in report["quarantine"]:
        at = console.local_time(row["at"])
        say(f"{at} {row['calling_ae_title']} 0x{row['status']:04X} {row['reason']}", indent=11)
    say(f"{report['disk']['free_bytes'] / 1e9:.1f} GB free", mark=console.label("disk"))


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(status)

"""Is the gateway well, and if not, what to do: one report for the command line and the dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from gateway.domain.durations import duration
from gateway.domain.states import DeliveryState
from gateway.settings import Settings
from gateway.store import alerts, commitments, destinations, heartbeats, refusals, reports, switches

STALE_AFTER_S = 15.0

_KINDS = {"scp": "SCP", "clock": "clock", "process": "process worker", "transfer": "transfer worker"}
FULL_SOON_DAYS = 7
_SHOWN = 10
_REFUSALS_SHOWN = 5

Report = dict[str, Any]


def health(connection: Connection, settings: Settings) -> Report:
    """Processes, counts, what failed lately, destinations, refused instances, disk; `problems` says what to do."""
    report: Report = {
        "counts": reports.counts(connection),
        "processes": [
            {
                "process": beat.process,
                "age_s": round(beat.age_s, 1),
                "alive": beat.age_s < STALE_AFTER_S,
                **beat.detail,
            }
            for beat in heartbeats.all_of(connection)
        ],
        "failed_lately": reports.failed_lately(connection),
        "destinations": reports.waiting_deliveries(connection),
        "held": [row for row in destinations.standing(connection, {}) if row["state"] == "held" and row["queued"]],
        "disabled_pipelines": [
            {"pipeline_id": switch.pipeline_id, "words": switch.words, "jobs": number}
            for switch, number in switches.waiting(connection)
        ],
        "commitments": commitments.overview(connection),
        "quarantine": reports.latest_quarantine(connection, _SHOWN),
        "refusals": refusals.latest(connection, _REFUSALS_SHOWN, settings.node.ae_title),
    }
    free = shutil.disk_usage(existing(settings.node.state_dir)).free
    report["disk"] = {
        "free_bytes": free,
        "reserve_bytes": settings.reserve_bytes,
        "full_in_days": next((p["spool_full_in_days"] for p in report["processes"] if p.get("leads")), None),
    }
    report["alerts"] = alerts.number_open(connection)
    report["problems"] = list(_problems(report, settings))
    return report


def parts_of(settings: Settings) -> Mapping[str, str]:
    """The kinds of processes that a gateway consists of, each with its words."""
    return _KINDS | ({"web": "web process"} if settings.web.enabled else {})


def existing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _problems(report: Report, settings: Settings) -> Iterator[str]:
    """What an administrator has to do something about, in words."""
    yield from _process_problems(report["processes"], parts_of(settings))
    if report["disk"]["free_bytes"] < report["disk"]["reserve_bytes"]:
        yield "the spool has reached its reserve and refuses instances (0xA700); free some space"
    elif (days := report["disk"]["full_in_days"]) is not None and days < FULL_SOON_DAYS:
        yield (
            f"at the rate of the last week the spool is full in {days:.0f} days; add room, or lower "
            "retention.files_days"
        )
    if number := report["failed_lately"]["series"]:
        yield f"series that could not be routed in 24 h: {number}; see `athanor jobs series --state failed`"
    if number := report["failed_lately"]["jobs"]:
        yield f"jobs that failed in 24 h: {number}; see `athanor jobs ls --state failed`, `athanor jobs retry SERIES`"
    for row in report["destinations"]:
        if row["state"] == DeliveryState.FAILED:
            yield (
                f"deliveries to {row['destination']} that failed: {row['deliveries']}; {row['error']}; "
                "when that is repaired, `athanor jobs resend SERIES`"
            )
        elif row["error"]:
            yield (
                f"deliveries to {row['destination']} that are tried again: {row['deliveries']}; {row['error']}; "
                f"see `athanor echo {row['destination']}`"
            )
    for row in report["held"]:
        yield (
            f"deliveries to {row['name']} that are held back: {row['queued']}; {row['waits_for']}; "
            f"`athanor destinations release {row['name']}`"
        )
    for row in report["disabled_pipelines"]:
        yield (
            f"jobs that wait for a disabled pipeline: {row['jobs']}; {row['pipeline_id']} is {row['words']}; "
            f"`athanor pipelines enable {row['pipeline_id']}`"
        )
    for row in report["commitments"]["unanswered"]:
        yield (
            f"requests for storage commitment of {row['calling_ae_title']} that could not be answered: "
            f"{row['requests']}; {row['error']}"
        )


def _process_problems(processes: list[dict[str, Any]], kinds: Mapping[str, str]) -> list[str]:
    alive = {process["process"].split("-")[0] for process in processes if process["alive"]}
    if not alive:
        return ["the gateway is not running; start it with `athanor up`"]
    missing = [words for kind, words in kinds.items() if kind not in alive]
    return [f"no {words} is running; its log says why; start it again" for words in missing] + [
        f"{process['process']} gives no sign of life for {duration(process['age_s'])}; its log says why"
        for process in processes
        if not process["alive"] and process["process"].split("-")[0] in alive
    ]

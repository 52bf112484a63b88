"""What is wrong now, one cause for however many series it concerns. Reads only, by indexes, of what is kept anyway.

An error that a peer worded is left out: its words may quote a patient.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.alerts import Cause, Severity
from gateway.domain.refusal import Reason, Refusal
from gateway.domain.states import JobState, SeriesState
from gateway.settings import Settings
from gateway.store import commitments, destinations, heartbeats
from gateway.store.database import now
from gateway.store.health import FULL_SOON_DAYS, STALE_AFTER_S, existing, parts_of
from gateway.store.tables import job, pipeline_switch, quarantine, refusal, series

LATELY_S = 86_400.0
"""What failed longer ago is no cause any more."""

_STARTING_S = 60.0  # a worker that has to load a model is not missing yet
_SENDERS_NAMED = 10  # whoever guesses AE titles must not fill the list
_COUNTED = 1000
_REFUSED_IN_A_ROW = 5

# our own state, of which there is an alert; and what health probes and port scanners bring about
_NOT_THE_SENDER = [
    reason.value
    for reason in (
        Reason.NO_ROOM, Reason.DISK, Reason.NOT_READY, Reason.NO_REQUEST, Reason.TOO_SLOW, Reason.TOO_MANY_WAIT,
    )
]  # fmt: skip
_ENDED = (JobState.SUCCEEDED, JobState.REFUSED, JobState.FAILED)


def causes(
    connection: Connection, settings: Settings, quiet: Mapping[str, float | None], full_in_days: float | None
) -> Iterator[Cause]:
    """Everything that is wrong now.

    `quiet` says until when the quiet hours of each destination last, `full_in_days` when the spool will be full.
    """
    yield from _parts(connection, settings)
    yield from _disk(settings, full_in_days)
    yield from _destinations(connection, settings, quiet)
    yield from _pipelines(connection)
    yield from _waiting_jobs(connection, settings)
    yield from _series(connection)
    yield from _refused_instances(connection)
    yield from _refused_senders(connection, settings)
    yield from _commitments(connection)


def _parts(connection: Connection, settings: Settings) -> Iterator[Cause]:
    beats = heartbeats.all_of(connection)
    alive = {beat.process.split("-")[0] for beat in beats if beat.age_s < STALE_AFTER_S}
    for kind, words in parts_of(settings).items():
        if kind not in alive:
            yield Cause(
                f"part:{kind}", Severity.CRITICAL, f"No {words} is running", "Its log says why; start it again.",
                "/", grace_s=_STARTING_S,
            )  # fmt: skip
    for beat in beats:
        if beat.age_s >= STALE_AFTER_S and beat.process.split("-")[0] in alive:
            yield Cause(
                f"process:{beat.process}", Severity.WARNING, f"{beat.process} gives no sign of life",
                "Its log says why; start it again. What it held is taken back by itself.", "/",
            )  # fmt: skip


def _disk(settings: Settings, full_in_days: float | None) -> Iterator[Cause]:
    if shutil.disk_usage(existing(settings.node.state_dir)).free < settings.reserve_bytes:
        yield Cause(
            "disk:reserve", Severity.CRITICAL, "The spool has reached its reserve and refuses instances",
            "Free some space; senders keep their instances until then.", "/",
        )  # fmt: skip
    elif full_in_days is not None and full_in_days < FULL_SOON_DAYS:
        yield Cause(
            "disk:forecast", Severity.WARNING, f"The spool is full in less than {FULL_SOON_DAYS} days",
            "Add room, or lower retention.files_days.", "/",
        )  # fmt: skip


def _destinations(connection: Connection, settings: Settings, quiet: Mapping[str, float | None]) -> Iterator[Cause]:
    at = float(connection.execute(sa.select(now())).scalar_one())
    for row in destinations.standing(connection, quiet):
        name, waiting = row["name"], int(row["queued"]) + int(row["sending"])

        def cause(what: str, title: str, advice: str, times: int, name: str = name) -> Cause:
            key = f"destination:{name}:{what}"
            return Cause(key, Severity.WARNING, title, advice, "/destinations", max(1, times))

        if row["failed"]:
            yield cause(
                "failed", f"Deliveries to {name} failed",
                "Their timeline says why; when that is repaired, send them again on the page of destinations.",
                int(row["failed"]),
            )  # fmt: skip
        if row["state"] == "down":
            yield cause(
                "down", f"Destination {name} takes nothing",
                f"`athanor echo {name}` says which step fails. Nothing is lost for deliver.give_up_s.", waiting,
            )  # fmt: skip
        elif row["state"] == "held" and waiting:
            yield cause("held", f"Deliveries to {name} are held back", "Release it when that is over.", waiting)
        elif row["state"] == "open" and row["oldest_at"] and at - row["oldest_at"] > settings.alerts.waiting_s:
            yield cause(
                "waiting", f"Deliveries to {name} wait for long", "See the transfer worker, and what it says.", waiting
            )


def _pipelines(connection: Connection) -> Iterator[Cause]:
    ended = sa.select(job.c.pipeline_id, job.c.state, sa.func.count().label("jobs")).where(
        job.c.state.in_((JobState.FAILED, JobState.REFUSED)),
        job.c.superseded.is_(False),
        job.c.finished_at > now() - LATELY_S,
    )
    for row in connection.execute(ended.group_by(job.c.pipeline_id, job.c.state).order_by(job.c.pipeline_id)).all():
        if row.state == JobState.FAILED:
            yield Cause(
                f"pipeline:{row.pipeline_id}:failed", Severity.WARNING, f"Jobs of {row.pipeline_id} failed",
                "Each says why; when that is repaired, run them again.",
                f"/queue?what=jobs&state=FAILED&pipeline={quote(row.pipeline_id)}", row.jobs,
            )  # fmt: skip
        elif row.jobs >= _REFUSED_IN_A_ROW and _refuses_everything(connection, row.pipeline_id):
            yield Cause(
                f"pipeline:{row.pipeline_id}:refuses", Severity.WARNING,
                f"{row.pipeline_id} refuses one series after the other",
                "Each job says which points do not fit; correct the rule that sends them there.",
                f"/pipelines/{quote(row.pipeline_id)}", row.jobs,
            )  # fmt: skip


def _refuses_everything(connection: Connection, pipeline_id: str) -> bool:
    latest = connection.execute(
        sa.select(job.c.state)
        .where(job.c.pipeline_id == pipeline_id, job.c.state.in_(_ENDED))
        .order_by(job.c.created_at.desc())
        .limit(_REFUSED_IN_A_ROW)
    ).scalars()
    return all(state == JobState.REFUSED for state in latest)


def _waiting_jobs(connection: Connection, settings: Settings) -> Iterator[Cause]:
    rows = connection.execute(
        sa.select(
            pipeline_switch.c.pipeline_id.label("disabled"), sa.func.count().label("jobs"),
            (now() - sa.func.min(job.c.created_at)).label("oldest_s"),
        )
        .select_from(job.outerjoin(pipeline_switch, pipeline_switch.c.pipeline_id == job.c.pipeline_id))
        .where(job.c.state == JobState.QUEUED)
        .group_by(pipeline_switch.c.pipeline_id)
    )  # fmt: skip
    for row in rows:
        if row.oldest_s <= settings.alerts.waiting_s:
            continue
        if row.disabled is None:
            yield Cause(
                "jobs:waiting", Severity.WARNING, "Jobs wait for long",
                "Add a process worker, or see what the one there is busy with.", "/queue?what=jobs", row.jobs,
            )  # fmt: skip
        else:
            yield Cause(
                f"pipeline:{row.disabled}:waiting", Severity.WARNING,
                f"Jobs wait for {row.disabled}, which is disabled",
                "Enable it, or cancel them.", f"/pipelines/{quote(row.disabled)}", row.jobs,
            )  # fmt: skip


def _series(connection: Connection) -> Iterator[Cause]:
    failed = connection.execute(
        sa.select(sa.func.count()).where(
            series.c.state == SeriesState.FAILED, series.c.last_received_at > now() - LATELY_S
        )
    ).scalar_one()
    if failed:
        yield Cause(
            "series:failed", Severity.WARNING, "Series could not be routed",
            "The series says what was found; correct it and route it again.", "/studies?state=FAILED", failed,
        )  # fmt: skip


def _refused_instances(connection: Connection) -> Iterator[Cause]:
    latest = (
        sa.select(quarantine.c.calling_ae_title, quarantine.c.status)
        .where(quarantine.c.at > now() - LATELY_S, quarantine.c.status != 0)
        .order_by(quarantine.c.at.desc())
        .limit(_COUNTED)
        .subquery()
    )
    counted = sa.select(latest.c.calling_ae_title, sa.func.count().label("instances")).group_by(
        latest.c.calling_ae_title
    )
    for row in connection.execute(counted.order_by(latest.c.calling_ae_title).limit(_SENDERS_NAMED)):
        yield Cause(
            f"sender:{row.calling_ae_title}:instances", Severity.WARNING,
            f"Instances of {row.calling_ae_title} are refused", "The dashboard says with which status, and why.",
            "/", row.instances,
        )  # fmt: skip


def _refused_senders(connection: Connection, settings: Settings) -> Iterator[Cause]:
    """Who was refused lately and has stored nothing since; the first ones by name, and all others together."""
    rows = connection.execute(
        sa.select(refusal)
        .where(refusal.c.last_at > now() - LATELY_S, refusal.c.reason.not_in(_NOT_THE_SENDER))
        .order_by(refusal.c.first_at, refusal.c.id)
    ).all()
    if not rows:
        return
    stored_at = _stored_since(connection, min(row.last_at for row in rows))
    refused: dict[tuple[str, str], list[sa.Row[Any]]] = {}
    for row in rows:
        who = row.calling_ae_title or row.address
        if stored_at.get(who, 0.0) <= row.last_at:
            refused.setdefault((who, row.reason), []).append(row)
    named = dict(islice(refused.items(), _SENDERS_NAMED))
    for (who, words), attempts in named.items():
        first, reason = attempts[0], Reason(words)
        refused_once = Refusal(first.address, first.calling_ae_title, first.called_ae_title, reason)
        remedy = refused_once.remedy(settings.node.ae_title)
        yield Cause(
            f"sender:{who}:{reason.name.lower()}", Severity.WARNING, f"Series of {who} are refused: {words}",
            f"To let it in: {remedy}.", "/senders", sum(one._mapping["count"] for one in attempts),
        )  # fmt: skip
    if len(refused) > len(named):
        yield Cause(
            "sender:others", Severity.WARNING, "Many more senders are refused",
            "Somebody guesses AE titles, or a whole department is not let in.", "/senders", len(refused) - len(named),
        )  # fmt: skip


def _stored_since(connection: Connection, at: float) -> dict[str, float]:
    """When each AE title, and each address, last stored something, of those that did since `at`."""
    rows = connection.execute(
        sa.select(series.c.calling_ae_title, series.c.address, sa.func.max(series.c.last_received_at).label("at"))
        .where(series.c.last_received_at > at)
        .group_by(series.c.calling_ae_title, series.c.address)
    ).all()
    found: dict[str, float] = {}
    for row in rows:
        for who in (row.calling_ae_title, row.address):
            found[who] = max(found.get(who, 0.0), row.at)
    return found


def _commitments(connection: Connection) -> Iterator[Cause]:
    for row in commitments.overview(connection)["unanswered"]:
        title = row["calling_ae_title"]
        yield Cause(
            f"commitment:{title}", Severity.WARNING, f"{title} cannot be told of storage commitment",
            "[peers.NAME] says where it listens, and it must let us be the SCP.",
            f"/studies?calling_ae_title={quote(title)}", row["requests"],
        )  # fmt: skip

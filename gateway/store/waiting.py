"""What runs and waits now, in the order in which it is taken, and what failed: jobs and deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DeliveryState, JobState
from gateway.store import destinations, paging, switches
from gateway.store.database import now
from gateway.store.paging import Cut, Page
from gateway.store.tables import delivery, delivery_instance, job, rule_version, series

Row = dict[str, Any]

RUNNING_JOBS = (JobState.RUNNING,)
RUNNING_DELIVERIES = (DeliveryState.SENDING, DeliveryState.COMMITTING)
JOB_STATES = (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.REFUSED)
DELIVERY_STATES = (DeliveryState.QUEUED, *RUNNING_DELIVERIES, DeliveryState.FAILED)

_SERIES = (
    series.c.id.label("series_id"), series.c.study_uid, series.c.modality, series.c.series_number,
    series.c.series_description,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueQuery:
    """Which jobs and deliveries; empty fields ask for nothing."""

    pipeline: str = ""
    destination: str = ""


def jobs(connection: Connection, state: str, query: QueueQuery, cut: Cut, limit: int) -> Page:
    """Jobs of one state, not superseded: those that wait in the order in which they are taken, all else latest first.

    A job has no destination before it has a result: a query for one finds none.
    """
    wanted = (
        sa.select(
            job.c.id, *_SERIES, job.c.pipeline_id, job.c.state, job.c.priority, job.c.attempt, job.c.max_attempts,
            job.c.progress, job.c.error, job.c.lease_owner.label("worker"), job.c.created_at, job.c.started_at,
            job.c.superseded, series.c.purged_at, job.c.destinations,
            sa.case((job.c.not_before > now(), job.c.not_before)).label("not_before"),
            rule_version.c.name.label("rule"), rule_version.c.version.label("rule_version"),
            rule_version.c.author.label("rule_author"),
        )
        .join(series, series.c.id == job.c.series_id)
        .join(rule_version, rule_version.c.id == job.c.rule_version_id)
        .where(job.c.state == state, job.c.superseded.is_(False))
    )  # fmt: skip
    if query.pipeline:
        wanted = wanted.where(job.c.pipeline_id == query.pipeline)
    if state == JobState.QUEUED:
        key: paging.Key = (job.c.priority, job.c.created_at, job.c.id)
        found = paging.page(connection, wanted, key, cut, limit, falling=False)
    else:
        found = paging.page(connection, wanted, (job.c.created_at, job.c.id), cut, limit)
    disabled = switches.disabled(connection)
    for row in found.rows:
        switch = disabled.get(row["pipeline_id"]) if row["state"] == JobState.QUEUED else None
        row["waits_for"] = f"{switch.pipeline_id} is {switch.words}" if switch else None
    return found


def deliveries(connection: Connection, state: str, query: QueueQuery, cut: Cut, limit: int) -> Page:
    """Deliveries of one state, of results that are not superseded: what failed latest first, all else oldest first."""
    wanted = (
        sa.select(
            delivery.c.id, delivery.c.job_id, *_SERIES, job.c.pipeline_id, delivery.c.destination, delivery.c.state,
            job.c.priority, delivery.c.attempt, delivery.c.error, delivery.c.lease_owner.label("worker"),
            delivery.c.created_at, delivery.c.give_up_at, job.c.superseded, series.c.purged_at,
            sa.case((delivery.c.not_before > now(), delivery.c.not_before)).label("not_before"),
        )
        .join(job, job.c.id == delivery.c.job_id)
        .join(series, series.c.id == job.c.series_id)
        .where(delivery.c.state == state, job.c.superseded.is_(False))
    )  # fmt: skip
    if query.destination:
        wanted = wanted.where(delivery.c.destination == query.destination)
    if query.pipeline:
        wanted = wanted.where(job.c.pipeline_id == query.pipeline)
    key = (delivery.c.created_at, delivery.c.id)
    found = paging.page(connection, wanted, key, cut, limit, falling=state == DeliveryState.FAILED)
    accepted = _accepted(connection, [row["id"] for row in found.rows])
    waits_for = destinations.waiting_for(connection)
    for row in found.rows:
        row["accepted"], row["instances"] = accepted.get(row["id"], (0, 0))
        row["waits_for"] = waits_for.get(row["destination"]) if row["state"] == DeliveryState.QUEUED else None
    return found


def _accepted(connection: Connection, delivery_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of each delivery how many instances were accepted, and how many there are."""
    rows = connection.execute(
        sa.select(
            delivery_instance.c.delivery_id, sa.func.count(delivery_instance.c.accepted_at).label("accepted"),
            sa.func.count().label("instances"),
        )
        .where(delivery_instance.c.delivery_id.in_(delivery_ids))
        .group_by(delivery_instance.c.delivery_id)
    )  # fmt: skip
    return {row.delivery_id: (row.accepted, row.instances) for row in rows}

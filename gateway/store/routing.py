"""Routing: a complete series goes to the rules, and comes back with jobs or with the reason why it has none."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import JobState, SeriesState, series_sources
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.jobs import paths_of
from gateway.store.tables import derived, job, series


@dataclass(frozen=True, slots=True)
class SeriesToRoute:
    """A complete series and who sent it."""

    id: int
    uid: str
    study_uid: str
    revision: int
    calling_ae_title: str
    called_ae_title: str
    address: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a matching rule asks for."""

    rule_version_id: int
    pipeline_id: str
    options: Mapping[str, Any]
    destinations: tuple[str, ...]
    priority: int


def series_to_route(connection: Connection, series_id: int, revision: int) -> SeriesToRoute | None:
    """The series, if it is COMPLETE in that revision; its files in the order of InstanceNumber."""
    row = connection.execute(
        sa.select(series).where(
            series.c.id == series_id, series.c.revision == revision, series.c.state == SeriesState.COMPLETE
        )
    ).one_or_none()
    if row is None:
        return None
    return SeriesToRoute(
        row.id, row.uid, row.study_uid, row.revision, row.calling_ae_title, row.called_ae_title, row.address,
        paths_of(connection, series_id),
    )  # fmt: skip


def is_derived(connection: Connection, uid: str) -> bool:
    """Whether a SOP Instance or Series Instance UID is one of our own results: the ledger of the loop guard."""
    return connection.execute(
        sa.select(sa.exists().where(sa.or_(derived.c.sop_instance_uid == uid, derived.c.series_instance_uid == uid)))
    ).scalar_one()


def end_routing(
    connection: Connection,
    to_route: SeriesToRoute,
    state: SeriesState,
    *,
    reason: str | None,
    selection: Any,
    attributes: Any,
    jobs: Sequence[NewJob],
    max_attempts: int,
) -> bool:
    """Write what routing decided, with its jobs, in one transaction. False when the series changed meanwhile."""
    moved = connection.execute(
        sa.update(series)
        .where(
            series.c.id == to_route.id,
            series.c.revision == to_route.revision,
            series.c.state.in_(series_sources(state)),
        )
        .values(state=state, reason=reason, selection=selection, attributes=attributes)
    )
    outbox.claimed(connection, outbox.ROUTE, f"{to_route.id}:{to_route.revision}")
    if moved.rowcount == 0:
        return False
    timeline.record(connection, to_route.id, "route", state.lower(), reason=reason)
    for new in jobs:
        insert_job(connection, to_route.id, to_route.revision, new, max_attempts)
    return True


def insert_job(
    connection: Connection, series_id: int, revision: int, new: NewJob, max_attempts: int, **detail: Any
) -> str | None:
    """Queue a job; its id, None when there is one of that rule version. `detail` goes to the timeline."""
    job_id = str(uuid.uuid4())
    inserted = connection.execute(
        outbox.insert_for(connection, job)
        .values(
            id=job_id,
            series_id=series_id,
            revision=revision,
            rule_version_id=new.rule_version_id,
            pipeline_id=new.pipeline_id,
            options=dict(new.options),
            destinations=list(new.destinations),
            priority=new.priority,
            state=JobState.QUEUED,
            attempt=0,
            max_attempts=max_attempts,
            not_before=now(),
            progress=0.0,
            superseded=False,
            created_at=now(),
        )
        .on_conflict_do_nothing()
        .returning(job.c.id)
    ).scalar_one_or_none()
    if inserted is None:
        return None
    timeline.record(connection, series_id, "route", "job made", job_id=job_id, pipeline=new.pipeline_id, **detail)
    outbox.add(connection, outbox.PROCESS, job_id, priority=new.priority)
    return job_id


def route_again(connection: Connection, series_id: int, *, by: str) -> bool:
    """An administrator's wish: a series that was routed goes to the rules of now. False when it cannot.

    What it has jobs for stays: a job is made for each rule version that it has none of yet.
    """
    row = connection.execute(
        sa.update(series)
        .where(
            series.c.id == series_id,
            series.c.state.in_(series_sources(SeriesState.COMPLETE) - {SeriesState.RECEIVING}),
            series.c.purged_at.is_(None),
        )
        .values(state=SeriesState.COMPLETE, reason=None)
        .returning(series.c.revision)
    ).one_or_none()
    if row is None:
        return False
    timeline.record(connection, series_id, "route", "asked for again", by=by)
    outbox.add(connection, outbox.ROUTE, f"{series_id}:{row.revision}")
    return True

"""Making a job: one row for each rule version and set of series and revisions, and its place in the outbox."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import JobState
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import job, job_input


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a matching rule asks for."""

    rule_version_id: int
    pipeline_id: str
    options: Mapping[str, Any]
    destinations: tuple[str, ...]
    priority: int


@dataclass(frozen=True, slots=True)
class JobInput:
    """One series of a job with several, and the role that it plays."""

    role: str
    series_id: int
    revision: int


def insert_job(
    connection: Connection, series_id: int, revision: int, new: NewJob, max_attempts: int, **detail: Any
) -> str | None:
    """Queue a job for one series; its id, None when there is one of that rule version. `detail` is for the timeline."""
    job_id = _insert(connection, series_id, revision, "", new, max_attempts)
    if job_id is not None:
        timeline.record(connection, series_id, "route", "job made", job_id=job_id, pipeline=new.pipeline_id, **detail)
    return job_id


def insert_job_of_several(
    connection: Connection, inputs: Sequence[JobInput], new: NewJob, max_attempts: int
) -> tuple[str, bool]:
    """Queue a job for several series, the first of which gives the grid; its id, and whether it is a new one."""
    grid, *others = inputs
    partners = " ".join(sorted(f"{one.series_id}:{one.revision}" for one in others))
    job_id = _insert(connection, grid.series_id, grid.revision, partners, new, max_attempts)
    if job_id is None:
        there = sa.select(job.c.id).where(
            job.c.series_id == grid.series_id,
            job.c.revision == grid.revision,
            job.c.rule_version_id == new.rule_version_id,
            job.c.partners == partners,
        )
        return str(connection.execute(there).scalar_one()), False
    connection.execute(
        sa.insert(job_input),
        [{"job_id": job_id, "role": one.role, "series_id": one.series_id, "revision": one.revision} for one in inputs],
    )
    made_from = ", ".join(f"{one.role} series {one.series_id}" for one in inputs)
    for one in inputs:
        timeline.record(
            connection, one.series_id, "route", "job made", job_id=job_id, pipeline=new.pipeline_id, made_from=made_from
        )
    return job_id, True


def _insert(
    connection: Connection, series_id: int, revision: int, partners: str, new: NewJob, max_attempts: int
) -> str | None:
    job_id = connection.execute(
        outbox.insert_for(connection, job)
        .values(
            id=str(uuid.uuid4()),
            series_id=series_id,
            revision=revision,
            partners=partners,
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
    if job_id is not None:
        outbox.add(connection, outbox.PROCESS, job_id, priority=new.priority)
    return None if job_id is None else str(job_id)


def inputs_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[JobInput]]:
    """The series of each job that has several; a job with one is not in it."""
    rows = connection.execute(
        sa.select(job_input).where(job_input.c.job_id.in_(job_ids)).order_by(job_input.c.job_id, job_input.c.role)
    )
    found: dict[str, list[JobInput]] = {}
    for row in rows:
        found.setdefault(row.job_id, []).append(JobInput(row.role, row.series_id, row.revision))
    return found


def uses(series_ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Of a row of `job`: whether it starts from one of the series, alone or with others."""
    # a union, not an "or": PostgreSQL would read the whole table for that
    alone = sa.select(job.c.id).where(job.c.series_id.in_(series_ids))
    beside = sa.select(job_input.c.job_id).where(job_input.c.series_id.in_(series_ids))
    return job.c.id.in_(alone.correlate(None).union(beside.correlate(None)))

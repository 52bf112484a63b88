"""Pipelines that somebody disabled: the rules make no job for them, and the jobs that there are wait.

A worker that is told of a job of a disabled pipeline drops the announcement, under a lock of the switch; enabling takes
the switch away and announces every waiting job anew. So no job is forgotten, whichever of the two comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import JobState
from gateway.store import outbox
from gateway.store.database import now
from gateway.store.tables import job, pipeline_switch


@dataclass(frozen=True, slots=True)
class Switch:
    """Who disabled a pipeline, when (epoch seconds) and why; `version` was installed then."""

    pipeline_id: str
    version: str
    disabled_by: str
    disabled_at: float
    reason: str

    @property
    def words(self) -> str:
        """Who, when and why, for people."""
        at = datetime.fromtimestamp(self.disabled_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"disabled by {self.disabled_by} at {at}: {self.reason}"


def disabled(connection: Connection) -> dict[str, Switch]:
    """The switch of each disabled pipeline, by its id."""
    rows = connection.execute(sa.select(pipeline_switch).order_by(pipeline_switch.c.pipeline_id))
    return {row.pipeline_id: Switch(**row._mapping) for row in rows}


def disable(connection: Connection, pipeline_id: str, version: str, *, by: str, reason: str) -> bool:
    """Make no new job with a pipeline, and begin none that waits; what runs is finished. False when it is disabled."""
    made = connection.execute(
        outbox.insert_for(connection, pipeline_switch)
        .values(pipeline_id=pipeline_id, version=version, disabled_by=by[:64], disabled_at=now(), reason=reason)
        .on_conflict_do_nothing()
        .returning(pipeline_switch.c.pipeline_id)
    )
    return made.scalar_one_or_none() is not None


def enable(connection: Connection, pipeline_id: str) -> bool:
    """Let the jobs that waited run, and the rules make new ones. False when it was not disabled."""
    gone = connection.execute(sa.delete(pipeline_switch).where(pipeline_switch.c.pipeline_id == pipeline_id))
    if gone.rowcount == 0:
        return False
    waiting = connection.execute(
        sa.select(job.c.id, job.c.priority).where(job.c.pipeline_id == pipeline_id, job.c.state == JobState.QUEUED)
    )
    for row in waiting.all():
        outbox.add(connection, outbox.PROCESS, row.id, priority=row.priority)
    return True


def waiting(connection: Connection) -> list[tuple[Switch, int]]:
    """Each disabled pipeline that jobs wait for, and how many."""
    off = disabled(connection)
    if not off:
        return []
    rows = connection.execute(
        sa.select(job.c.pipeline_id, sa.func.count().label("jobs"))
        .where(job.c.state == JobState.QUEUED, job.c.pipeline_id.in_(off))
        .group_by(job.c.pipeline_id)
        .order_by(job.c.pipeline_id)
    )
    return [(off[row.pipeline_id], row.jobs) for row in rows]


def holds_back(connection: Connection, job_id: str) -> bool:
    """Whether the pipeline of a job is disabled; if so it stays disabled until this transaction has ended."""
    switch = (
        sa.select(pipeline_switch.c.pipeline_id)
        .join(job, job.c.pipeline_id == pipeline_switch.c.pipeline_id)
        .where(job.c.id == job_id)
        .with_for_update(read=True, of=pipeline_switch)
    )
    return connection.execute(switch).first() is not None


def is_enabled() -> sa.ColumnElement[bool]:
    """The condition that the pipeline of a job is not disabled."""
    return job.c.pipeline_id.not_in(sa.select(pipeline_switch.c.pipeline_id))

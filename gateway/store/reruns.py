"""Jobs at an administrator's wish: run again, made again when their files were lost, cancelled."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DeliveryState, JobState, job_sources
from gateway.store import outbox, retention, timeline
from gateway.store.database import now
from gateway.store.tables import delivery, delivery_instance, derived, job


def run_again(connection: Connection, job_id: str, *, by: str = "") -> bool:
    """Somebody's wish: a job that ended without a result goes back to the queue for one attempt more.

    Attempts are never counted anew: a worker that slept since the first must not take another for its own.
    """
    without_result = job_sources(JobState.QUEUED) - {JobState.RUNNING, JobState.SUCCEEDED}
    return _back_to_queue(connection, job_id, without_result, "asked for again", by)


def _back_to_queue(connection: Connection, job_id: str, sources: Collection[JobState], what: str, by: str) -> bool:
    if not retention.keep_files(connection, job_id):
        return False
    row = connection.execute(
        sa.update(job)
        .where(
            job.c.id == job_id,
            job.c.state.in_(sources),
            job.c.superseded.is_(False),
        )
        .values(
            state=JobState.QUEUED,
            max_attempts=job.c.max_attempts + 1,
            error=None,
            not_before=now(),
            finished_at=None,
        )
        .returning(job.c.series_id, job.c.priority)
    ).one_or_none()
    if row is None:
        return False
    timeline.record(connection, row.series_id, "process", what, job_id=job_id, by=by or None)
    outbox.add(connection, outbox.PROCESS, job_id, priority=row.priority)
    return True


def files_of(connection: Connection, job_id: str) -> list[tuple[str, str]]:
    """Path and SHA-256 of each derived instance of a job."""
    rows = connection.execute(sa.select(derived.c.path, derived.c.sha256).where(derived.c.job_id == job_id))
    return [(row.path, row.sha256) for row in rows]


def make_again(connection: Connection, job_id: str, *, by: str = "") -> bool:
    """Somebody's wish: a job that SUCCEEDED and whose files are lost makes them again.

    False when a destination has one of them, is being sent one, or waits for one by another job that makes the same:
    other bytes must not come under the same UIDs.
    """
    of_job = sa.select(delivery.c.id).where(delivery.c.job_id == job_id)
    begun = sa.exists().where(
        delivery.c.job_id == job_id, delivery.c.state.in_([DeliveryState.SENDING, DeliveryState.COMMITTING])
    )
    accepted = sa.exists().where(
        delivery_instance.c.derived_id == derived.c.id,
        derived.c.job_id == job_id,
        delivery_instance.c.accepted_at.is_not(None),
    )
    lent = sa.exists().where(
        delivery_instance.c.derived_id == derived.c.id,
        derived.c.job_id == job_id,
        delivery_instance.c.delivery_id.not_in(of_job),
    )
    if connection.execute(sa.select(sa.or_(begun, accepted, lent))).scalar_one():
        return False
    if not _back_to_queue(connection, job_id, {JobState.SUCCEEDED}, "files lost, made again", by):
        return False
    connection.execute(sa.delete(delivery_instance).where(delivery_instance.c.delivery_id.in_(of_job)))
    connection.execute(sa.delete(delivery).where(delivery.c.job_id == job_id))
    connection.execute(sa.delete(derived).where(derived.c.job_id == job_id))
    return True


def cancel(connection: Connection, job_id: str, *, by: str) -> bool:
    """An administrator's wish: a job that has not ended does. Who works on it learns so at its next step."""
    row = connection.execute(
        sa.update(job)
        .where(job.c.id == job_id, job.c.state.in_(job_sources(JobState.CANCELLED)))
        .values(
            state=JobState.CANCELLED, error=f"cancelled by {by}", lease_owner=None, lease_until=None, finished_at=now()
        )
        .returning(job.c.series_id)
    ).one_or_none()
    if row is None:
        return False
    outbox.claimed(connection, outbox.PROCESS, job_id)
    timeline.record(connection, row.series_id, "process", "cancelled", job_id=job_id, by=by)
    return True

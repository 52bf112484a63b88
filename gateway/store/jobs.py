"""Jobs: one pipeline run on one revision of a series. Claimed with a lease, fenced by the attempt number."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from gateway.domain.states import DeliveryState, JobState, SeriesState, job_sources, series_sources
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import (
    delivery,
    delivery_instance,
    derived,
    instance,
    job,
    rule_version,
    series,
)


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


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job until the lease ends. Every later write carries `attempt`."""

    job_id: str
    attempt: int
    lease_s: float
    series_id: int
    study_uid: str
    series_uid: str
    revision: int
    pipeline_id: str
    options: Mapping[str, Any]
    destinations: tuple[str, ...]
    priority: int
    rule: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """One derived instance that is durable in the spool."""

    profile: str
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    series_number: int
    transfer_syntax_uid: str
    instance_number: int
    source_sop_instance_uid: str
    path: str
    size_bytes: int
    sha256: str


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
        _paths(connection, series_id),
    )  # fmt: skip


def _paths(connection: Connection, series_id: int) -> tuple[str, ...]:
    return tuple(
        connection.execute(
            sa.select(instance.c.path)
            .where(instance.c.series_id == series_id)
            .order_by(instance.c.instance_number, instance.c.id)
        ).scalars()
    )


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
        _insert_job(connection, to_route, new, max_attempts)
    return True


def _insert_job(connection: Connection, to_route: SeriesToRoute, new: NewJob, max_attempts: int) -> None:
    job_id = str(uuid.uuid4())
    inserted = connection.execute(
        outbox.insert_for(connection, job)
        .values(
            id=job_id,
            series_id=to_route.id,
            revision=to_route.revision,
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
    if inserted is not None:
        timeline.record(connection, to_route.id, "route", "job made", job_id=job_id, pipeline=new.pipeline_id)
        outbox.add(connection, outbox.PROCESS, job_id, priority=new.priority)


def claim(connection: Connection, job_id: str, owner: str, lease_s: float) -> Claim | None:
    """Take a queued job, or None when there is nothing to do. The attempt counts from here, whatever follows."""
    row = connection.execute(
        sa.update(job)
        .where(
            job.c.id == job_id,
            job.c.state == JobState.QUEUED,
            job.c.not_before <= now(),
            job.c.attempt < job.c.max_attempts,
        )
        .values(
            state=JobState.RUNNING,
            attempt=job.c.attempt + 1,
            lease_owner=owner,
            lease_until=now() + lease_s,
            started_at=now(),
            progress=0.0,
            error=None,
        )
        .returning(job)
    ).one_or_none()
    if row is None:
        waiting = connection.execute(
            sa.select(job.c.id).where(job.c.id == job_id, job.c.state == JobState.QUEUED)
        ).one_or_none()
        if waiting is None:  # ended, or run by somebody else: nobody needs to be told again
            outbox.claimed(connection, outbox.PROCESS, job_id)
        return None
    outbox.claimed(connection, outbox.PROCESS, job_id)
    source = connection.execute(sa.select(series).where(series.c.id == row.series_id)).one()
    rule = connection.execute(
        sa.select(rule_version.c.name, rule_version.c.version).where(rule_version.c.id == row.rule_version_id)
    ).one()
    timeline.record(connection, row.series_id, "process", "started", job_id=job_id, attempt=row.attempt, worker=owner)
    return Claim(
        job_id, row.attempt, lease_s, row.series_id, source.study_uid, source.uid, row.revision, row.pipeline_id,
        row.options, tuple(row.destinations), row.priority, f"{rule.name}@{rule.version}",
        _paths(connection, row.series_id),
    )  # fmt: skip


def _mine(claimed: Claim) -> Any:
    """The fence: whoever lost the lease matches no row."""
    return sa.and_(job.c.id == claimed.job_id, job.c.attempt == claimed.attempt, job.c.state == JobState.RUNNING)


def renew(connection: Connection, claimed: Claim, progress: float) -> bool:
    """Progress was made: the lease begins anew. False when the job is no longer ours."""
    renewed = connection.execute(
        sa.update(job).where(_mine(claimed)).values(lease_until=now() + claimed.lease_s, progress=progress)
    )
    return renewed.rowcount == 1


def free_series_number(connection: Connection, claimed: Claim, source_number: int) -> int:
    """source * 100 + k with the least k that no known series of the study bears.

    The results of this very job do not count: a second attempt gets the number of the first.
    """
    received = sa.select(series.c.series_number).where(series.c.study_uid == claimed.study_uid)
    made = (
        sa.select(derived.c.series_number)
        .join(job, job.c.id == derived.c.job_id)
        .join(series, series.c.id == job.c.series_id)
        .where(series.c.study_uid == claimed.study_uid, job.c.id != claimed.job_id)
    )
    taken = set(connection.execute(received).scalars()) | set(connection.execute(made).scalars())
    number = max(source_number, 0) * 100 + 1
    while number in taken:
        number += 1
    return number


def succeed(
    connection: Connection,
    claimed: Claim,
    files: Sequence[DerivedFile],
    profiles: Mapping[str, str],
    *,
    give_up_s: float,
    **facts: Any,
) -> JobState | None:
    """RUNNING to SUCCEEDED with its derived instances and one delivery for each destination.

    `profiles` maps a destination to the profile it is sent; `facts` are columns of the job. When a later revision of
    the series came meanwhile, the job ends SUPERSEDED and nothing is delivered. None when the job is no longer ours.
    """
    current = connection.execute(sa.select(series.c.revision).where(series.c.id == claimed.series_id)).scalar_one()
    state = JobState.SUCCEEDED if current == claimed.revision else JobState.SUPERSEDED
    moved = connection.execute(
        sa.update(job)
        .where(_mine(claimed), job.c.state.in_(job_sources(state)))
        .values(state=state, finished_at=now(), lease_owner=None, lease_until=None, progress=1.0, **facts)
    )
    if moved.rowcount == 0:
        return None
    timeline.record(
        connection, claimed.series_id, "process", state.lower(), job_id=claimed.job_id, instances=len(files),
        seconds=facts.get("seconds"),
    )  # fmt: skip
    if state is JobState.SUPERSEDED:
        return state
    ids: dict[str, list[int]] = {}
    for file in files:
        key = connection.execute(
            sa.insert(derived)
            .values(job_id=claimed.job_id, **{name: getattr(file, name) for name in DerivedFile.__slots__})
            .returning(derived.c.id)
        ).scalar_one()
        ids.setdefault(file.profile, []).append(key)
    for destination, profile in profiles.items():
        _insert_delivery(connection, claimed, destination, profile, ids[profile], give_up_s)
    return state


def _insert_delivery(
    connection: Connection,
    claimed: Claim,
    destination: str,
    profile: str,
    derived_ids: list[int],
    give_up_s: float,
) -> None:
    delivery_id = str(uuid.uuid4())
    connection.execute(
        sa.insert(delivery).values(
            id=delivery_id,
            job_id=claimed.job_id,
            destination=destination,
            profile=profile,
            state=DeliveryState.QUEUED,
            attempt=0,
            not_before=now(),
            give_up_at=now() + give_up_s,
            created_at=now(),
        )
    )
    connection.execute(
        sa.insert(delivery_instance),
        [{"delivery_id": delivery_id, "derived_id": derived_id} for derived_id in derived_ids],
    )
    outbox.add(connection, outbox.DELIVER, delivery_id, priority=claimed.priority)


def end(connection: Connection, claimed: Claim, state: JobState, reason: str) -> bool:
    """RUNNING to an end without a result, with the reason that is shown. False when no longer ours."""
    moved = connection.execute(
        sa.update(job)
        .where(_mine(claimed), job.c.state.in_(job_sources(state)))
        .values(state=state, error=reason, finished_at=now(), lease_owner=None, lease_until=None)
    )
    if moved.rowcount:
        timeline.record(connection, claimed.series_id, "process", state.lower(), job_id=claimed.job_id, reason=reason)
    return moved.rowcount == 1


def take_back(connection: Connection, *, owner: str | None = None) -> int:
    """Return jobs whose lease ended, or all those of `owner`, to the queue; out of attempts they end FAILED.

    The number taken back. `owner` is given by a worker that starts: its predecessor of the same name is dead.
    """
    lost = job.c.lease_owner == owner if owner else job.c.lease_until < now()
    rows = connection.execute(sa.select(job).where(job.c.state == JobState.RUNNING, lost)).all()
    return sum(_end_attempt(connection, row, "the worker died or made no progress") for row in rows)


def fail_attempt(connection: Connection, claimed: Claim, reason: str) -> bool:
    """This attempt broke: back to the queue, or FAILED when it was the last. False when no longer ours."""
    row = connection.execute(sa.select(job).where(_mine(claimed))).one_or_none()
    return row is not None and _end_attempt(connection, row, reason)


def _end_attempt(connection: Connection, row: Row[Any], reason: str) -> bool:
    exhausted = row.attempt >= row.max_attempts
    moved = connection.execute(
        sa.update(job)
        .where(job.c.id == row.id, job.c.attempt == row.attempt, job.c.state == JobState.RUNNING)
        .values(
            state=JobState.FAILED if exhausted else JobState.QUEUED,
            error=f"attempt {row.attempt} of {row.max_attempts}: {reason}",
            lease_owner=None,
            lease_until=None,
            not_before=now(),
            finished_at=now() if exhausted else None,
        )
    )
    if moved.rowcount == 0:
        return False
    timeline.record(
        connection, row.series_id, "sweep", "failed" if exhausted else "taken back", job_id=row.id,
        attempt=row.attempt, reason=reason,
    )  # fmt: skip
    if not exhausted:
        outbox.add(connection, outbox.PROCESS, row.id, priority=row.priority)
    return True


def run_again(connection: Connection, job_id: str) -> bool:
    """An administrator's wish: a job that ended without a result goes back to the queue for one attempt more.

    Attempts are never counted anew: a worker that slept since the first must not take another for its own.
    """
    row = connection.execute(
        sa.update(job)
        .where(
            job.c.id == job_id,
            job.c.state.in_(job_sources(JobState.QUEUED) - {JobState.RUNNING}),
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
    timeline.record(connection, row.series_id, "process", "asked for again", job_id=job_id)
    outbox.add(connection, outbox.PROCESS, job_id, priority=row.priority)
    return True

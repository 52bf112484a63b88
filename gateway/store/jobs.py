"""Jobs: one pipeline run on one revision of a series. Claimed with a lease, fenced by the attempt number."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from gateway.domain.states import DeliveryState, JobState, job_sources
from gateway.store import outbox, switches, timeline
from gateway.store.database import now
from gateway.store.new_jobs import JobInput, inputs_of
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
class ClaimedInput:
    """One series of a job and its files; `role` is "" when the job starts from one series."""

    role: str
    series_id: int
    revision: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a job until the lease ends. Every later write carries `attempt`.

    The result lies on the grid of the first of the `inputs`, the series `series_id`; `partners` names the others.
    """

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
    inputs: tuple[ClaimedInput, ...]
    partners: str


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


def paths_of(connection: Connection, series_id: int) -> tuple[str, ...]:
    """The files of a series in the order of InstanceNumber."""
    return tuple(
        connection.execute(
            sa.select(instance.c.path)
            .where(instance.c.series_id == series_id)
            .order_by(instance.c.instance_number, instance.c.id)
        ).scalars()
    )


def claim(connection: Connection, job_id: str, owner: str, lease_s: float) -> Claim | None:
    """Take a queued job, or None when there is nothing to do. The attempt counts from here, whatever follows."""
    if switches.holds_back(connection, job_id):  # whoever enables the pipeline announces its jobs again
        outbox.claimed(connection, outbox.PROCESS, job_id)
        return None
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
        _inputs(connection, row), row.partners,
    )  # fmt: skip


def _inputs(connection: Connection, row: Row[Any]) -> tuple[ClaimedInput, ...]:
    """The series of a job, the one that gives the grid first."""
    several = inputs_of(connection, [row.id]).get(row.id, [JobInput("", row.series_id, row.revision)])
    several.sort(key=lambda one: (one.series_id != row.series_id, one.role))
    return tuple(
        ClaimedInput(one.role, one.series_id, one.revision, paths_of(connection, one.series_id)) for one in several
    )


def more_urgent(connection: Connection, job_id: str) -> str | None:
    """The most urgent job that can be claimed now, the oldest of several, if it is more urgent than `job_id`."""
    own = sa.select(job.c.priority).where(job.c.id == job_id).scalar_subquery()
    return connection.execute(
        sa.select(job.c.id)
        .where(
            job.c.state == JobState.QUEUED,
            job.c.not_before <= now(),
            job.c.attempt < job.c.max_attempts,
            job.c.priority < own,
            switches.is_enabled(),
        )
        .order_by(job.c.priority, job.c.created_at)
        .limit(1)
    ).scalar_one_or_none()


def _mine(claimed: Claim) -> Any:
    """The fence: whoever lost the lease matches no row."""
    return sa.and_(job.c.id == claimed.job_id, job.c.attempt == claimed.attempt, job.c.state == JobState.RUNNING)


def renew(connection: Connection, claimed: Claim, progress: float) -> bool:
    """Progress was made: the lease begins anew. False when the job is no longer ours."""
    renewed = connection.execute(
        sa.update(job).where(_mine(claimed)).values(lease_until=now() + claimed.lease_s, progress=progress)
    )
    return renewed.rowcount == 1


def held_by(connection: Connection, owner: str) -> set[str]:
    """Ids of the jobs on which `owner` holds a lease that has not ended."""
    mine = sa.and_(job.c.lease_owner == owner, job.c.state == JobState.RUNNING, job.c.lease_until > now())
    return set(connection.execute(sa.select(job.c.id).where(mine)).scalars())


def free_series_number(
    connection: Connection, claimed: Claim, source_number: int, *, pipeline_version: str, weights_sha256: str
) -> int:
    """source * 100 + k with the least k that no known series of the study bears.

    The results of this very job do not count: a second attempt gets the number of the first. A job that made the same
    has given the number already: the number is part of the UIDs, and the same result is not to come under others.
    """
    number_of = sa.select(sa.func.min(derived.c.series_number)).where(derived.c.job_id == job.c.id).scalar_subquery()
    same = connection.execute(
        sa.select(job.c.options, number_of.label("number")).where(
            job.c.series_id == claimed.series_id,
            job.c.revision == claimed.revision,
            job.c.partners == claimed.partners,
            job.c.pipeline_id == claimed.pipeline_id,
            job.c.pipeline_version == pipeline_version,
            job.c.weights_sha256 == weights_sha256,
        )
    )
    for row in same:
        if row.number is not None and row.options == claimed.options:
            return int(row.number)
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
    one of its series came meanwhile, the job ends SUPERSEDED and nothing is delivered. None when it is no longer ours.
    """
    ids = [one.series_id for one in claimed.inputs]
    rows = connection.execute(sa.select(series.c.id, series.c.revision).where(series.c.id.in_(ids)))
    is_current = {row.id: row.revision for row in rows} == {one.series_id: one.revision for one in claimed.inputs}
    state = JobState.SUCCEEDED if is_current else JobState.SUPERSEDED
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
    made: dict[str, list[int]] = {}
    for file in files:
        made.setdefault(file.profile, []).append(_insert_derived(connection, claimed, file))
    for destination, profile in profiles.items():
        _insert_delivery(connection, claimed, destination, profile, made[profile], give_up_s)
    return state


def _insert_derived(connection: Connection, claimed: Claim, file: DerivedFile) -> int:
    """The id of a derived instance: that of the first to be made when another job has made it already."""
    made = connection.execute(
        outbox.insert_for(connection, derived)
        .values(job_id=claimed.job_id, **{name: getattr(file, name) for name in DerivedFile.__slots__})
        .on_conflict_do_nothing()
        .returning(derived.c.id)
    ).scalar_one_or_none()
    if made is not None:
        return int(made)
    same = sa.select(derived.c.id).where(
        derived.c.sop_instance_uid == file.sop_instance_uid, derived.c.profile == file.profile
    )
    return int(connection.execute(same).scalar_one())


def is_kept(connection: Connection, claimed: Claim) -> bool:
    """Whether a row speaks of what this job made; not when another had made it before."""
    return bool(connection.execute(sa.select(sa.exists().where(derived.c.job_id == claimed.job_id))).scalar_one())


def _insert_delivery(
    connection: Connection,
    claimed: Claim,
    destination: str,
    profile: str,
    derived_ids: list[int],
    give_up_s: float,
) -> None:
    another = sa.exists().where(
        delivery_instance.c.derived_id == derived_ids[0],
        delivery_instance.c.delivery_id == delivery.c.id,
        delivery.c.destination == destination,
    )
    if connection.execute(sa.select(another)).scalar_one():
        timeline.record(
            connection, claimed.series_id, "process", "another job sends it", job_id=claimed.job_id,
            destination=destination,
        )  # fmt: skip
        return
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

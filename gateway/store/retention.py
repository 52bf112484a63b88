"""What may be forgotten, and forgetting it: rows first, files after, so that a crash in between only leaves work.

    files    a series of which every consumer has what it is to get loses its instance rows, is marked purged_at, and
             its files are noted in `removal`, in one transaction; the files go later, then the notes
    history  long after, the series itself goes, with its jobs, deliveries and timeline

A path in `removal` is no file without a row to the search for those: it is never received a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import (
    DELIVERY_ENDED,
    JOB_ENDED,
    SERIES_ENDED,
    CommitmentState,
    DeliveryState,
    JobState,
    SeriesState,
)
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import (
    association,
    candidate,
    commitment,
    delivery,
    delivery_instance,
    derived,
    event,
    instance,
    job,
    job_input,
    quarantine,
    refusal,
    removal,
    series,
    study,
)
from gateway.store.tables import outbox as outbox_table

_HAS_IT = (DeliveryState.DELIVERED, DeliveryState.CANCELLED)
# whoever received the file again in the very moment it was noted has said so by then
_NOTE_IS_OLD_AFTER_S = 10.0
_PATHS_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages in seconds at which things go; None = never."""

    files_s: float | None
    failed_s: float | None
    quarantine_s: float | None
    history_s: float | None
    log_s: float | None


@dataclass(frozen=True, slots=True)
class Due:
    """What is old enough to go: how many, and how many bytes of it are in the spool."""

    series: int
    instances: int
    size_bytes: int
    quarantined: int
    history: int


def _younger(column: Any, age_s: float) -> sa.ColumnElement[bool]:
    return sa.or_(column.is_(None), column >= now() - age_s)


def _asked_for(connection: Connection) -> set[int]:
    """Series of which a peer has asked whether we keep them, and has not been told yet (PS3.4 Annex J)."""
    pending = sa.select(commitment.c.instances).where(commitment.c.state == CommitmentState.PENDING)
    uids = [uid for instances in connection.execute(pending).scalars() for _, uid in instances]
    found: set[int] = set()
    for start in range(0, len(uids), _PATHS_AT_A_TIME):
        some = instance.c.sop_instance_uid.in_(uids[start : start + _PATHS_AT_A_TIME])
        found |= set(connection.execute(sa.select(instance.c.series_id).where(some)).scalars())
    return found


def _may_go(connection: Connection, limits: Limits) -> sa.ColumnElement[bool]:
    """Series that every consumer has: ended, its jobs and deliveries too, nothing announced, and all of it old."""
    assert limits.files_s is not None
    failed_s = limits.failed_s
    waits = sa.exists().where(
        outbox_table.c.subject == sa.cast(series.c.id, sa.String) + ":" + sa.cast(series.c.revision, sa.String)
    )
    is_failure = [job.c.state == JobState.FAILED, job.c.superseded.is_(False)]
    of_job = sa.or_(
        job.c.state.not_in(JOB_ENDED),
        _younger(job.c.finished_at, limits.files_s),
        sa.and_(*is_failure, sa.true() if failed_s is None else _younger(job.c.finished_at, failed_s)),
        job.c.id.in_(sa.select(outbox_table.c.subject)),
    )
    job_keeps = sa.exists().where(job.c.series_id == series.c.id, of_job)
    # the other series of a job: it may be asked to run again until it has ended well and its result is delivered
    beside_keeps = sa.exists().where(
        job_input.c.series_id == series.c.id,
        job.c.id == job_input.c.job_id,
        sa.or_(of_job, sa.exists().where(delivery.c.job_id == job.c.id, delivery.c.state.not_in(DELIVERY_ENDED))),
    )
    delivery_keeps = sa.exists().where(
        job.c.series_id == series.c.id,
        delivery.c.job_id == job.c.id,
        sa.or_(
            delivery.c.state.not_in([*_HAS_IT, DeliveryState.FAILED]),
            _younger(delivery.c.finished_at, limits.files_s),
            sa.and_(
                delivery.c.state == DeliveryState.FAILED,
                sa.true() if failed_s is None else _younger(delivery.c.finished_at, failed_s),
            ),
            delivery.c.id.in_(sa.select(outbox_table.c.subject)),
        ),
    )
    unrouted_keeps = sa.and_(
        series.c.state == SeriesState.FAILED,
        sa.true() if failed_s is None else _younger(series.c.last_received_at, failed_s),
    )
    return sa.and_(
        series.c.id.not_in(_asked_for(connection)),
        series.c.purged_at.is_(None),
        series.c.state.in_(SERIES_ENDED),
        series.c.last_received_at < now() - limits.files_s,
        sa.not_(unrouted_keeps),
        sa.not_(waits),
        sa.not_(job_keeps),
        sa.not_(delivery_keeps),
        sa.not_(beside_keeps),
    )


def purgeable_series(connection: Connection, limits: Limits, limit: int) -> list[int]:
    """The oldest series whose files may go."""
    if limits.files_s is None:
        return []
    query = sa.select(series.c.id).where(_may_go(connection, limits)).order_by(series.c.last_received_at).limit(limit)
    return list(connection.execute(query).scalars())


def keep_files(connection: Connection, job_id: str | sa.ScalarSelect[str]) -> bool:
    """Whether the files of the series of a job are here; they stay until the end of the transaction."""
    grid = sa.select(job.c.series_id).where(job.c.id == job_id)
    others = sa.select(job_input.c.series_id).where(job_input.c.job_id == job_id)
    wanted = sa.select(series.c.purged_at).where(series.c.id.in_(grid.union(others))).order_by(series.c.uid)
    if connection.dialect.name != "sqlite":
        wanted = wanted.with_for_update(read=True)
    found = connection.execute(wanted).scalars().all()
    return bool(found) and all(purged_at is None for purged_at in found)


def files_of(connection: Connection, series_id: int) -> list[str]:
    """The received files of a series."""
    return list(connection.execute(sa.select(instance.c.path).where(instance.c.series_id == series_id)).scalars())


def purge(
    connection: Connection, series_id: int, limits: Limits, modified_ns: Callable[[str], int | None]
) -> int | None:
    """Give up the files of a series: the number of its instances, or None when it may not go (any more).

    `modified_ns` says when a file was last written, None when it is not there.
    """
    mine = series.c.id == series_id
    if connection.dialect.name != "sqlite":
        # asked for again, or received again, in this very moment: whoever comes second sees what the first did
        connection.execute(sa.select(series.c.id).where(mine).with_for_update())
    if connection.execute(sa.select(series.c.id).where(mine, _may_go(connection, limits))).one_or_none() is None:
        return None
    paths = files_of(connection, series_id)
    _note(connection, {path: modified_ns(path) for path in paths})
    jobs = connection.execute(sa.select(job.c.id).where(job.c.series_id == series_id)).scalars()
    _note(connection, {f"derived/{job_id}": None for job_id in jobs})
    connection.execute(sa.delete(instance).where(instance.c.series_id == series_id))
    connection.execute(sa.update(series).where(series.c.id == series_id).values(purged_at=now()))
    timeline.record(connection, series_id, "retain", "files given up", instances=len(paths))
    return len(paths)


def purge_quarantine(
    connection: Connection, limits: Limits, limit: int, modified_ns: Callable[[str], int | None]
) -> int:
    """Give up what was refused or kept beside long ago; the number of rows."""
    if limits.quarantine_s is None:
        return 0
    rows = connection.execute(
        sa.select(quarantine.c.id, quarantine.c.path)
        .where(quarantine.c.at < now() - limits.quarantine_s)
        .order_by(quarantine.c.at)
        .limit(limit)
    ).all()
    connection.execute(sa.delete(quarantine).where(quarantine.c.id.in_([row.id for row in rows])))
    _note(connection, {row.path: modified_ns(row.path) for row in rows if row.path})
    return len(rows)


def _note(connection: Connection, files: dict[str, int | None]) -> None:
    """What is not there needs no deleting, but for folders, which are not looked at."""
    rows = [
        {"path": path, "modified_ns": modified, "at": now()}
        for path, modified in files.items()
        if modified is not None or path.startswith("derived/")
    ]
    for row in rows:
        connection.execute(outbox.insert_for(connection, removal).values(**row).on_conflict_do_nothing())


@dataclass(frozen=True, slots=True)
class Note:
    """Something in the spool that is about to be deleted: a file as it was `modified_ns`, or a folder."""

    path: str
    modified_ns: int | None


def notes(connection: Connection, limit: int) -> list[Note]:
    """What is to be deleted now, locked until the end of the transaction; what bears a row again is let go of."""
    old = sa.select(removal.c.path, removal.c.modified_ns).where(removal.c.at < now() - _NOTE_IS_OLD_AFTER_S)
    if connection.dialect.name != "sqlite":
        old = old.with_for_update(skip_locked=True)
    rows = connection.execute(old.order_by(removal.c.at).limit(limit)).all()
    paths = [row.path for row in rows]
    wanted = set(connection.execute(sa.select(instance.c.path).where(instance.c.path.in_(paths))).scalars())
    wanted |= set(connection.execute(sa.select(quarantine.c.path).where(quarantine.c.path.in_(paths))).scalars())
    forget_notes(connection, wanted)
    return [Note(row.path, row.modified_ns) for row in rows if row.path not in wanted]


def forget_notes(connection: Connection, paths: Sequence[str] | set[str]) -> None:
    """They are deleted, or stay."""
    wanted = list(paths)
    for start in range(0, len(wanted), _PATHS_AT_A_TIME):
        connection.execute(sa.delete(removal).where(removal.c.path.in_(wanted[start : start + _PATHS_AT_A_TIME])))


def noted_paths(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Those of `paths` that are about to be deleted."""
    return set(connection.execute(sa.select(removal.c.path).where(removal.c.path.in_(paths))).scalars())


def forget_history(connection: Connection, limits: Limits, limit: int) -> int:
    """Series whose files went long ago go themselves, with all that was known of them; their number."""
    if limits.history_s is None:
        return 0
    ids = list(
        connection.execute(
            sa.select(series.c.id)
            .where(series.c.purged_at < now() - limits.history_s, series.c.state.in_(SERIES_ENDED))
            .where(~sa.exists().where(instance.c.series_id == series.c.id))
            .where(~_open_deliveries())
            .where(~_is_beside_another())
            .order_by(series.c.purged_at)
            .limit(limit)
        ).scalars()
    )
    studies = set(connection.execute(sa.select(series.c.study_uid).where(series.c.id.in_(ids))).scalars())
    jobs = sa.select(job.c.id).where(job.c.series_id.in_(ids))
    deliveries = sa.select(delivery.c.id).where(delivery.c.job_id.in_(jobs))
    connection.execute(sa.delete(delivery_instance).where(delivery_instance.c.delivery_id.in_(deliveries)))
    connection.execute(sa.delete(delivery).where(delivery.c.job_id.in_(jobs)))
    connection.execute(sa.delete(derived).where(derived.c.job_id.in_(jobs)))
    connection.execute(sa.delete(event).where(event.c.series_id.in_(ids)))
    connection.execute(sa.delete(candidate).where(candidate.c.series_id.in_(ids)))
    connection.execute(sa.update(candidate).where(candidate.c.job_id.in_(jobs)).values(job_id=None))
    connection.execute(sa.delete(job_input).where(job_input.c.job_id.in_(jobs)))
    connection.execute(sa.delete(job).where(job.c.series_id.in_(ids)))
    connection.execute(sa.delete(series).where(series.c.id.in_(ids)))
    empty = ~sa.exists().where(series.c.study_uid == study.c.uid)
    connection.execute(sa.delete(study).where(study.c.uid.in_(studies), empty))
    return len(ids)


def _is_beside_another() -> sa.ColumnElement[bool]:
    """A job of another series was made from this one too: that goes first, and the job with it."""
    return sa.exists().where(
        job_input.c.series_id == series.c.id, job.c.id == job_input.c.job_id, job.c.series_id != series.c.id
    )


def _open_deliveries() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        job.c.series_id == series.c.id,
        sa.or_(
            job.c.state.not_in(JOB_ENDED),
            sa.exists().where(delivery.c.job_id == job.c.id, delivery.c.state.not_in(DELIVERY_ENDED)),
        ),
    )


def forget_log(connection: Connection, limits: Limits, limit: int) -> int:
    """Associations that ended long ago and carried nothing that is still here, commitments, refusals; their number."""
    if limits.log_s is None:
        return 0
    old = (
        sa.select(association.c.id)
        .where(association.c.ended_at < now() - limits.log_s)
        .where(~sa.exists().where(instance.c.association_id == association.c.id))
        .limit(limit)
    )
    statements = (
        sa.delete(association).where(association.c.id.in_(old)),
        sa.delete(commitment).where(commitment.c.ended_at < now() - limits.log_s),
        sa.delete(refusal).where(refusal.c.last_at < now() - limits.log_s),
    )
    return sum(connection.execute(statement).rowcount for statement in statements)


def put_off(connection: Connection, paths: Sequence[str]) -> None:
    """They could not be deleted: the others first."""
    connection.execute(sa.update(removal).where(removal.c.path.in_(paths)).values(at=now()))


def due(connection: Connection, limits: Limits) -> Due:
    """What would go now."""
    count, received, made = 0, (0, 0), 0
    if limits.files_s is not None:
        ids = sa.select(series.c.id).where(_may_go(connection, limits))
        count = connection.execute(sa.select(sa.func.count()).select_from(ids.subquery())).scalar_one()
        size = sa.func.coalesce(sa.func.sum(instance.c.size_bytes), 0)
        row = connection.execute(sa.select(sa.func.count(), size).where(instance.c.series_id.in_(ids))).one()
        received = (int(row[0]), int(row[1]))
        made = connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(derived.c.size_bytes), 0))
            .join(job, job.c.id == derived.c.job_id)
            .where(job.c.series_id.in_(ids))
        ).scalar_one()
    return Due(
        count, received[0], received[1] + int(made), _old_quarantine(connection, limits), _old(connection, limits)
    )


def _old_quarantine(connection: Connection, limits: Limits) -> int:
    if limits.quarantine_s is None:
        return 0
    old = quarantine.c.at < now() - limits.quarantine_s
    return connection.execute(sa.select(sa.func.count()).select_from(quarantine).where(old)).scalar_one()


def _old(connection: Connection, limits: Limits) -> int:
    if limits.history_s is None:
        return 0
    old = series.c.purged_at < now() - limits.history_s
    return connection.execute(sa.select(sa.func.count()).select_from(series).where(old)).scalar_one()

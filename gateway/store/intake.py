"""What was received: associations, instances, series, and what was put into quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from gateway.dicom.header import InstanceHeader
from gateway.domain.completeness import AssociationState
from gateway.domain.states import DeliveryState, JobState, SeriesState, series_sources
from gateway.store import candidates, outbox, timeline
from gateway.store.database import now
from gateway.store.tables import (
    association,
    delivery,
    delivery_instance,
    instance,
    job,
    job_input,
    quarantine,
    series,
    study,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent an instance, in which association."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where the bytes are, relative to the spool, and what they are.

    `sha256` of a received file is that of its data set, and empty until `seal`.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A durable instance that wants its row; `pending` is its second name in the spool, kept until it has its digest.

    `data_set_bytes` is the length of the data set, which is the end of the file; None when `file` has its digest.
    """

    header: InstanceHeader
    file: StoredFile
    caller: Caller
    pending: Path | str | None = None
    data_set_bytes: int | None = None


_KEPT_BESIDE = "SOP Instance UID is stored already with other bytes; the first is used, this one is kept beside it"
_REPLACED = "SOP Instance UID came again with other bytes; the newest is used, this one is kept beside it"

OnConflict = Literal["keep-first", "newest", "refuse"]
"""Which file of a SOP Instance UID is used when others come; the others are kept beside it and flagged."""


class Raced(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """Another process recorded the same SOP Instance UID in this very moment: ask again."""


class Arrival(Enum):
    """What an instance was to the database."""

    NEW = "new"
    SAME = "same"  # this SOP Instance UID with these very bytes is stored already
    CONFLICT = "conflict"  # the same SOP Instance UID with other bytes


def open_associations(connection: Connection, callers: Sequence[Caller], process: str) -> None:
    """Record associations that `process` accepted."""
    if callers:
        connection.execute(
            outbox.insert_for(connection, association).values(opened_at=now()).on_conflict_do_nothing(),
            [
                {
                    "id": caller.association_id,
                    "calling_ae_title": caller.calling_ae_title,
                    "called_ae_title": caller.called_ae_title,
                    "address": caller.address,
                    "process": process,
                }
                for caller in callers
            ],
        )


def end_association(connection: Connection, association_id: str, end: AssociationState) -> None:
    """Record how an association ended and have its series judged at once."""
    connection.execute(
        sa.update(association).where(association.c.id == association_id).values(ended_at=now(), end=end.value)
    )
    carried = sa.select(instance.c.series_id).where(instance.c.association_id == association_id)
    connection.execute(
        sa.update(series)
        .where(series.c.id.in_(carried), series.c.state == SeriesState.RECEIVING)
        .values(judge_at=now())
    )


def abort_open_associations(connection: Connection, process: str) -> int:
    """Of a process that is dead: the associations that it left open ended with it. Their number."""
    of_it = sa.or_(association.c.process == process, association.c.process.is_(None))
    left = connection.execute(sa.select(association.c.id).where(association.c.ended_at.is_(None), of_it))
    ids = left.scalars().all()
    for association_id in ids:
        end_association(connection, association_id, AssociationState.ABORTED)
    return len(ids)


def has_instances(connection: Connection) -> bool:
    """Whether any instance is on record."""
    return connection.execute(sa.select(instance.c.id).limit(1)).first() is not None


def known_paths(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Those of `paths`, files of the spool, that have their row."""
    instances = sa.select(instance.c.path).where(instance.c.path.in_(paths))
    quarantined = sa.select(quarantine.c.path).where(quarantine.c.path.in_(paths))
    return set(connection.execute(instances.union(quarantined)).scalars())


def record_instances(
    connection: Connection, arrived: Sequence[Arrived], *, judge_after_s: float, on_conflict: OnConflict = "keep-first"
) -> list[Arrival]:
    """Record durable instances under their series; a late one raises the revision and reopens its series.

    Raises Raced; the transaction is then to be rolled back.
    """
    used = _used_files(connection, [one.header.sop_instance_uid for one in arrived])
    fresh: dict[str, list[Arrived]] = {}
    again: dict[str, str] = {}
    conflicts: list[tuple[Arrived, str | None]] = []
    arrivals = []
    for one in arrived:
        uid, series_uid = one.header.sop_instance_uid, one.header.series_instance_uid
        if uid not in used:
            used[uid] = _Used(one.file.path, series_uid)
            fresh.setdefault(series_uid, []).append(one)
            arrivals.append(Arrival.NEW)
        elif used[uid].path == one.file.path:  # the spool gives the same place to the same bytes
            again[uid] = one.caller.association_id
            arrivals.append(Arrival.SAME)
        else:
            replaces = on_conflict == "newest" and used[uid].series_uid == series_uid
            conflicts.append((one, used[uid].path if replaces else None))
            if replaces:
                used[uid] = _Used(one.file.path, series_uid)
            arrivals.append(Arrival.CONFLICT)
    for _, of_series in sorted(fresh.items()):  # in one order, so that two processes never wait for each other
        _add_to_series(connection, of_series, judge_after_s)
    _vouch(connection, again)
    for one, replaced in conflicts:
        if replaced is not None:
            _replace(connection, one, judge_after_s)
        reason, path = (_REPLACED, replaced) if replaced is not None else (_KEPT_BESIDE, one.file.path)
        record_quarantine(connection, one.caller, status=0x0000, reason=reason, path=path)
    return arrivals


def seal(connection: Connection, digests: Mapping[str, str]) -> None:
    """Record the digests of received files, by their paths; from now on a changed byte can be told."""
    if digests:
        connection.execute(
            sa.update(instance).where(instance.c.path == sa.bindparam("of")).values(sha256=sa.bindparam("digest")),
            [{"of": path, "digest": sha256} for path, sha256 in sorted(digests.items())],
        )


@dataclass(frozen=True, slots=True)
class _Used:
    """The file that stands for a SOP Instance UID, and its series."""

    path: str
    series_uid: str


def _used_files(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, _Used]:
    rows = connection.execute(
        sa.select(instance.c.sop_instance_uid, instance.c.path, series.c.uid)
        .join(series, series.c.id == instance.c.series_id)
        .where(instance.c.sop_instance_uid.in_(sop_instance_uids))
    )
    return {row.sop_instance_uid: _Used(row.path, row.uid) for row in rows}


def _add_to_series(connection: Connection, arrived: Sequence[Arrived], judge_after_s: float) -> None:
    """New instances of one series. Raises Raced."""
    header, caller = arrived[0].header, arrived[0].caller
    wanted = _series_query(connection, header)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        _insert_series(connection, header, caller, judge_after_s)
        row = connection.execute(wanted).one()
    is_late = row.state != SeriesState.RECEIVING
    inserted = connection.execute(
        outbox.insert_for(connection, instance)
        .values(received_at=now())
        .on_conflict_do_nothing(index_elements=["sop_instance_uid"])
        .returning(instance.c.id),
        [{"series_id": row.id, "revision": row.revision + is_late, **_columns(one)} for one in arrived],
    )
    if len(inserted.all()) < len(arrived):
        raise Raced
    if is_late:
        _reopen(connection, row)
    connection.execute(
        sa.update(series)
        .where(series.c.id == row.id)
        .values(instances=series.c.instances + len(arrived), last_received_at=now(), judge_at=now() + judge_after_s)
    )


def _replace(connection: Connection, one: Arrived, judge_after_s: float) -> None:
    """Other bytes of a known SOP Instance UID stand for it from now on: the series has another revision."""
    row = connection.execute(_series_query(connection, one.header)).one()
    connection.execute(
        sa.update(instance)
        .where(instance.c.sop_instance_uid == one.header.sop_instance_uid)
        .values(revision=row.revision + 1, received_at=now(), **_columns(one))
    )
    if row.state != SeriesState.RECEIVING:
        _reopen(connection, row)
    connection.execute(
        sa.update(series)
        .where(series.c.id == row.id)
        .values(revision=row.revision + 1, last_received_at=now(), judge_at=now() + judge_after_s)
    )
    timeline.record(connection, row.id, "receive", "instance replaced", revision=row.revision + 1)


def _columns(one: Arrived) -> dict[str, Any]:
    header, file = one.header, one.file
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "association_id": one.caller.association_id,
        "path": file.path,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "instance_number": header.instance_number,
        "number_of_frames": header.number_of_frames,
        "acquisition_number": header.acquisition_number,
        "orientation": list(header.image_orientation),
        "slice_position_mm": header.slice_position_mm,
        "images_in_acquisition": header.images_in_acquisition,
    }


def _vouch(connection: Connection, again: dict[str, str]) -> None:
    """A sender that repeats itself after an abort vouches for the instance anew: its later end is what counts."""
    if again:
        connection.execute(
            sa.update(instance)
            .where(instance.c.sop_instance_uid == sa.bindparam("uid"))
            .values(association_id=sa.bindparam("by")),
            [{"uid": uid, "by": association_id} for uid, association_id in sorted(again.items())],
        )


def _series_query(connection: Connection, header: InstanceHeader) -> sa.Select[Any]:
    wanted = sa.select(series.c.id, series.c.state, series.c.revision).where(series.c.uid == header.series_instance_uid)
    return wanted if connection.dialect.name == "sqlite" else wanted.with_for_update()


def _insert_series(connection: Connection, header: InstanceHeader, caller: Caller, judge_after_s: float) -> None:
    connection.execute(
        outbox.insert_for(connection, study)
        .values(
            uid=header.study_instance_uid,
            first_received_at=now(),
            patient_id=_fitting(study.c.patient_id, header.patient_id),
            patient_name=_fitting(study.c.patient_name, header.patient_name),
            accession_number=_fitting(study.c.accession_number, header.accession_number),
            study_date=_fitting(study.c.study_date, header.study_date),
            study_description=_fitting(study.c.study_description, header.study_description),
        )
        .on_conflict_do_nothing()
    )
    inserted = connection.execute(
        outbox.insert_for(connection, series)
        .values(
            uid=header.series_instance_uid,
            study_uid=header.study_instance_uid,
            modality=_fitting(series.c.modality, header.modality),
            series_number=header.series_number,
            series_description=_fitting(series.c.series_description, header.series_description),
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            address=caller.address,
            state=SeriesState.RECEIVING,
            revision=1,
            instances=0,
            first_received_at=now(),
            last_received_at=now(),
            judge_at=now() + judge_after_s,
        )
        .on_conflict_do_nothing()
        .returning(series.c.id)
    ).scalar_one_or_none()
    if inserted is not None:
        timeline.record(connection, inserted, "receive", "first instance", calling_ae_title=caller.calling_ae_title)


def _fitting(column: sa.Column[str], text: str) -> str:
    """`text` as the column takes it: devices send longer ones than the VR allows, and NUL; PostgreSQL refuses both."""
    return text.replace("\0", "")[: column.type.length]  # type: ignore[attr-defined] # a String, which has a length


def _reopen(connection: Connection, row: Row[Any, Any, Any]) -> None:
    """A late instance: the next revision begins, what the earlier one made is superseded."""
    connection.execute(
        sa.update(series)
        .where(series.c.id == row.id, series.c.state.in_(series_sources(SeriesState.RECEIVING)))
        .values(
            state=SeriesState.RECEIVING,
            revision=row.revision + 1,
            completed_at=None,
            reason=None,
            evidence=None,
            # of what retention gave up, nothing counts any more
            instances=sa.case((series.c.purged_at.is_not(None), 0), else_=series.c.instances),
            purged_at=None,
        )
    )
    alone = sa.select(job.c.id).where(job.c.series_id == row.id, job.c.revision <= row.revision)
    beside = sa.select(job_input.c.job_id).where(job_input.c.series_id == row.id, job_input.c.revision <= row.revision)
    earlier = job.c.id.in_(alone.correlate(None).union(beside.correlate(None)))
    candidates.withdraw(connection, row.id, sa.select(job.c.id).where(earlier))
    connection.execute(sa.update(job).where(earlier).values(superseded=True))
    connection.execute(
        sa.update(job)
        .where(earlier, job.c.state == JobState.QUEUED)
        .values(state=JobState.SUPERSEDED, finished_at=now())
    )
    # what a destination has begun to receive is finished: half a series beside its source misleads more than a
    # whole one that was superseded
    begun = sa.select(delivery_instance.c.delivery_id).where(delivery_instance.c.accepted_at.is_not(None))
    connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.job_id.in_(sa.select(job.c.id).where(earlier)),
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.id.not_in(begun),
        )
        .values(state=DeliveryState.CANCELLED, finished_at=now(), error="superseded by a later revision")
    )
    timeline.record(connection, row.id, "receive", "late instance", revision=row.revision + 1)


def record_quarantine(connection: Connection, caller: Caller, *, status: int, reason: str, path: str | None) -> None:
    """Record an instance that was answered with an error and kept aside."""
    connection.execute(
        sa.insert(quarantine).values(
            at=now(),
            status=status,
            reason=reason,
            calling_ae_title=caller.calling_ae_title,
            address=caller.address,
            path=path,
        )
    )

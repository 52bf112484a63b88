"""What was received: associations, instances, series, and what was put into quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from gateway.dicom.header import InstanceHeader
from gateway.domain.completeness import (
    AssociationState,
)
from gateway.domain.states import DeliveryState, JobState, SeriesState, series_sources
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import (
    association,
    delivery,
    delivery_instance,
    instance,
    job,
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
    """Where the bytes are, relative to the spool, and what they are; of a received file, `sha256` of the data set."""

    path: str
    size_bytes: int
    sha256: str


class Raced(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """Another association recorded the same SOP Instance UID in this very moment: ask again."""


class Arrival(Enum):
    """What an instance was to the database."""

    NEW = "new"
    SAME = "same"  # this SOP Instance UID with these very bytes is stored already
    CONFLICT = "conflict"  # the same SOP Instance UID with other bytes


def open_association(connection: Connection, caller: Caller) -> None:
    """Record an association that was accepted."""
    connection.execute(
        outbox.insert_for(connection, association)
        .values(
            id=caller.association_id,
            calling_ae_title=caller.calling_ae_title,
            called_ae_title=caller.called_ae_title,
            address=caller.address,
            opened_at=now(),
        )
        .on_conflict_do_nothing()
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


def abort_open_associations(connection: Connection) -> int:
    """At the start of the SCP: associations that its predecessor left open ended with it. Their number."""
    left = connection.execute(sa.select(association.c.id).where(association.c.ended_at.is_(None))).scalars().all()
    for association_id in left:
        end_association(connection, association_id, AssociationState.ABORTED)
    return len(left)


def known_file(connection: Connection, sop_instance_uid: str) -> StoredFile | None:
    """The stored file of a SOP Instance UID."""
    row = connection.execute(
        sa.select(instance.c.path, instance.c.size_bytes, instance.c.sha256).where(
            instance.c.sop_instance_uid == sop_instance_uid
        )
    ).one_or_none()
    return StoredFile(row.path, row.size_bytes, row.sha256) if row else None


def known_paths(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Those of `paths`, files of the spool, that have their row."""
    instances = sa.select(instance.c.path).where(instance.c.path.in_(paths))
    quarantined = sa.select(quarantine.c.path).where(quarantine.c.path.in_(paths))
    return set(connection.execute(instances.union(quarantined)).scalars())


def record_instance(
    connection: Connection, header: InstanceHeader, file: StoredFile, caller: Caller, *, judge_after_s: float
) -> Arrival:
    """Record one durable instance under its series; a late one raises the revision and reopens the series.

    Raises Raced; the transaction is then to be rolled back.
    """
    wanted = _series_query(connection, header)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        if (known := known_file(connection, header.sop_instance_uid)) is not None:
            return _again(connection, header, file, caller, known)
        _insert_series(connection, header, caller, judge_after_s)
        row = connection.execute(wanted).one()
    is_late = row.state != SeriesState.RECEIVING
    if not _insert_instance(connection, header, file, caller, row.id, row.revision + is_late):
        known = known_file(connection, header.sop_instance_uid)
        if known is None or row.instances == 0:
            raise Raced
        return _again(connection, header, file, caller, known)
    if is_late:
        _reopen(connection, row)
    connection.execute(
        sa.update(series)
        .where(series.c.id == row.id)
        .values(instances=series.c.instances + 1, last_received_at=now(), judge_at=now() + judge_after_s)
    )
    return Arrival.NEW


def _again(
    connection: Connection, header: InstanceHeader, file: StoredFile, caller: Caller, known: StoredFile
) -> Arrival:
    """The SOP Instance UID is stored already: with these bytes, or with others."""
    if known.sha256 != file.sha256:
        return Arrival.CONFLICT
    # a sender that repeats itself after an abort vouches for the instance anew: its later end is what counts
    connection.execute(
        sa.update(instance)
        .where(instance.c.sop_instance_uid == header.sop_instance_uid)
        .values(association_id=caller.association_id)
    )
    return Arrival.SAME


def _series_query(connection: Connection, header: InstanceHeader) -> sa.Select[Any]:
    wanted = sa.select(series.c.id, series.c.state, series.c.revision, series.c.instances).where(
        series.c.uid == header.series_instance_uid
    )
    return wanted if connection.dialect.name == "sqlite" else wanted.with_for_update()


def _insert_instance(
    connection: Connection, header: InstanceHeader, file: StoredFile, caller: Caller, series_id: int, revision: int
) -> bool:
    """False when a row of that SOP Instance UID is there."""
    inserted = connection.execute(
        outbox.insert_for(connection, instance)
        .values(
            sop_instance_uid=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            series_id=series_id,
            association_id=caller.association_id,
            revision=revision,
            path=file.path,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            received_at=now(),
            instance_number=header.instance_number,
            number_of_frames=header.number_of_frames,
            acquisition_number=header.acquisition_number,
            orientation=list(header.image_orientation),
            slice_position_mm=header.slice_position_mm,
            images_in_acquisition=header.images_in_acquisition,
        )
        .on_conflict_do_nothing(index_elements=["sop_instance_uid"])
        .returning(instance.c.id)
    )
    return inserted.scalar_one_or_none() is not None


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
        )
    )
    earlier = sa.and_(job.c.series_id == row.id, job.c.revision <= row.revision)
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

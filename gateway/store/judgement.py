"""Judging completeness: which series are due, what is known about each, and closing it on that evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)
from sqlalchemy.engine import Connection

from gateway.domain.completeness import AssociationEvidence, AssociationState, InstanceEvidence, SeriesEvidence
from gateway.domain.states import SeriesState
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import association, instance, series

# their instance holds a whole acquisition
_ENHANCED = frozenset(
    {
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        EnhancedMRColorImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedCTImageStorage,
        LegacyConvertedEnhancedMRImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
    }
)


@dataclass(frozen=True, slots=True)
class ToJudge:
    """A series that is being received, and all that is known about its completeness."""

    id: int
    revision: int
    instances: int
    last_received_at: float
    now_s: float
    evidence: SeriesEvidence


def to_judge(connection: Connection, series_id: int) -> ToJudge | None:
    """The evidence on a series, if it is still being received."""
    head = connection.execute(
        sa.select(series, now().label("now")).where(series.c.id == series_id, series.c.state == SeriesState.RECEIVING)
    ).one_or_none()
    if head is None:
        return None
    rows = connection.execute(sa.select(instance).where(instance.c.series_id == series_id)).all()
    # receive inserts the series and its first instance in one transaction: there is always a row
    evidence = SeriesEvidence(
        tuple(
            InstanceEvidence(
                received_s=row.received_at,
                instance_number=row.instance_number,
                acquisition_number=row.acquisition_number,
                images_in_acquisition=row.images_in_acquisition,
                orientation=tuple(row.orientation) or None,
                slice_position_mm=row.slice_position_mm,
                number_of_frames=row.number_of_frames,
                enhanced=row.sop_class_uid in _ENHANCED,
            )
            for row in rows
        ),
        _association_evidence(connection, series_id, {row.association_id for row in rows}),
    )
    return ToJudge(head.id, head.revision, head.instances, head.last_received_at, head.now, evidence)


def _association_evidence(connection: Connection, series_id: int, ids: set[str]) -> tuple[AssociationEvidence, ...]:
    others = dict(
        connection.execute(
            sa.select(instance.c.association_id, sa.func.max(instance.c.received_at))
            .where(instance.c.association_id.in_(ids), instance.c.series_id != series_id)
            .group_by(instance.c.association_id)
        ).all()
    )
    rows = connection.execute(sa.select(association).where(association.c.id.in_(ids))).all()
    return tuple(
        AssociationEvidence(
            AssociationState(row.end) if row.end else AssociationState.OPEN, row.ended_at, others.get(row.id)
        )
        for row in rows
    )


def due_for_judgement(connection: Connection) -> list[int]:
    """Ids of the series whose completeness is to be judged now."""
    return list(
        connection.execute(
            sa.select(series.c.id)
            .where(series.c.state == SeriesState.RECEIVING, series.c.judge_at <= now())
            .order_by(series.c.judge_at)
        ).scalars()
    )


def next_judgement_in_s(connection: Connection) -> float | None:
    """Seconds until the next judgement is due; None when no series is being received."""
    value = connection.execute(
        sa.select(sa.func.min(series.c.judge_at) - now()).where(series.c.state == SeriesState.RECEIVING)
    ).scalar_one()
    return None if value is None else float(value)


def close_series(
    connection: Connection, series_id: int, revision: int, instances: int, evidence: dict[str, Any]
) -> bool:
    """RECEIVING to COMPLETE, unless an instance came meanwhile; the evidence is kept. True when it closed."""
    closed = connection.execute(
        sa.update(series)
        .where(
            series.c.id == series_id,
            series.c.revision == revision,
            series.c.instances == instances,
            series.c.state == SeriesState.RECEIVING,
        )
        .values(state=SeriesState.COMPLETE, completed_at=now(), judge_at=None, waiting_for=None, evidence=evidence)
    )
    if closed.rowcount == 0:
        return False
    timeline.record(connection, series_id, "assemble", "complete", revision=revision, **evidence)
    outbox.add(connection, outbox.ROUTE, f"{series_id}:{revision}")
    return True


def keep_open(connection: Connection, series_id: int, last_received_at: float, judge_at: float, why: str) -> None:
    """The series stays open until `judge_at`, unless an instance came since the evidence was read."""
    connection.execute(
        sa.update(series)
        .where(series.c.id == series_id, series.c.last_received_at == last_received_at)
        .values(judge_at=judge_at, waiting_for=why)
    )

"""The timeline: what happened to a series, written in the transaction that made it happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store.database import now
from gateway.store.tables import event


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a timeline; `at` in epoch seconds."""

    at: float
    stage: str
    what: str
    job_id: str | None
    detail: Mapping[str, Any]


def record(
    connection: Connection, series_id: int, stage: str, what: str, *, job_id: str | None = None, **detail: Any
) -> None:
    """Add one event. `detail` holds ids, counts, seconds and reasons; no patient attribute."""
    connection.execute(
        sa.insert(event).values(at=now(), series_id=series_id, job_id=job_id, stage=stage, what=what, detail=detail)
    )


def of_series(connection: Connection, series_id: int) -> list[Event]:
    """Everything that happened to a series, oldest first."""
    rows = connection.execute(sa.select(event).where(event.c.series_id == series_id).order_by(event.c.id))
    return [Event(row.at, row.stage, row.what, row.job_id, row.detail) for row in rows]

"""The timeline: what happened to a series, written in the transaction that made it happen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return of_several(connection, [series_id])[series_id]


def of_several(connection: Connection, series_ids: Sequence[int]) -> dict[int, list[Event]]:
    """The same for each of several series."""
    found: dict[int, list[Event]] = {series_id: [] for series_id in series_ids}
    rows = connection.execute(sa.select(event).where(event.c.series_id.in_(series_ids)).order_by(event.c.id))
    for row in rows:
        found[row.series_id].append(Event(row.at, row.stage, row.what, row.job_id, row.detail))
    return found

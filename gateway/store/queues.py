"""What waits, counted for the metrics: by stage, by state, by destination. Reads only, by indexes."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, SERIES_ENDED, DeliveryState, JobState, SeriesState
from gateway.metrics import Waiting
from gateway.store.database import now
from gateway.store.tables import delivery, job, outbox, series

_OPEN_SERIES = [state for state in SeriesState if state not in SERIES_ENDED]
_OPEN_JOBS = [state for state in JobState if state not in JOB_ENDED]
_OPEN_DELIVERIES = [state for state in DeliveryState if state not in DELIVERY_ENDED]


def measure(connection: Connection) -> Waiting:
    """What waits now."""
    due = connection.execute(
        sa.select(outbox.c.stage, sa.func.count(), now() - sa.func.min(outbox.c.due_at))
        .where(outbox.c.due_at <= now())
        .group_by(outbox.c.stage)
    )
    by_destination = connection.execute(
        sa.select(delivery.c.destination, delivery.c.state, sa.func.count(), now() - sa.func.min(delivery.c.created_at))
        .where(delivery.c.state.in_([*_OPEN_DELIVERIES, DeliveryState.FAILED]))
        .group_by(delivery.c.destination, delivery.c.state)
    ).all()
    oldest: dict[str, float] = {}
    for destination, state, _, age_s in by_destination:
        if state in _OPEN_DELIVERIES:
            oldest[destination] = max(age_s, oldest.get(destination, 0.0))
    return Waiting(
        {stage: (rows, max(0.0, age_s)) for stage, rows, age_s in due},
        {**dict.fromkeys(_OPEN_SERIES, 0), **_by_state(connection, series, _OPEN_SERIES)},
        {**dict.fromkeys(_OPEN_JOBS, 0), **_by_state(connection, job, _OPEN_JOBS)},
        {(destination, state): rows for destination, state, rows, _ in by_destination},
        oldest,
    )


def _by_state(connection: Connection, table: sa.Table, states: list[SeriesState] | list[JobState]) -> dict[str, int]:
    rows = connection.execute(
        sa.select(table.c.state, sa.func.count()).where(table.c.state.in_(states)).group_by(table.c.state)
    )
    return {state: number for state, number in rows}  # noqa: C416 - a row is no pair to mypy

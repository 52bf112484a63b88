"""What a step of the database's clock does to work in hand: nothing, once its times were moved by the same step.

Times are what leases, waiting and silence are told by. A clock put forward by an hour would end every lease and every
silence at once; one put back would stop all waiting for an hour.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, CommitmentState, SeriesState
from gateway.store.database import now
from gateway.store.tables import (
    alert_message,
    association,
    candidate,
    commitment,
    delivery,
    destination,
    heartbeat,
    instance,
    job,
    outbox,
    series,
)


def move_times(connection: Connection, step_s: float) -> None:
    """Move every time that open work waits for, or is judged by, with a clock that was put on by `step_s`.

    Only times that lie on the far side of half the step: what was written since bears the new time already.
    """
    receiving = series.c.state == SeriesState.RECEIVING
    ids = sa.select(series.c.id).where(receiving)
    carrying = sa.select(instance.c.association_id).where(instance.c.series_id.in_(ids))
    _move(connection, step_s, sa.true(), association.c.opened_at, association.c.id.in_(carrying))
    _move(connection, step_s, sa.true(), association.c.ended_at, association.c.id.in_(carrying))
    _move(connection, step_s, sa.true(), instance.c.received_at, instance.c.series_id.in_(ids))
    for column in (series.c.first_received_at, series.c.last_received_at, series.c.judge_at):
        _move(connection, step_s, receiving, column)
    for column in (job.c.lease_until, job.c.not_before):
        _move(connection, step_s, job.c.state.not_in(JOB_ENDED), column)
    for column in (delivery.c.lease_until, delivery.c.not_before):
        _move(connection, step_s, delivery.c.state.not_in(DELIVERY_ENDED), column)
    _move(connection, step_s, alert_message.c.ended_at.is_(None), alert_message.c.not_before)
    _move(connection, step_s, destination.c.down_since.is_not(None), destination.c.not_before)
    for column in (commitment.c.lease_until, commitment.c.not_before, commitment.c.requested_at):
        _move(connection, step_s, commitment.c.state == CommitmentState.PENDING, column)
    for column in (outbox.c.due_at, outbox.c.published_at):
        _move(connection, step_s, sa.true(), column)
    waits = candidate.c.end.is_(None)
    connection.execute(sa.update(candidate).where(waits).values(give_up_at=candidate.c.give_up_at + step_s))
    connection.execute(
        sa.update(delivery)
        .where(delivery.c.state.not_in(DELIVERY_ENDED))
        .values(give_up_at=delivery.c.give_up_at + step_s)
    )
    connection.execute(
        sa.update(commitment)
        .where(commitment.c.state == CommitmentState.PENDING)
        .values(give_up_at=commitment.c.give_up_at + step_s)
    )
    connection.execute(sa.update(heartbeat).where(heartbeat.c.at > now()).values(at=now()))


def _move(
    connection: Connection,
    step_s: float,
    is_open: sa.ColumnElement[bool],
    column: sa.Column[float],
    *more: sa.ColumnElement[bool],
) -> None:
    is_old = column < now() - step_s / 2 if step_s > 0 else column > now() - step_s / 2
    connection.execute(sa.update(column.table).where(is_open, is_old, *more).values({column: column + step_s}))


def newest_sign_of_life_s(connection: Connection) -> float | None:
    """How many seconds ahead of the clock the newest heartbeat is: above zero when the clock was put back since."""
    ahead_s: float | None = connection.execute(sa.select(sa.func.max(heartbeat.c.at) - now())).scalar_one()
    return ahead_s

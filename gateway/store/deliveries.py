"""Deliveries: one job's result on its way to one destination, with the answer to each instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.states import DeliveryState, delivery_sources
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import delivery, delivery_instance, derived, job

# a place that is given back is offered at once; this is for one that was lost with a dead sender
_ASK_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class ToSend:
    """A derived instance that the destination has not accepted yet."""

    derived_id: int
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send until the lease ends. Every later write carries `attempt`."""

    delivery_id: str
    attempt: int
    lease_s: float
    job_id: str
    series_id: int
    destination: str
    per_destination: int
    to_send: tuple[ToSend, ...]
    time_left_s: float  # until it is given up


def claim(connection: Connection, delivery_id: str, owner: str, lease_s: float, per_destination: int) -> Claim | None:
    """Take a queued delivery, or None when there is nothing to do or the destination has its fill of associations."""
    sending = delivery.alias("sending")
    at_work = (
        sa.select(sa.func.count())
        .where(sending.c.destination == delivery.c.destination, sending.c.state == DeliveryState.SENDING)
        .scalar_subquery()
    )
    row = connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.id == delivery_id,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.not_before <= now(),
            at_work < per_destination,
        )
        .values(
            state=DeliveryState.SENDING,
            attempt=delivery.c.attempt + 1,
            lease_owner=owner,
            lease_until=now() + lease_s,
            started_at=sa.func.coalesce(delivery.c.started_at, now()),
        )
        .returning(delivery, now().label("now"))
    ).one_or_none()
    if row is None:
        _leave(connection, delivery_id)
        return None
    outbox.claimed(connection, outbox.DELIVER, delivery_id)
    to_send = connection.execute(
        sa.select(derived)
        .join(delivery_instance, delivery_instance.c.derived_id == derived.c.id)
        .where(delivery_instance.c.delivery_id == delivery_id, delivery_instance.c.accepted_at.is_(None))
        .order_by(derived.c.instance_number, derived.c.id)
    ).all()
    series_id = connection.execute(sa.select(job.c.series_id).where(job.c.id == row.job_id)).scalar_one()
    return Claim(
        delivery_id, row.attempt, lease_s, row.job_id, series_id, row.destination, per_destination,
        tuple(
            ToSend(item.id, item.sop_instance_uid, item.sop_class_uid, item.transfer_syntax_uid, item.path, item.sha256)
            for item in to_send
        ),
        row.give_up_at - row.now,
    )  # fmt: skip


def _leave(connection: Connection, delivery_id: str) -> None:
    """Nothing was claimed: a delivery whose destination is busy waits for a free place, any other for nothing."""
    row = connection.execute(
        sa.select(delivery.c.state, delivery.c.not_before, now().label("now")).where(delivery.c.id == delivery_id)
    ).one_or_none()
    if row is not None and row.state == DeliveryState.QUEUED:
        due = row.not_before if row.not_before > row.now else row.now + _ASK_AGAIN_S
        outbox.add(connection, outbox.DELIVER, delivery_id, due_at=due)
    else:
        outbox.claimed(connection, outbox.DELIVER, delivery_id)


def _offer_place(connection: Connection, claimed: Claim) -> None:
    """A place at the destination is free: announce those that have waited longest for one.

    As many as there are places: when two deliveries end at once and offer to the same, no place stays empty.
    """
    waiting = connection.execute(
        sa.select(delivery.c.id)
        .where(
            delivery.c.destination == claimed.destination,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.not_before <= now(),
            delivery.c.id != claimed.delivery_id,
        )
        .order_by(delivery.c.created_at)
        .limit(claimed.per_destination)
    ).scalars()
    for delivery_id in waiting.all():
        outbox.add(connection, outbox.DELIVER, delivery_id)


def _mine(claimed: Claim) -> Any:
    return sa.and_(
        delivery.c.id == claimed.delivery_id,
        delivery.c.attempt == claimed.attempt,
        delivery.c.state == DeliveryState.SENDING,
    )


def record_answers(connection: Connection, claimed: Claim, answers: Mapping[int, tuple[int, str, bool]]) -> bool:
    """Keep the answers (derived id -> status, words, accepted) and renew the lease. False when no longer ours."""
    renewed = connection.execute(sa.update(delivery).where(_mine(claimed)).values(lease_until=now() + claimed.lease_s))
    for derived_id, (status, words, accepted) in answers.items():
        # an acceptance is a fact whoever reports it; it is never taken back
        connection.execute(
            sa.update(delivery_instance)
            .where(
                delivery_instance.c.delivery_id == claimed.delivery_id,
                delivery_instance.c.derived_id == derived_id,
                delivery_instance.c.accepted_at.is_(None),
            )
            .values(status=status, comment=words, **({"accepted_at": now()} if accepted else {}))
        )
    return renewed.rowcount == 1


def end(
    connection: Connection,
    claimed: Claim,
    state: DeliveryState,
    *,
    error: str | None = None,
    retry_in_s: float | None = None,
) -> bool:
    """SENDING to DELIVERED, to FAILED, or back to QUEUED for `retry_in_s` seconds. False when no longer ours."""
    ended = state is not DeliveryState.QUEUED
    row = connection.execute(
        sa.update(delivery)
        .where(_mine(claimed), delivery.c.state.in_(delivery_sources(state)))
        .values(
            state=state,
            error=error,
            lease_owner=None,
            lease_until=None,
            finished_at=now() if ended else None,
            not_before=now() + (retry_in_s or 0.0),
        )
        .returning(delivery.c.not_before)
    ).one_or_none()
    if row is None:
        return False
    if not ended:
        outbox.add(connection, outbox.DELIVER, claimed.delivery_id, due_at=row.not_before)
    _offer_place(connection, claimed)
    timeline.record(
        connection, claimed.series_id, "deliver", state.lower() if ended else "will try again",
        job_id=claimed.job_id, destination=claimed.destination, attempt=claimed.attempt, reason=error,
        retry_in_s=retry_in_s,
    )  # fmt: skip
    return True


def take_back(connection: Connection, *, owner: str | None = None) -> int:
    """Return deliveries whose lease ended, or all those of `owner`, to the queue. Their number."""
    lost = delivery.c.lease_owner == owner if owner else delivery.c.lease_until < now()
    rows = connection.execute(
        sa.update(delivery)
        .where(delivery.c.state == DeliveryState.SENDING, lost)
        .values(
            state=DeliveryState.QUEUED,
            lease_owner=None,
            lease_until=None,
            not_before=now(),
            error="the sender died or heard nothing",
        )
        .returning(delivery.c.id)
    ).scalars()
    taken = list(rows)
    for delivery_id in taken:
        outbox.add(connection, outbox.DELIVER, delivery_id)
    return len(taken)


def send_again(connection: Connection, delivery_id: str, *, whole: bool, give_up_s: float) -> bool:
    """An administrator's wish: a delivery that ended goes back to the queue; `whole` sends every instance again."""
    row = connection.execute(
        sa.update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state.in_(delivery_sources(DeliveryState.QUEUED)))
        .where(delivery.c.state != DeliveryState.SENDING)
        .values(
            state=DeliveryState.QUEUED,
            error=None,
            not_before=now(),
            give_up_at=now() + give_up_s,
            finished_at=None,
        )
        .returning(delivery.c.job_id)
    ).one_or_none()
    if row is None:
        return False
    if whole:
        connection.execute(
            sa.update(delivery_instance).where(delivery_instance.c.delivery_id == delivery_id).values(accepted_at=None)
        )
    outbox.add(connection, outbox.DELIVER, delivery_id)
    return True

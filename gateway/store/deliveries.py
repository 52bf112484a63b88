"""Deliveries: one job's result on its way to one destination, with the answer to each instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.schedule import RetrySchedule
from gateway.domain.states import DELIVERY_ENDED, DeliveryState, delivery_sources
from gateway.store import destinations, outbox, retention, timeline
from gateway.store.database import now
from gateway.store.destinations import Gate
from gateway.store.tables import delivery, delivery_instance, derived, job, series, study


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
    places: int  # transfers that the destination may have at a time
    to_send: tuple[ToSend, ...]
    time_left_s: float  # until it is given up


def subject_of(connection: Connection, series_id: int) -> tuple[str, str]:
    """The Study Instance UID and the Patient ID of a series, for the audit trail."""
    row = connection.execute(
        sa.select(study.c.uid, study.c.patient_id)
        .join(series, series.c.study_uid == study.c.uid)
        .where(series.c.id == series_id)
    ).one()
    return row.uid, row.patient_id


def destination_of(connection: Connection, delivery_id: str) -> str | None:
    """Where a delivery goes; None when there is none of that id."""
    name = connection.execute(
        sa.select(delivery.c.destination).where(delivery.c.id == delivery_id)
    ).scalar_one_or_none()
    if name is None:
        outbox.claimed(connection, outbox.DELIVER, delivery_id)
    return name


def claim(
    connection: Connection,
    delivery_id: str,
    owner: str,
    lease_s: float,
    places: int,
    *,
    quiet_until: float | None = None,
) -> Claim | None:
    """Take a queued delivery, or None when it may not go: there is nothing to do, or the destination is not open.

    `places` is how many transfers the destination may have at a time, `quiet_until` the end of its quiet hours.
    """
    name = destination_of(connection, delivery_id)
    if name is None:
        return None
    gate = destinations.lock(connection, name)
    outbox.claimed(connection, outbox.DELIVER, delivery_id)
    row = connection.execute(sa.select(delivery).where(delivery.c.id == delivery_id)).one()
    if row.state != DeliveryState.QUEUED:
        destinations.announce_next(connection, gate, places)  # it may have been announced for the only free place
        return None
    if gate.is_held:
        return None  # the release announces it
    if quiet_until is not None:
        destinations.be_quiet(connection, name, quiet_until)
        outbox.add(connection, outbox.DELIVER, delivery_id, due_at=quiet_until)
        return None
    if max(row.not_before, gate.opens_at) > gate.now:
        destinations.announce_next(connection, gate, places)
        return None
    if destinations.at_work(connection, name) >= gate.places(places):
        return None  # whoever is at work announces the next
    return _take(connection, delivery_id, owner, lease_s, places)


def _take(connection: Connection, delivery_id: str, owner: str, lease_s: float, places: int) -> Claim:
    row = connection.execute(
        sa.update(delivery)
        .where(delivery.c.id == delivery_id)
        .values(
            state=DeliveryState.SENDING,
            attempt=delivery.c.attempt + 1,
            lease_owner=owner,
            lease_until=now() + lease_s,
            started_at=sa.func.coalesce(delivery.c.started_at, now()),
        )
        .returning(delivery, now().label("now"))
    ).one()
    to_send = connection.execute(
        sa.select(derived)
        .join(delivery_instance, delivery_instance.c.derived_id == derived.c.id)
        .where(delivery_instance.c.delivery_id == delivery_id, delivery_instance.c.accepted_at.is_(None))
        .order_by(derived.c.instance_number, derived.c.id)
    ).all()
    series_id = connection.execute(sa.select(job.c.series_id).where(job.c.id == row.job_id)).scalar_one()
    return Claim(
        delivery_id, row.attempt, lease_s, row.job_id, series_id, row.destination, places,
        tuple(
            ToSend(item.id, item.sop_instance_uid, item.sop_class_uid, item.transfer_syntax_uid, item.path, item.sha256)
            for item in to_send
        ),
        row.give_up_at - row.now,
    )  # fmt: skip


def _mine(claimed: Claim) -> Any:
    return sa.and_(
        delivery.c.id == claimed.delivery_id,
        delivery.c.attempt == claimed.attempt,
        delivery.c.state == DeliveryState.SENDING,
    )


def renew(connection: Connection, claimed: Claim) -> bool:
    """Bytes go out: the lease begins anew. False when the delivery is no longer ours."""
    renewed = connection.execute(sa.update(delivery).where(_mine(claimed)).values(lease_until=now() + claimed.lease_s))
    return renewed.rowcount == 1


def record_answers(connection: Connection, claimed: Claim, answers: Mapping[int, tuple[int, str, bool]]) -> bool:
    """Keep the answers (derived id -> status, words, accepted) and renew the lease. False when no longer ours."""
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
    if any(accepted for _, _, accepted in answers.values()):
        destinations.took_something(connection, claimed.destination, claimed.places)
    return renew(connection, claimed)


def end(
    connection: Connection,
    claimed: Claim,
    state: DeliveryState,
    *,
    error: str | None = None,
    retry_in_s: float | None = None,
    outage: RetrySchedule | None = None,
) -> bool:
    """SENDING to COMMITTING, DELIVERED, FAILED, or back to QUEUED for `retry_in_s` seconds. False when no longer ours.

    `outage` says when a destination that took nothing is asked again, and that it was one.
    """
    waits = state is DeliveryState.QUEUED
    gate = destinations.lock(connection, claimed.destination)
    moved = connection.execute(
        sa.update(delivery)
        .where(_mine(claimed), delivery.c.state.in_(delivery_sources(state)))
        .values(
            state=state,
            error=error,
            lease_owner=None,
            lease_until=None,
            finished_at=now() if state in DELIVERY_ENDED else None,
            not_before=now() + (retry_in_s or 0.0),
        )
    )
    if moved.rowcount == 0:
        return False
    if state is DeliveryState.COMMITTING:
        outbox.add(connection, outbox.COMMIT, claimed.delivery_id)
    if outage is not None:
        destinations.took_nothing(connection, gate, claimed.delivery_id, error or "", outage)
        gate = destinations.lock(connection, claimed.destination)
        _give_up_overdue(connection, gate, error or "")
    timeline.record(
        connection, claimed.series_id, "deliver", "will try again" if waits else state.lower(),
        job_id=claimed.job_id, destination=claimed.destination, attempt=claimed.attempt, reason=error,
        retry_in_s=retry_in_s,
    )  # fmt: skip
    destinations.announce_next(connection, gate, claimed.places)
    return True


def _give_up_overdue(connection: Connection, gate: Gate, error: str) -> None:
    """What waits behind an outage ends when its time is over, without an attempt of its own."""
    reason = f"given up after waiting for {gate.name}: {error}"
    rows = connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.destination == gate.name,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.give_up_at < now(),
        )
        .values(state=DeliveryState.FAILED, error=reason, finished_at=now())
        .returning(delivery.c.job_id)
    ).all()
    for row in rows:
        _record(connection, row.job_id, "failed", destination=gate.name, reason=reason)


def held_by(connection: Connection, owner: str) -> set[str]:
    """Ids of the deliveries on which `owner` holds a lease that has not ended."""
    mine = sa.and_(
        delivery.c.lease_owner == owner, delivery.c.state == DeliveryState.SENDING, delivery.c.lease_until > now()
    )
    return set(connection.execute(sa.select(delivery.c.id).where(mine)).scalars())


def take_back(connection: Connection, *, owner: str | None = None) -> int:
    """Return deliveries whose lease ended, or all those of `owner`, to the queue; FAILED when their time is over.

    Their number.
    """
    lost = delivery.c.lease_owner == owner if owner else delivery.c.lease_until < now()
    rows = connection.execute(
        sa.update(delivery)
        .where(delivery.c.state == DeliveryState.SENDING, lost)
        .values(
            state=sa.case((delivery.c.give_up_at < now(), DeliveryState.FAILED), else_=DeliveryState.QUEUED),
            lease_owner=None,
            lease_until=None,
            not_before=now(),
            error="the sender died or heard nothing",
        )
        .returning(delivery.c.id)
    ).scalars()
    taken = list(rows)
    for delivery_id in taken:
        # announced in any case: whoever finds that it has ended, announces the next
        outbox.add(connection, outbox.DELIVER, delivery_id)
    return len(taken)


def cancel(connection: Connection, delivery_id: str, *, by: str) -> bool:
    """An administrator's wish: a delivery that has not ended does. What was accepted stays where it is."""
    name = destination_of(connection, delivery_id)
    if name is None:
        return False
    gate = destinations.lock(connection, name)
    row = connection.execute(
        sa.update(delivery)
        .where(delivery.c.id == delivery_id, delivery.c.state.in_(delivery_sources(DeliveryState.CANCELLED)))
        .values(
            state=DeliveryState.CANCELLED, error=f"cancelled by {by}", lease_owner=None, lease_until=None,
            finished_at=now(),
        )
        .returning(delivery.c.job_id)
    ).one_or_none()  # fmt: skip
    if row is None:
        return False
    outbox.claimed(connection, outbox.DELIVER, delivery_id)
    _record(connection, row.job_id, "cancelled", destination=name, by=by)
    # how many places there are, the settings know: one is free for certain
    destinations.announce_next(connection, gate, destinations.at_work(connection, name) + 1)
    return True


def send_now(connection: Connection, delivery_id: str, *, by: str) -> bool:
    """Somebody's wish: a delivery that waits for another attempt does not wait any longer.

    False when it waits for none, or its destination is held: then it goes when that is released.
    """
    name = destination_of(connection, delivery_id)
    if name is None:
        return False
    gate = destinations.lock(connection, name)
    row = connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.id == delivery_id,
            delivery.c.state == DeliveryState.QUEUED,
            sa.or_(delivery.c.not_before > gate.now, sa.literal(gate.opens_at > gate.now)),
            sa.literal(not gate.is_held),
        )
        .values(not_before=gate.now)
        .returning(delivery.c.job_id)
    ).one_or_none()
    if row is None:
        return False
    destinations.ask_now(connection, name)
    _record(connection, row.job_id, "asked for now", destination=name, by=by)
    outbox.add(connection, outbox.DELIVER, delivery_id)
    return True


def send_again(connection: Connection, delivery_id: str, *, whole: bool, give_up_s: float, by: str = "") -> bool:
    """Somebody's wish: a delivery that ended goes back to the queue; `whole` sends every instance again.

    False also when retention has deleted the files.
    """
    if not retention.keep_files(
        connection, sa.select(delivery.c.job_id).where(delivery.c.id == delivery_id).scalar_subquery()
    ):
        return False
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
        .returning(delivery.c.job_id, delivery.c.destination)
    ).one_or_none()
    if row is None:
        return False
    if whole:
        connection.execute(
            sa.update(delivery_instance).where(delivery_instance.c.delivery_id == delivery_id).values(accepted_at=None)
        )
    _record(connection, row.job_id, "asked for again", destination=row.destination, whole=whole, by=by or None)
    outbox.add(connection, outbox.DELIVER, delivery_id)
    return True


def failed(connection: Connection, name: str) -> list[str]:
    """The deliveries to a destination that FAILED, whose result was not superseded; oldest first."""
    rows = connection.execute(
        sa.select(delivery.c.id)
        .join(job, job.c.id == delivery.c.job_id)
        .where(delivery.c.destination == name, delivery.c.state == DeliveryState.FAILED, job.c.superseded.is_(False))
        .order_by(delivery.c.created_at)
    )
    return list(rows.scalars())


def _record(connection: Connection, job_id: str, what: str, **detail: Any) -> None:
    series_id = connection.execute(sa.select(job.c.series_id).where(job.c.id == job_id)).scalar_one()
    timeline.record(connection, series_id, "deliver", what, job_id=job_id, **detail)

"""Deliveries that are COMMITTING: the destination has every instance and was asked whether it keeps them.

Each question is a transaction of its own, on record before it is asked. Its report may come over any association, to
any process, long after; what it says decides, whoever asked last. A destination is asked one thing at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.commitment import CommitmentReport, CommitmentRequest, SopReference
from gateway.domain.schedule import RetrySchedule
from gateway.domain.states import DELIVERY_ENDED, DeliveryState, delivery_sources
from gateway.domain.uids import derived_uid
from gateway.store import outbox, timeline
from gateway.store.database import now
from gateway.store.tables import delivery, delivery_commitment, delivery_instance, derived, job

_BUSY_S = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """The right to ask a destination, until the lease ends; `number` counts the questions about this delivery."""

    delivery_id: str
    job_id: str
    series_id: int
    destination: str
    request: CommitmentRequest
    number: int
    time_left_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a report means for its delivery; `state` is None when the delivery waits for no report any more."""

    delivery_id: str
    state: DeliveryState | None
    reason: str | None


def claim(connection: Connection, delivery_id: str, owner: str, lease_s: float, uid_root: str) -> Question | None:
    """Take a delivery about which it is time to ask, with a new transaction; None when it is not."""
    other = delivery.alias("other")
    destination_is_being_asked = sa.exists().where(
        other.c.destination == delivery.c.destination,
        other.c.state == DeliveryState.COMMITTING,
        other.c.lease_owner.is_not(None),
        other.c.not_before > now(),
    )
    taken = connection.execute(
        sa.update(delivery)
        .where(_is_committing(delivery_id), delivery.c.not_before <= now(), sa.not_(destination_is_being_asked))
        .values(not_before=now() + lease_s, lease_owner=owner)
    )
    row = connection.execute(sa.select(delivery, now().label("now")).where(_is_committing(delivery_id))).one_or_none()
    if row is None:
        outbox.claimed(connection, outbox.COMMIT, delivery_id)
        return None
    due_at = row.not_before if taken.rowcount else max(row.not_before, row.now + _BUSY_S)
    outbox.add(connection, outbox.COMMIT, delivery_id, due_at=due_at)
    if taken.rowcount == 0:
        return None
    number = _questions(connection, delivery_id) + 1
    transaction_uid = derived_uid(uid_root, "storage commitment", delivery_id, str(number))
    connection.execute(
        sa.insert(delivery_commitment).values(transaction_uid=transaction_uid, delivery_id=delivery_id, asked_at=now())
    )
    series_id = connection.execute(sa.select(job.c.series_id).where(job.c.id == row.job_id)).scalar_one()
    instances = tuple(SopReference(sop_class, uid) for sop_class, uid, _ in _instances(connection, delivery_id))
    return Question(
        delivery_id, row.job_id, series_id, row.destination, CommitmentRequest(transaction_uid, instances),
        number, row.give_up_at - row.now,
    )  # fmt: skip


def asked(connection: Connection, question: Question, report_within_s: float) -> None:
    """The destination took the question; without a report in time it is asked again."""
    connection.execute(
        sa.update(delivery_commitment)
        .where(delivery_commitment.c.transaction_uid == question.request.transaction_uid)
        .values(accepted_at=now())
    )
    if not _ask_again(connection, question, report_within_s, None):
        return  # the report was faster
    timeline.record(
        connection, question.series_id, "commit", "asked for commitment",
        job_id=question.job_id, destination=question.destination, number=question.number,
        transaction_uid=question.request.transaction_uid,
    )  # fmt: skip


def not_asked(connection: Connection, question: Question, reason: str, retry_in_s: float | None) -> None:
    """The destination did not take the question: it is asked again, or without `retry_in_s` the delivery FAILED."""
    if retry_in_s is not None:
        moved = _ask_again(connection, question, retry_in_s, reason)
    else:
        moved = _move(connection, question.delivery_id, DeliveryState.FAILED, reason)
    if not moved:
        return
    timeline.record(
        connection, question.series_id, "commit", "failed" if retry_in_s is None else "will ask again",
        job_id=question.job_id, destination=question.destination, number=question.number, reason=reason,
        retry_in_s=retry_in_s,
    )  # fmt: skip


def heard(connection: Connection, report: CommitmentReport, schedule: RetrySchedule) -> Verdict | None:
    """Take a report to its delivery; None when nobody asked under this Transaction UID.

    What is not committed is sent again, when `schedule` says.
    """
    delivery_id = connection.execute(
        sa.update(delivery_commitment)
        .where(delivery_commitment.c.transaction_uid == report.transaction_uid)
        .values(reported_at=sa.func.coalesce(delivery_commitment.c.reported_at, now()))
        .returning(delivery_commitment.c.delivery_id)
    ).scalar_one_or_none()
    if delivery_id is None:
        return None
    row = connection.execute(
        sa.select(delivery, now().label("now")).where(_is_committing(delivery_id)).with_for_update()
    ).one_or_none()
    if row is None:
        return Verdict(delivery_id, None, None)
    instances = {uid: derived_id for _, uid, derived_id in _instances(connection, delivery_id)}
    lost = report.not_committed(instances)
    reason, state, wait_s = None, DeliveryState.DELIVERED, None
    if lost:
        _to_be_sent_again(connection, delivery_id, {instances[uid]: words for uid, words in lost.items()})
        words = "; ".join(dict.fromkeys(lost.values()))
        reason = f"{len(lost)} of {len(instances)} instances not committed: {words}"
        state = DeliveryState.FAILED if row.give_up_at < row.now else DeliveryState.QUEUED
    if state is DeliveryState.QUEUED:
        wait_s = schedule.wait_s(delivery_id, _questions(connection, delivery_id))
    _move(connection, delivery_id, state, reason, wait_s)
    series_id = connection.execute(sa.select(job.c.series_id).where(job.c.id == row.job_id)).scalar_one()
    timeline.record(
        connection, series_id, "commit", "will send again" if state is DeliveryState.QUEUED else state.lower(),
        job_id=row.job_id, destination=row.destination, transaction_uid=report.transaction_uid, reason=reason,
        retry_in_s=wait_s,
    )  # fmt: skip
    return Verdict(delivery_id, state, reason)


def take_back(connection: Connection, owner: str) -> int:
    """What `owner` was about to ask when it died is asked at once. The number of deliveries."""
    rows = connection.execute(
        sa.update(delivery)
        .where(delivery.c.state == DeliveryState.COMMITTING, delivery.c.lease_owner == owner)
        .values(lease_owner=None, not_before=now())
        .returning(delivery.c.id)
    ).scalars()
    taken = rows.all()
    for delivery_id in taken:
        outbox.add(connection, outbox.COMMIT, delivery_id)
    return len(taken)


def _is_committing(delivery_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(delivery.c.id == delivery_id, delivery.c.state == DeliveryState.COMMITTING)


def _instances(connection: Connection, delivery_id: str) -> list[tuple[str, str, int]]:
    """SOP Class UID, SOP Instance UID and derived id of each instance of a delivery."""
    rows = connection.execute(
        sa.select(derived.c.sop_class_uid, derived.c.sop_instance_uid, derived.c.id)
        .join(delivery_instance, delivery_instance.c.derived_id == derived.c.id)
        .where(delivery_instance.c.delivery_id == delivery_id)
        .order_by(derived.c.instance_number, derived.c.id)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _questions(connection: Connection, delivery_id: str) -> int:
    query = sa.select(sa.func.count()).where(delivery_commitment.c.delivery_id == delivery_id)
    return int(connection.execute(query).scalar_one())


def _to_be_sent_again(connection: Connection, delivery_id: str, lost: Mapping[int, str]) -> None:
    for derived_id, words in lost.items():
        connection.execute(
            sa.update(delivery_instance)
            .where(delivery_instance.c.delivery_id == delivery_id, delivery_instance.c.derived_id == derived_id)
            .values(accepted_at=None, comment=f"not committed: {words}")
        )


def _ask_again(connection: Connection, question: Question, wait_s: float, reason: str | None) -> bool:
    """False when the delivery is not committing any more, or somebody else has asked since."""
    if _questions(connection, question.delivery_id) != question.number:
        return False
    due = connection.execute(
        sa.update(delivery)
        .where(_is_committing(question.delivery_id))
        .values(not_before=now() + wait_s, lease_owner=None, error=reason)
        .returning(delivery.c.not_before)
    ).scalar_one_or_none()
    if due is None:
        return False
    outbox.add(connection, outbox.COMMIT, question.delivery_id, due_at=due)
    return True


def _move(
    connection: Connection, delivery_id: str, state: DeliveryState, reason: str | None, wait_s: float | None = None
) -> bool:
    """COMMITTING to `state`; False when the delivery was not committing any more."""
    due = connection.execute(
        sa.update(delivery)
        .where(_is_committing(delivery_id), delivery.c.state.in_(delivery_sources(state)))
        .values(
            state=state,
            error=reason,
            lease_owner=None,
            finished_at=now() if state in DELIVERY_ENDED else None,
            not_before=now() + (wait_s or 0.0),
        )
        .returning(delivery.c.not_before)
    ).scalar_one_or_none()
    if due is None:
        return False
    outbox.claimed(connection, outbox.COMMIT, delivery_id)
    if state is DeliveryState.QUEUED:
        outbox.add(connection, outbox.DELIVER, delivery_id, due_at=due)
    return True

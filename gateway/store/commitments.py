"""What peers asked us to commit to (PS3.4 Annex J): kept before the request is answered, until the peer was told.

A row is PENDING until a peer took the report. Whoever reports has a lease; the outbox announces the row again when the
lease ends, so a reporter that dies costs time and nothing else. A peer is told one thing at a time: one that does not
answer keeps one thread waiting.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from gateway.domain.commitment import CommitmentRequest, SopReference
from gateway.domain.states import CommitmentState
from gateway.store import outbox
from gateway.store.database import now
from gateway.store.tables import commitment, instance

_UIDS_AT_A_TIME = 500
_BUSY_S = 5.0
_LATELY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a peer that was not reported on; `age_s` since it came."""

    commitment_id: str
    calling_ae_title: str
    request: CommitmentRequest
    attempt: int
    age_s: float
    time_left_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """An instance that has a row: its SOP Class, and where its file should be."""

    sop_class_uid: str
    path: str
    size_bytes: int


def keep(
    connection: Connection,
    request: CommitmentRequest,
    *,
    calling_ae_title: str,
    called_ae_title: str,
    address: str,
    hold_s: float,
    give_up_s: float,
) -> bool:
    """Keep a request, which nobody else reports on for `hold_s`; the same request again is one request.

    False when the Transaction UID is in use: the peer asked for other instances under it, and was not told yet.
    """
    instances = [[one.sop_class_uid, one.sop_instance_uid] for one in request.instances]
    waiting = find(connection, calling_ae_title, request.transaction_uid)
    if waiting is not None and waiting.request.instances != request.instances:
        return False
    values: dict[str, Any] = {
        "instances": instances,
        "state": CommitmentState.PENDING,
        "lease_until": None,
        "ended_at": None,
        "not_before": now() + hold_s,
        "requested_at": now(),
        "give_up_at": now() + give_up_s,
    }
    statement = outbox.insert_for(connection, commitment).values(
        id=str(uuid.uuid4()),
        transaction_uid=request.transaction_uid,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        address=address,
        attempt=0,
        **values,
    )
    row = connection.execute(
        statement.on_conflict_do_update(index_elements=["calling_ae_title", "transaction_uid"], set_=values).returning(
            commitment.c.id, commitment.c.not_before
        )
    ).one()
    outbox.add(connection, outbox.VOUCH, row.id, due_at=row.not_before)
    return True


def find(connection: Connection, calling_ae_title: str, transaction_uid: str) -> Asked | None:
    """The request that a peer made under this Transaction UID, if it was not reported on."""
    row = connection.execute(
        _asked().where(
            commitment.c.calling_ae_title == calling_ae_title, commitment.c.transaction_uid == transaction_uid
        )
    ).one_or_none()
    return None if row is None else _read(row._mapping)


def claim(connection: Connection, commitment_id: str, lease_s: float) -> Asked | None:
    """Take a request on which it is time to report, or None."""
    other = commitment.alias("other")
    peer_is_being_told = sa.exists().where(
        other.c.calling_ae_title == commitment.c.calling_ae_title,
        other.c.state == CommitmentState.PENDING,
        other.c.lease_until > now(),
    )
    taken = connection.execute(
        sa.update(commitment)
        .where(
            commitment.c.id == commitment_id,
            commitment.c.state == CommitmentState.PENDING,
            commitment.c.not_before <= now(),
            sa.not_(peer_is_being_told),
        )
        .values(attempt=commitment.c.attempt + 1, lease_until=now() + lease_s)
    )
    row = connection.execute(_asked().where(commitment.c.id == commitment_id)).one_or_none()
    if row is None:
        outbox.claimed(connection, outbox.VOUCH, commitment_id)
        return None
    due_at = row.lease_until if taken.rowcount else max(row.not_before, row.now + _BUSY_S)
    outbox.add(connection, outbox.VOUCH, commitment_id, due_at=due_at)
    return _read(row._mapping) if taken.rowcount else None


def reported(connection: Connection, asked: Asked, not_held: int) -> None:
    """The peer was told; `not_held` instances of the request are not here."""
    _end(connection, asked, CommitmentState.REPORTED, not_held=not_held, error=None)


def failed(connection: Connection, asked: Asked, reason: str) -> None:
    """The peer will not be told."""
    _end(connection, asked, CommitmentState.FAILED, error=reason)


def _end(connection: Connection, asked: Asked, state: CommitmentState, **values: Any) -> None:
    connection.execute(
        sa.update(commitment)
        .where(commitment.c.id == asked.commitment_id, commitment.c.state == CommitmentState.PENDING)
        # thousands of UIDs that nobody asks for any more
        .values(state=state, instances=[], lease_until=None, ended_at=now(), **values)
    )
    outbox.claimed(connection, outbox.VOUCH, asked.commitment_id)


def later(connection: Connection, asked: Asked, wait_s: float, reason: str | None = None) -> None:
    """Nobody reports for `wait_s`; `reason` is why the last report did not reach the peer."""
    _postpone(connection, commitment.c.id == asked.commitment_id, wait_s, reason)


def peer_is_away(connection: Connection, asked: Asked, wait_s: float, reason: str) -> None:
    """The peer could not be reached: none of its reports is tried for `wait_s`."""
    _postpone(connection, commitment.c.calling_ae_title == asked.calling_ae_title, wait_s, reason)


def _postpone(connection: Connection, which: sa.ColumnElement[bool], wait_s: float, reason: str | None) -> None:
    rows = connection.execute(
        sa.update(commitment)
        .where(which, commitment.c.state == CommitmentState.PENDING)
        .values(lease_until=None, not_before=now() + wait_s, error=reason)
        .returning(commitment.c.id, commitment.c.not_before)
    ).all()
    for row in rows:
        outbox.add(connection, outbox.VOUCH, row.id, due_at=row.not_before)


def leave(connection: Connection, calling_ae_title: str, transaction_uids: Sequence[str]) -> None:
    """The association that brought these requests is over: whoever can may report now."""
    rows = connection.execute(
        sa.update(commitment)
        .where(
            commitment.c.calling_ae_title == calling_ae_title,
            commitment.c.transaction_uid.in_(transaction_uids),
            commitment.c.state == CommitmentState.PENDING,
        )
        .values(not_before=now())
        .returning(commitment.c.id)
    ).scalars()
    for commitment_id in rows.all():
        outbox.add(connection, outbox.VOUCH, commitment_id)


def held(connection: Connection, sop_instance_uids: Collection[str]) -> dict[str, Held]:
    """Those of `sop_instance_uids` that have a row."""
    uids = list(sop_instance_uids)
    found: dict[str, Held] = {}
    for start in range(0, len(uids), _UIDS_AT_A_TIME):
        rows = connection.execute(
            sa.select(
                instance.c.sop_instance_uid, instance.c.sop_class_uid, instance.c.path, instance.c.size_bytes
            ).where(instance.c.sop_instance_uid.in_(uids[start : start + _UIDS_AT_A_TIME]))
        )
        found.update((row.sop_instance_uid, Held(row.sop_class_uid, row.path, row.size_bytes)) for row in rows)
    return found


def forget(connection: Connection, age_s: float) -> int:
    """Delete what was asked more than `age_s` ago and has ended. The number of requests."""
    return connection.execute(
        sa.delete(commitment).where(
            commitment.c.state != CommitmentState.PENDING, commitment.c.requested_at < now() - age_s
        )
    ).rowcount


def overview(connection: Connection) -> dict[str, Any]:
    """How many requests are in each state, and those that could not be answered lately, by peer with a reason."""
    counts = connection.execute(sa.select(commitment.c.state, sa.func.count()).group_by(commitment.c.state))
    unanswered = connection.execute(
        sa.select(
            commitment.c.calling_ae_title,
            sa.func.count().label("requests"),
            sa.func.max(commitment.c.error).label("error"),
            sa.func.min(commitment.c.requested_at).label("oldest_at"),
        )
        .where(
            commitment.c.state.in_([CommitmentState.PENDING, CommitmentState.FAILED]),
            commitment.c.error.is_not(None),
            sa.or_(commitment.c.ended_at.is_(None), commitment.c.ended_at > now() - _LATELY_S),
        )
        .group_by(commitment.c.calling_ae_title)
        .order_by(commitment.c.calling_ae_title)
    ).mappings()
    return {"counts": {row[0]: row[1] for row in counts}, "unanswered": [dict(row) for row in unanswered]}


def _asked() -> sa.Select[Any]:
    return sa.select(
        commitment.c.id, commitment.c.calling_ae_title, commitment.c.transaction_uid, commitment.c.instances,
        commitment.c.attempt, commitment.c.lease_until, commitment.c.not_before, now().label("now"),
        (now() - commitment.c.requested_at).label("age_s"), (commitment.c.give_up_at - now()).label("time_left_s"),
    ).where(commitment.c.state == CommitmentState.PENDING)  # fmt: skip


def _read(row: RowMapping) -> Asked:
    instances = tuple(SopReference(*pair) for pair in row["instances"])
    return Asked(
        commitment_id=row["id"],
        calling_ae_title=row["calling_ae_title"],
        request=CommitmentRequest(row["transaction_uid"], instances),
        attempt=row["attempt"],
        age_s=row["age_s"],
        time_left_s=row["time_left_s"],
    )

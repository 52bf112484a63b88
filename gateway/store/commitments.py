"""What peers asked us to commit to (PS3.4 Annex J): kept before the request is answered, until the peer was told.

A row is PENDING until a peer took the report. Whoever reports has a lease; the outbox announces the row again when the
lease ends, so a reporter that dies costs time and nothing else.
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

    False when the peer has used the Transaction UID for other instances.
    """
    instances = [[one.sop_class_uid, one.sop_instance_uid] for one in request.instances]
    values: dict[str, Any] = {
        "state": CommitmentState.PENDING,
        "lease_until": now() + hold_s,
        "requested_at": now(),
        "give_up_at": now() + give_up_s,
    }
    statement = outbox.insert_for(connection, commitment).values(
        id=str(uuid.uuid4()),
        transaction_uid=request.transaction_uid,
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        address=address,
        instances=instances,
        attempt=0,
        **values,
    )
    row = connection.execute(
        statement.on_conflict_do_update(index_elements=["calling_ae_title", "transaction_uid"], set_=values).returning(
            commitment.c.id, commitment.c.instances, commitment.c.lease_until
        )
    ).one()
    if row.instances != instances:
        return False
    outbox.add(connection, outbox.VOUCH, row.id, due_at=row.lease_until)
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
    """Take a request that nobody reports on at present, or None."""
    lease_until = connection.execute(
        sa.update(commitment)
        .where(
            commitment.c.id == commitment_id,
            commitment.c.state == CommitmentState.PENDING,
            sa.or_(commitment.c.lease_until.is_(None), commitment.c.lease_until <= now()),
        )
        .values(attempt=commitment.c.attempt + 1, lease_until=now() + lease_s)
        .returning(commitment.c.lease_until)
    ).scalar_one_or_none()
    asked = connection.execute(_asked().where(commitment.c.id == commitment_id)).one_or_none()
    if asked is None:
        outbox.claimed(connection, outbox.VOUCH, commitment_id)
        return None
    outbox.add(connection, outbox.VOUCH, commitment_id, due_at=asked.lease_until)
    return None if lease_until is None else _read(asked._mapping)


def reported(connection: Connection, asked: Asked, not_held: int) -> None:
    """The peer was told; `not_held` instances of the request are not here."""
    connection.execute(
        sa.update(commitment)
        .where(commitment.c.id == asked.commitment_id, commitment.c.state == CommitmentState.PENDING)
        .values(state=CommitmentState.REPORTED, lease_until=None, reported_at=now(), not_held=not_held, error=None)
    )
    outbox.claimed(connection, outbox.VOUCH, asked.commitment_id)


def failed(connection: Connection, asked: Asked, reason: str) -> None:
    """The peer will not be told."""
    connection.execute(
        sa.update(commitment)
        .where(commitment.c.id == asked.commitment_id, commitment.c.state == CommitmentState.PENDING)
        .values(state=CommitmentState.FAILED, lease_until=None, error=reason)
    )
    outbox.claimed(connection, outbox.VOUCH, asked.commitment_id)


def later(connection: Connection, asked: Asked, wait_s: float, reason: str | None = None) -> None:
    """Nobody reports for `wait_s`; `reason` is why the last report did not reach the peer."""
    row = connection.execute(
        sa.update(commitment)
        .where(commitment.c.id == asked.commitment_id, commitment.c.state == CommitmentState.PENDING)
        .values(lease_until=now() + wait_s, error=reason)
        .returning(commitment.c.lease_until)
    ).one_or_none()
    if row is not None:
        outbox.add(connection, outbox.VOUCH, asked.commitment_id, due_at=row.lease_until)


def leave(connection: Connection, calling_ae_title: str, transaction_uids: Sequence[str]) -> None:
    """The association that brought these requests is over: whoever can may report now."""
    rows = connection.execute(
        sa.update(commitment)
        .where(
            commitment.c.calling_ae_title == calling_ae_title,
            commitment.c.transaction_uid.in_(transaction_uids),
            commitment.c.state == CommitmentState.PENDING,
        )
        .values(lease_until=None)
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


def overview(connection: Connection, limit: int) -> dict[str, Any]:
    """How many requests are in each state, and the latest of those that are not REPORTED."""
    counts = connection.execute(sa.select(commitment.c.state, sa.func.count()).group_by(commitment.c.state))
    open_ones = connection.execute(
        sa.select(
            commitment.c.calling_ae_title, commitment.c.transaction_uid, commitment.c.state,
            commitment.c.requested_at, commitment.c.attempt, commitment.c.error,
        )
        .where(commitment.c.state != CommitmentState.REPORTED)
        .order_by(commitment.c.requested_at.desc())
        .limit(limit)
    ).mappings()  # fmt: skip
    return {"counts": {row[0]: row[1] for row in counts}, "open": [dict(row) for row in open_ones]}


def _asked() -> sa.Select[Any]:
    return sa.select(
        commitment.c.id, commitment.c.calling_ae_title, commitment.c.transaction_uid, commitment.c.instances,
        commitment.c.attempt, commitment.c.lease_until,
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

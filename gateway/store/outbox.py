"""The outbox: work that was committed and waits to be claimed.

A row is inserted in the transaction that makes the work and deleted in the transaction that claims it. Between the
two it may be announced any number of times: a message carries one id, and a second one finds nothing to claim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from gateway.killpoints import reached
from gateway.store.database import Database, now
from gateway.store.tables import outbox

ROUTE, PROCESS, DELIVER, COMMIT, VOUCH = "route", "process", "deliver", "commit", "vouch"
SELF_TEST = "self-test"
_BATCH = 200

# (stage, subject, priority); raises gateway.errors.Unavailable when the broker does not take it
Publish = Callable[[str, str, int], None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows that were announced long ago and that nobody claimed."""

    stage: str
    rows: int


def insert_for(connection: Connection, table: sa.Table) -> Any:
    """The dialect's INSERT, which knows ON CONFLICT on both databases."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def add(connection: Connection, stage: str, subject: str, *, priority: int = 0, due_at: float | None = None) -> None:
    """Let `subject` be announced to `stage`, at once or at `due_at` (epoch seconds)."""
    due: Any = now() if due_at is None else due_at
    statement = insert_for(connection, outbox).values(
        stage=stage, subject=subject, priority=priority, due_at=due, created_at=now(), published_at=None
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["stage", "subject"],
            set_={"due_at": due, "published_at": None, "priority": priority},
        )
    )


def claimed(connection: Connection, stage: str, subject: str) -> None:
    """The work was taken, or there is none any more: stop announcing it."""
    connection.execute(sa.delete(outbox).where(outbox.c.stage == stage, outbox.c.subject == subject))


def relay(database: Database, publish: Publish) -> int:
    """Announce what is due and was not announced yet; the number announced.

    Announced first and marked second: a crash between the two announces twice, never not at all.
    """
    with database.read() as connection:
        rows = connection.execute(
            sa.select(outbox.c.id, outbox.c.stage, outbox.c.subject, outbox.c.priority)
            .where(outbox.c.published_at.is_(None), outbox.c.due_at <= now())
            .order_by(outbox.c.priority, outbox.c.id)
            .limit(_BATCH)
        ).all()
    if not rows:
        return 0
    for row in rows:
        publish(row.stage, row.subject, row.priority)
    reached("announce.published")
    with database.write() as connection:
        connection.execute(
            sa.update(outbox).where(outbox.c.id.in_([row.id for row in rows])).values(published_at=now())
        )
    reached("announce.marked")
    return len(rows)


def unclaimed(database: Database, older_than_s: float) -> list[Waiting]:
    """What was announced more than `older_than_s` ago and still waits, by stage."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(outbox.c.stage, sa.func.count())
            .where(outbox.c.published_at < now() - older_than_s)
            .group_by(outbox.c.stage)
        ).all()
    return [Waiting(stage, count) for stage, count in rows]


def announce_again(database: Database, stage: str, older_than_s: float) -> None:
    """Forget that the old rows of `stage` were announced: the broker lost them."""
    with database.write() as connection:
        connection.execute(
            sa.update(outbox)
            .where(outbox.c.stage == stage, outbox.c.published_at < now() - older_than_s)
            .values(published_at=None)
        )


def forget_announcement(connection: Connection, stage: str, subject: str) -> None:
    """Let a row be announced again: who heard of it does something else first."""
    connection.execute(
        sa.update(outbox).where(outbox.c.stage == stage, outbox.c.subject == subject).values(published_at=None)
    )


def next_due_in_s(connection: Connection) -> float | None:
    """Seconds until the next unannounced row is due, negative when overdue; None when there is none."""
    due = sa.select(sa.func.min(outbox.c.due_at) - now()).where(outbox.c.published_at.is_(None))
    value = connection.execute(due).scalar_one()
    return None if value is None else float(value)

"""What channels are to be told of alerts: claimed by one thread at a time, tried again, ended once.

Whoever claims a message pushes its time to the end of a lease; should it die, the message is sent again, under the
same id. A message waits until what came before it for the same alert and channel has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store.database import now
from gateway.store.tables import alert, alert_message

GIVE_UP_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed message and the alert that it is about; `age_s` since it was written."""

    message_id: int
    attempt: int
    channel: str
    change: str
    age_s: float
    alert: dict[str, Any]


def claim(connection: Connection, channel: str, lease_s: float) -> Message | None:
    """Take the next message of a channel that is due, for `lease_s`; None when there is none."""
    earlier = alert_message.alias("earlier")
    due = sa.and_(
        alert_message.c.channel == channel,
        alert_message.c.ended_at.is_(None),
        alert_message.c.not_before <= now(),
        ~sa.exists().where(
            earlier.c.alert_id == alert_message.c.alert_id, earlier.c.channel == channel,
            earlier.c.id < alert_message.c.id, earlier.c.ended_at.is_(None),
        ),
    )  # fmt: skip
    found = connection.execute(sa.select(alert_message.c.id).where(due).order_by(alert_message.c.id).limit(1))
    message_id = found.scalar_one_or_none()
    if message_id is None:
        return None
    row = connection.execute(
        sa.update(alert_message)
        .where(
            alert_message.c.id == message_id, alert_message.c.ended_at.is_(None), alert_message.c.not_before <= now()
        )
        .values(attempt=alert_message.c.attempt + 1, not_before=now() + lease_s)
        .returning(
            alert_message.c.alert_id, alert_message.c.attempt, alert_message.c.change,
            (now() - alert_message.c.created_at).label("age_s"),
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        return None  # another was quicker
    about = connection.execute(sa.select(alert).where(alert.c.id == row.alert_id)).one()
    return Message(message_id, row.attempt, channel, row.change, row.age_s, dict(about._mapping))


def sent(connection: Connection, message: Message) -> None:
    """The channel took it."""
    _end(connection, message, ended_at=now(), sent_at=now(), error=None)


def failed(connection: Connection, message: Message, error: str, retry_in_s: float | None) -> None:
    """The channel did not take it; without `retry_in_s`, or when it is too old, it never will."""
    if retry_in_s is None or message.age_s > GIVE_UP_S:
        _end(connection, message, ended_at=now(), error=error)
    else:
        _end(connection, message, not_before=now() + retry_in_s, error=error)


def _end(connection: Connection, message: Message, **values: Any) -> None:
    mine = sa.and_(
        alert_message.c.id == message.message_id,
        alert_message.c.attempt == message.attempt,
        alert_message.c.ended_at.is_(None),
    )
    connection.execute(sa.update(alert_message).where(mine).values(**values))

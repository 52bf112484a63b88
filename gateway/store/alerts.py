"""Alerts: one row for each cause, open until the cause is gone; and what each channel is to be told of it.

A row opens with its cause and is resolved without it. A cause that is back within the quiet time opens the same row
again: nobody was told of its end yet, for that waits until the quiet time is over. The index of open causes makes two
clocks that lead at once open one alert.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.alerts import Cause, Change
from gateway.store import paging
from gateway.store.database import now
from gateway.store.outbox import insert_for
from gateway.store.tables import alert, alert_message

_SEEN_EVERY_S = 60.0  # how old `last_at` gets before it is written again
_MOST_OPEN = 500

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is told of what: the channels there are, the quiet time, and after how long again (0 = never)."""

    channels: Sequence[str]
    quiet_s: float
    remind_s: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What has to be written so that the open alerts are those of the causes."""

    appeared: Sequence[Cause]
    seen: Sequence[tuple[int, Cause]]
    gone: Sequence[int]
    reminders: Sequence[tuple[int, int]]

    def __bool__(self) -> bool:
        return bool(self.appeared or self.seen or self.gone or self.reminders)


def changes(connection: Connection, causes: Collection[Cause], rules: Rules) -> Changes:
    """Compare the open alerts with the causes there are; writes nothing."""
    at = float(connection.execute(sa.select(now())).scalar_one())
    rows = {row.cause: row for row in connection.execute(sa.select(alert).where(alert.c.resolved_at.is_(None)))}
    there = {cause.key: cause for cause in causes}
    seen, reminders = [], []
    for key, row in rows.items():
        if (cause := there.get(key)) is None:
            continue
        if at - row.last_at > _SEEN_EVERY_S or _words(cause) != (row.severity, row.title, row.advice, row.link) \
                or cause.times != row.times:  # fmt: skip
            seen.append((row.id, cause))
        number = int((at - row.first_at) / rules.remind_s) if rules.remind_s else 0
        if number > row.reminders and row.acknowledged_at is None:
            reminders.append((row.id, number))
    return Changes(
        [cause for key, cause in there.items() if key not in rows],
        seen,
        [row.id for key, row in rows.items() if key not in there],
        reminders,
    )


def write(connection: Connection, found: Changes, rules: Rules) -> None:
    """Write the changes, each unless somebody else did; and the messages that tell of them."""
    for cause in found.appeared:
        if not _open_again(connection, cause, rules):
            _open(connection, cause, rules)
    for alert_id, cause in found.seen:
        connection.execute(
            sa.update(alert).where(alert.c.id == alert_id, alert.c.resolved_at.is_(None)).values(**_values(cause))
        )
    for alert_id in found.gone:
        resolved = sa.update(alert).where(alert.c.id == alert_id, alert.c.resolved_at.is_(None))
        if connection.execute(resolved.values(resolved_at=now())).rowcount:
            _tell(connection, alert_id, Change.RESOLVED, rules, rules.quiet_s)
    for alert_id, number in found.reminders:
        reminded = sa.update(alert).where(alert.c.id == alert_id, alert.c.reminders < number)
        if connection.execute(reminded.values(reminders=number)).rowcount:
            _tell(connection, alert_id, f"{Change.REMINDER} {number}", rules)


def _open(connection: Connection, cause: Cause, rules: Rules) -> None:
    alert_id = connection.execute(
        insert_for(connection, alert)
        .values(cause=cause.key, first_at=now(), reminders=0, **_values(cause))
        .on_conflict_do_nothing()
        .returning(alert.c.id)
    ).scalar_one_or_none()
    if alert_id is not None:
        _tell(connection, alert_id, Change.OPENED, rules)


def _open_again(connection: Connection, cause: Cause, rules: Rules) -> bool:
    """Open the alert that the same cause had a moment ago; False when there is none, or its end was told of."""
    lately = sa.select(alert.c.id).where(
        alert.c.cause == cause.key, alert.c.resolved_at > now() - rules.quiet_s,
        ~sa.exists().where(
            alert_message.c.alert_id == alert.c.id, alert_message.c.change == Change.RESOLVED,
            alert_message.c.attempt > 0,
        ),
    ).order_by(alert.c.id.desc()).limit(1)  # fmt: skip
    alert_id = connection.execute(lately).scalar_one_or_none()
    if alert_id is None:
        return False
    is_open = sa.exists().where(alert.c.cause == cause.key, alert.c.resolved_at.is_(None)).correlate(None)
    if connection.execute(sa.select(is_open)).scalar_one():
        return True  # another clock was here
    connection.execute(sa.update(alert).where(alert.c.id == alert_id).values(resolved_at=None, **_values(cause)))
    connection.execute(
        sa.delete(alert_message).where(alert_message.c.alert_id == alert_id, alert_message.c.change == Change.RESOLVED)
    )
    return True


def _words(cause: Cause) -> tuple[str, str, str, str]:
    return cause.severity, cause.title, cause.advice, cause.link


def _values(cause: Cause) -> Row:
    severity, title, advice, link = _words(cause)
    return {
        "severity": severity, "title": title, "advice": advice, "link": link, "times": cause.times, "last_at": now()
    }  # fmt: skip


def _tell(connection: Connection, alert_id: int, change: str, rules: Rules, wait_s: float = 0.0) -> None:
    for channel in rules.channels:
        connection.execute(
            insert_for(connection, alert_message)
            .values(
                alert_id=alert_id, channel=channel, change=change, created_at=now(), attempt=0,
                not_before=now() + wait_s,
            )
            .on_conflict_do_nothing(index_elements=["alert_id", "channel", "change"])
        )  # fmt: skip


def forget(connection: Connection, age_s: float) -> int:
    """Delete what was resolved longer ago, with its messages. The number of alerts."""
    return connection.execute(sa.delete(alert).where(alert.c.resolved_at < now() - age_s)).rowcount


def number_open(connection: Connection) -> int:
    """How many alerts are open."""
    return int(connection.execute(sa.select(sa.func.count()).where(alert.c.resolved_at.is_(None))).scalar_one())


def open_ones(connection: Connection) -> list[Row]:
    """The open alerts, critical ones first, then the latest, each with what was sent."""
    query = sa.select(alert).where(alert.c.resolved_at.is_(None)).order_by(alert.c.severity, alert.c.id.desc())
    return _with_messages(connection, [dict(row._mapping) for row in connection.execute(query.limit(_MOST_OPEN))])


def resolved(connection: Connection, cut: paging.Cut, limit: int) -> paging.Page:
    """A page of those that are over, the latest first, each with what was sent."""
    query = sa.select(alert).where(alert.c.resolved_at.is_not(None))
    page = paging.page(connection, query, [alert.c.id], cut, limit)
    return paging.Page(_with_messages(connection, page.rows), page.before, page.after)


def _with_messages(connection: Connection, rows: list[Row]) -> list[Row]:
    messages: dict[int, list[Row]] = {row["id"]: [] for row in rows}
    columns = [column for column in alert_message.c if column.name != "id"]
    for one in connection.execute(
        sa.select(*columns).where(alert_message.c.alert_id.in_(messages)).order_by(alert_message.c.id)
    ):
        message = dict(one._mapping)
        messages[message.pop("alert_id")].append(message)
    return [{**row, "messages": messages[row["id"]]} for row in rows]


def acknowledge(connection: Connection, alert_id: int, by: str) -> bool:
    """Somebody looks after it: there are no more reminders. False when it is over, or somebody did already."""
    mine = sa.update(alert).where(
        alert.c.id == alert_id, alert.c.resolved_at.is_(None), alert.c.acknowledged_at.is_(None)
    )
    return connection.execute(mine.values(acknowledged_by=by[:64], acknowledged_at=now())).rowcount == 1

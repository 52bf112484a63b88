"""Destinations: held by an administrator, in quiet hours, or down; and which delivery goes next.

A destination that took nothing is down: until it takes something again, one delivery at a time asks it, less and less
often, and all others wait. The row of a destination is the lock under which its deliveries are claimed and ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.domain.schedule import RetrySchedule
from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, DeliveryState, JobState
from gateway.store import outbox
from gateway.store.database import now
from gateway.store.tables import delivery, destination, job, rule_version
from gateway.store.tables import outbox as outbox_table

_SHOWN = {DeliveryState.QUEUED: "queued", DeliveryState.SENDING: "sending", DeliveryState.FAILED: "failed"}
_UNFINISHED_DELIVERIES, _UNFINISHED_JOBS = {*DeliveryState} - DELIVERY_ENDED, {*JobState} - JOB_ENDED
_GATE_KEYS = ("held_at", "held_by", "hold_reason", "quiet_until", "down_since", "failures", "not_before", "error")


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether deliveries may go to a destination; times in seconds since 1970 by the database's clock."""

    name: str
    now: float
    held_at: float | None
    down_since: float | None
    failures: int
    not_before: float

    @property
    def is_held(self) -> bool:
        """An administrator holds its deliveries back."""
        return self.held_at is not None

    @property
    def is_down(self) -> bool:
        """It took nothing the last time."""
        return self.down_since is not None

    @property
    def opens_at(self) -> float:
        """From when on a delivery may go, as far as the destination is concerned."""
        return max(self.now, self.not_before) if self.is_down else self.now

    def places(self, wanted: int) -> int:
        """How many transfers it may have at a time: one as long as it is down."""
        return 1 if self.is_down else wanted


def lock(connection: Connection, name: str) -> Gate:
    """The gate of a destination; until the transaction ends nobody else changes what waits for it."""
    connection.execute(
        outbox.insert_for(connection, destination)
        .values(name=name, failures=0, not_before=0.0)
        .on_conflict_do_nothing()
    )
    row = connection.execute(
        sa.select(destination, now().label("now")).where(destination.c.name == name).with_for_update()
    ).one()
    return Gate(name, row.now, row.held_at, row.down_since, row.failures, row.not_before)


def hold(connection: Connection, name: str, *, by: str, reason: str) -> bool:
    """Begin no more transfers to a destination; what is being sent is finished. False when it is held already."""
    gate = lock(connection, name)
    if not gate.is_held:
        _set(connection, name, held_at=now(), held_by=by, hold_reason=reason)
    return not gate.is_held


def release(connection: Connection, name: str, places: int) -> bool:
    """Let deliveries go again, at once; the time that they were held does not count. False when it was not held."""
    gate = lock(connection, name)
    if gate.held_at is None:
        return False
    held_since = sa.case((delivery.c.created_at > gate.held_at, delivery.c.created_at), else_=gate.held_at)
    connection.execute(
        sa.update(delivery)
        .where(delivery.c.destination == name, delivery.c.state == DeliveryState.QUEUED)
        .values(give_up_at=delivery.c.give_up_at + gate.now - held_since)
    )
    # whoever releases it has probably repaired it
    _set(connection, name, held_at=None, held_by=None, hold_reason=None, not_before=0.0)
    announce_next(connection, lock(connection, name), places)
    return True


def ask_now(connection: Connection, name: str) -> None:
    """If it is down, it may be asked at once: somebody thinks that it is back."""
    _set(connection, name, not_before=0.0)


def be_quiet(connection: Connection, name: str, until: float) -> None:
    """Its quiet hours last until then."""
    _set(connection, name, quiet_until=until)


def took_nothing(connection: Connection, gate: Gate, delivery_id: str, error: str, schedule: RetrySchedule) -> float:
    """A delivery met with an outage: the destination is down, or still down. When it may be asked again."""
    failures = gate.failures + 1
    not_before = gate.now + schedule.wait_s(gate.name, failures)
    # one delivery that alone fails may itself be what the destination cannot bear; two are an outage
    alone = sa.case((destination.c.suspect == delivery_id, delivery_id), else_=None)
    _set(
        connection, gate.name, failures=failures, not_before=not_before, error=error,
        down_since=gate.now if gate.down_since is None else gate.down_since,
        suspect=alone if gate.is_down else delivery_id,
    )  # fmt: skip
    return not_before


def took_something(connection: Connection, name: str, places: int) -> None:
    """It is up: what waited for it goes at once, but for the one that may have brought it down."""
    row = connection.execute(
        sa.select(destination.c.suspect).where(destination.c.name == name, destination.c.down_since.is_not(None))
    ).one_or_none()
    if row is None:
        return
    lock(connection, name)
    _set(connection, name, down_since=None, failures=0, not_before=0.0, suspect=None, error=None)
    connection.execute(
        sa.update(delivery)
        .where(
            delivery.c.destination == name,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.not_before > now(),
            delivery.c.id != (row.suspect or ""),
        )
        .values(not_before=now())
    )
    announce_next(connection, lock(connection, name), places)


def at_work(connection: Connection, name: str) -> int:
    """How many transfers to it are under way."""
    return int(
        connection.execute(
            sa.select(sa.func.count()).where(delivery.c.destination == name, delivery.c.state == DeliveryState.SENDING)
        ).scalar_one()
    )


def announce_next(connection: Connection, gate: Gate, places: int) -> None:
    """Announce as many deliveries as there are free places, for when they may go.

    The others need no announcement: whoever ends, gives up its place or finds nothing to do calls this again.
    """
    free = 0 if gate.is_held else gate.places(places) - at_work(connection, gate.name)
    if free <= 0:
        return
    due = sa.case((delivery.c.not_before > gate.opens_at, delivery.c.not_before), else_=gate.opens_at)
    waiting = connection.execute(
        sa.select(delivery.c.id, job.c.priority, due.label("due"))
        .join(job, job.c.id == delivery.c.job_id)
        .where(delivery.c.destination == gate.name, delivery.c.state == DeliveryState.QUEUED)
        # while it is down they take turns in asking it
        .order_by(due, *([delivery.c.attempt] if gate.is_down else []), job.c.priority, delivery.c.created_at)
        .limit(free)
    ).all()
    for row in waiting:
        outbox.add(connection, outbox.DELIVER, row.id, priority=row.priority, due_at=row.due)


def announce_forgotten(connection: Connection) -> int:
    """Announce a delivery of each destination at which some wait, none is sent and none is announced; how many.

    There is none as long as everybody keeps to `announce_next`; if somebody did not, nothing waits for ever.
    """
    waiting, sending, announced = (delivery.alias(name) for name in ("waiting", "sending", "announced"))
    names = connection.execute(
        sa.select(waiting.c.destination)
        .where(
            waiting.c.state == DeliveryState.QUEUED,
            ~sa.exists().where(
                sending.c.destination == waiting.c.destination, sending.c.state == DeliveryState.SENDING
            ),
            ~sa.exists().where(
                announced.c.destination == waiting.c.destination,
                announced.c.state == DeliveryState.QUEUED,
                outbox_table.c.stage == outbox.DELIVER,
                outbox_table.c.subject == announced.c.id,
            ),
            ~sa.exists().where(destination.c.name == waiting.c.destination, destination.c.held_at.is_not(None)),
        )
        .distinct()
    ).scalars()
    found = list(names)
    for name in found:
        announce_next(connection, lock(connection, name), 1)
    return len(found)


def _set(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(sa.update(destination).where(destination.c.name == name).values(**values))


def users_of(connection: Connection, name: str) -> list[str]:
    """What a destination is needed for, in words: rules in force, jobs and deliveries that have not ended."""
    rules = connection.execute(
        sa.select(rule_version.c.name, rule_version.c.definition).where(rule_version.c.active)
    )  # fmt: skip
    used = [f"rule {row.name}" for row in rules if name in row.definition.get("destinations", ())]
    waiting = connection.execute(sa.select(job.c.destinations).where(job.c.state.in_(_UNFINISHED_JOBS))).scalars()
    if jobs := sum(name in wanted for wanted in waiting):
        used.append(f"jobs that have not ended: {jobs}")
    deliveries = connection.execute(
        sa.select(sa.func.count()).where(
            delivery.c.destination == name, delivery.c.state.in_(_UNFINISHED_DELIVERIES)
        )
    ).scalar_one()  # fmt: skip
    return [*used, f"deliveries that have not ended: {deliveries}"] if deliveries else used


def forget(connection: Connection, name: str) -> None:
    """Forget how a destination stood that is no longer there."""
    connection.execute(sa.delete(destination).where(destination.c.name == name))


def standing(connection: Connection, quiet: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """How each destination stands, of those in `quiet` and those that deliveries speak of; by name.

    `quiet` says until when the quiet hours of a destination last, None outside of them.

    Keys: those of the table, `state` (open, quiet, held, down), `waits_for` in words, `queued`, `sending`, `failed`,
    `oldest_at` of what waits.
    """
    counted: dict[str, dict[str, Any]] = {}
    for one in connection.execute(
        sa.select(
            delivery.c.destination, delivery.c.state, sa.func.count().label("number"),
            sa.func.min(delivery.c.created_at).label("oldest_at"),
        )
        .join(job, job.c.id == delivery.c.job_id)
        .where(delivery.c.state.in_(_SHOWN), sa.or_(delivery.c.state != DeliveryState.FAILED, ~job.c.superseded))
        .group_by(delivery.c.destination, delivery.c.state)
    ):  # fmt: skip
        counted.setdefault(one.destination, {})[one.state] = one
    rows = {row.name: dict(row._mapping) for row in connection.execute(sa.select(destination))}
    at = float(connection.execute(sa.select(now())).scalar_one())
    found = []
    for name in sorted({*quiet, *counted, *rows}):
        row = {"name": name, **dict.fromkeys(_GATE_KEYS), **rows.get(name, {}), "now": at}
        row["quiet_until"] = quiet.get(name, row["quiet_until"])
        state, waits_for = explain(row)
        numbers = {key: counted.get(name, {}).get(state) for state, key in _SHOWN.items()}
        found.append(
            {key: row[key] for key in ("name", *_GATE_KEYS)}
            | {"state": state, "waits_for": waits_for}
            | {key: of.number if of else 0 for key, of in numbers.items()}
            | {"oldest_at": numbers["queued"].oldest_at if numbers["queued"] else None}
        )
    return found


def waiting_for(connection: Connection) -> dict[str, str | None]:
    """What deliveries to each destination wait for, in words, as far as it is the destination."""
    rows = connection.execute(sa.select(destination, now().label("now")))
    return {row.name: explain(dict(row._mapping))[1] for row in rows}


def explain(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """Whether a destination is open, quiet, held or down, and what deliveries wait for, in words.

    `row` has the columns of the table, all None when there is none, and `now`.
    """
    if row["held_at"] is not None:
        return (
            "held",
            f"held by {row['held_by']} since {_local(row['held_at'])}: {row['hold_reason'] or 'no reason given'}",
        )
    if row["quiet_until"] is not None and row["quiet_until"] > row["now"]:
        return "quiet", f"quiet hours until {_local(row['quiet_until'])}"
    if row["down_since"] is not None:
        asked = _local(max(row["not_before"], row["now"]))
        return "down", f"takes nothing since {_local(row['down_since'])}, is asked again at {asked}"
    return "open", None


def _local(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

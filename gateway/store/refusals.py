"""Refused attempts for the administrator: one row for each address, pair of AE titles and reason, with its count.

An attacker decides how often he is refused, so nothing is written while he is: attempts are counted in memory and
written by one thread, at most once a second.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway import audit, logs, metrics
from gateway.domain.refusal import Reason, Refusal
from gateway.errors import Unavailable
from gateway.store import outbox, paging
from gateway.store.database import Database
from gateway.store.paging import Cut, Page
from gateway.store.tables import refusal

MOST_ROWS = 1000
"""The table keeps this many, the latest."""

_WRITE_EVERY_S = 1.0
_TITLES_OF_AN_ADDRESS = (
    16  # more pairs of AE titles are counted without them: they are guesses, and would crowd out others
)
_MOST_ADDRESSES = 4096
_MOST_WAITING = 1000
# our own state, and no attempt on our security: the audit trail has no alert of it
_FOR_NOW = frozenset({Reason.TOO_MANY_ASSOCIATIONS, Reason.NOT_READY, Reason.NO_ROOM, Reason.DISK})

log = logs.get("refusals")


class RefusalBook:
    """Counts refusals from any thread and writes them; a context: the last are written at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counted: Counter[Refusal] = Counter()
        self._titles: dict[str, set[tuple[str, str]]] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="refusals")

    def add(self, refused: Refusal) -> None:
        """One more; returns at once."""
        with self._lock:
            entry = self._without_guesses(refused)
            if entry in self._counted or len(self._counted) < _MOST_WAITING:
                self._counted[entry] += 1
        self._wake.set()
        metrics.REFUSALS.labels(entry.reason.name.lower()).inc()
        if entry.reason not in _FOR_NOW:
            audit.refused(entry.address, entry.calling_ae_title, entry.reason.value)

    def __enter__(self) -> Self:
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._wake.set()
        self._writer.join()

    def _without_guesses(self, refused: Refusal) -> Refusal:
        if len(self._titles) >= _MOST_ADDRESSES:
            self._titles.clear()
        known = self._titles.setdefault(refused.address, set())
        titles = (_printable(refused.calling_ae_title), _printable(refused.called_ae_title))
        if titles not in known and len(known) >= _TITLES_OF_AN_ADDRESS:
            titles = ("", "")
        known.add(titles)
        return Refusal(refused.address, *titles, refused.reason)

    def _write_on(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._write()
            self._closing.wait(_WRITE_EVERY_S)
        self._write()

    def _write(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            with self._database.write() as connection:
                record(connection, counted, time.time())
        except Unavailable as error:
            log.warning("refusals not recorded", refusals=counted.total(), reason=str(error))


def record(connection: Connection, counted: Counter[Refusal], at: float) -> None:
    """Add to the counts, `at` seconds since the epoch; the oldest rows over `MOST_ROWS` go."""
    for entry, count in counted.items():
        row = outbox.insert_for(connection, refusal).values(
            address=entry.address, calling_ae_title=entry.calling_ae_title, called_ae_title=entry.called_ae_title,
            reason=entry.reason.value, count=count, first_at=at, last_at=at,
        )  # fmt: skip
        connection.execute(
            row.on_conflict_do_update(
                index_elements=["address", "calling_ae_title", "called_ae_title", "reason"],
                set_={"count": refusal.c.count + count, "last_at": at},
            )
        )
    kept = sa.select(refusal.c.id).order_by(refusal.c.last_at.desc(), refusal.c.id.desc()).limit(MOST_ROWS)
    connection.execute(sa.delete(refusal).where(refusal.c.id.not_in(kept.scalar_subquery())))


def latest(connection: Connection, limit: int, ae_title: str) -> list[dict[str, Any]]:
    """The latest refusals, newest first, each with what lets the peer in at the node called `ae_title`."""
    return page(connection, limit, Cut(), ae_title).rows


def page(connection: Connection, limit: int, cut: Cut, ae_title: str) -> Page:
    """The same, a page at a time; who is refused again while somebody reads moves to the first page."""
    found = paging.page(connection, sa.select(refusal), (refusal.c.last_at, refusal.c.id), cut, limit)
    for row in found.rows:
        entry = Refusal(row["address"], row["calling_ae_title"], row["called_ae_title"], Reason(row["reason"]))
        row["remedy"] = entry.remedy(ae_title)
    return found


def forget(connection: Connection) -> int:
    """Remove all of them; how many rows there were."""
    return connection.execute(sa.delete(refusal)).rowcount


def _printable(title: str) -> str:
    """An AE title as it may be shown: what a stranger sent could hold escape sequences of a terminal."""
    return "".join(mark if mark.isascii() and mark.isprintable() else "?" for mark in title)[:16]

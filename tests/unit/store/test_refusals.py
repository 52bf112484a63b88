"""Refused attempts: counted in memory, written once a second by one thread, and bounded whatever a stranger does."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.domain.refusal import Reason, Refusal
from gateway.store import refusals
from gateway.store.database import Database
from gateway.store.refusals import RefusalBook

SCANNER = Refusal("10.0.0.7", "MR1", "ATHANOR", Reason.CALLING_AE_TITLE)


def rows(database: Database, limit: int = 2000) -> list[dict[str, Any]]:
    with database.read() as connection:
        return refusals.latest(connection, limit, "ATHANOR")


def test_a_row_counts_and_tells_when_first_and_last(database: Database) -> None:
    with database.write() as connection:
        refusals.record(connection, Counter({SCANNER: 2}), 100.0)
        refusals.record(connection, Counter({SCANNER: 3}), 200.0)
    (row,) = rows(database)
    assert (row["count"], row["first_at"], row["last_at"]) == (5, 100.0, 200.0)
    assert row["remedy"] == 'add to [listener.peers]: MR1 = "10.0.0.7"'
    with database.write() as connection:
        assert refusals.forget(connection) == 1
    assert rows(database) == []


def test_only_the_latest_thousand_rows_stay(database: Database) -> None:
    for first in (0, 600):
        crowd = [Refusal(f"10.1.{n // 256}.{n % 256}", "", "", Reason.ADDRESS) for n in range(first, first + 600)]
        with database.write() as connection:
            refusals.record(connection, Counter(crowd), float(first))
    found = rows(database)
    assert len(found) == refusals.MOST_ROWS == 1000
    assert sum(row["last_at"] == 600.0 for row in found) == 600


def test_a_flood_is_written_once_a_second_and_its_guesses_are_one_row(database: Database) -> None:
    writes = []
    sa.event.listen(database.engine, "commit", lambda _: writes.append(time.monotonic()))
    began = time.monotonic()
    with RefusalBook(database) as book:
        while time.monotonic() < began + 1.3:
            for n in range(100):
                book.add(Refusal("10.0.0.9", f"GUESS{n}", "ATHANOR", Reason.CALLING_AE_TITLE))
        book.add(SCANNER)
    assert len(writes) <= 4
    found = rows(database)
    assert len(found) <= 18, "sixteen guesses, all others together, and the scanner"
    assert {row["calling_ae_title"] for row in found} >= {"", "MR1", "GUESS0"}
    assert sum(row["count"] for row in found) % 100 == 1


def test_what_a_stranger_calls_himself_can_be_shown(database: Database) -> None:
    with RefusalBook(database) as book:
        book.add(Refusal("10.0.0.9", "\x1b[31mRED\n", "Ü", Reason.CALLING_AE_TITLE))
    (row,) = rows(database)
    assert (row["calling_ae_title"], row["called_ae_title"]) == ("?[31mRED?", "?")


def test_a_database_that_is_away_stops_nobody() -> None:
    with RefusalBook(Database("postgresql://athanor@127.0.0.1:1/none")) as book:
        book.add(SCANNER)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_comes_with_something_to_do(reason: Reason) -> None:
    assert len(Refusal("10.0.0.7", "MR 1", "OTHER", reason).remedy("ATHANOR").split()) >= 3


def test_the_line_to_add_is_toml() -> None:
    said = Refusal("10.0.0.7", "MR 1", "ATHANOR", Reason.CALLING_AE_TITLE).remedy("ATHANOR")
    assert said.endswith(': "MR 1" = "10.0.0.7"')

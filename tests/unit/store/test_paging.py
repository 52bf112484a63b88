"""Paging by key: every row exactly once while rows are added, forwards and back, and by an index."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.commands.bench_web_rows import Filling
from gateway.domain.roles import Role
from gateway.domain.states import SeriesState
from gateway.settings import Settings
from gateway.store import browse, health, paging, people, reports, timeline, waiting
from gateway.store.browse import StudyQuery
from gateway.store.database import Database
from gateway.store.paging import Cut
from gateway.store.people import Somebody
from gateway.store.tables import audit, job, series, study
from gateway.store.waiting import QueueQuery

PAGE = 7


def largest(connection: sa.Connection) -> int:
    """The series with the most instances."""
    return connection.execute(sa.select(series.c.id).order_by(series.c.instances.desc()).limit(1)).scalar_one()


HUGE = {"instance", "derived", "delivery_instance"}
LARGE = HUGE | {"series", "job", "delivery", "event", "audit"}
Walk = Callable[[sa.Connection, Cut], paging.Page]
WALKS: dict[str, tuple[str, Walk]] = {
    "studies": ("uid", lambda connection, cut: browse.studies(connection, StudyQuery(), PAGE, cut)),
    "studies found": ("uid", lambda connection, cut: browse.studies(connection, StudyQuery(text="P00"), PAGE, cut)),
    "deliveries": ("id", lambda connection, cut: waiting.deliveries(connection, "DELIVERED", QueueQuery(), cut, PAGE)),
    "jobs of a state": ("id", lambda connection, cut: waiting.jobs(connection, "SUCCEEDED", QueueQuery(), cut, PAGE)),
    "instances": ("id", lambda connection, cut: browse.instances(connection, largest(connection), PAGE, cut)),
    "audit": ("id", lambda connection, cut: people.audit_page(connection, "", PAGE, cut)),
    "audit of one": ("id", lambda connection, cut: people.audit_page(connection, "person-0001", 1, cut)),
}  # fmt: skip


@pytest.fixture
def filled(database: Database) -> Database:
    """Some sixty studies with all that became of them."""
    Filling(database, 900, 60).fill(lambda _: None)
    if not database.is_sqlite:  # autovacuum does so by itself
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return database


def add_rows(database: Database, number: int) -> None:
    """A study that came now and one with a time between others; an entry of the audit trail."""
    with database.write() as connection:
        oldest = connection.execute(sa.select(sa.func.min(study.c.first_received_at))).scalar_one()
        for at, uid in ((2e9 + number, f"2.25.8{number}"), (oldest + number, f"2.25.9{number}")):
            connection.execute(
                sa.insert(study).values(
                    uid=uid, first_received_at=at, patient_id="P00", patient_name="", accession_number="",
                    study_date="", study_description="",
                )
            )  # fmt: skip
        people.note(connection, Somebody("person-0001", Role.OPERATOR), "", "looked")


def test_every_row_comes_exactly_once_while_rows_are_added(filled: Database) -> None:
    for number, (name, (key, page)) in enumerate(WALKS.items()):

        def asked(cut: Cut, page: Walk = page) -> paging.Page:
            with filled.read() as connection:
                return page(connection, cut)

        there = {row[key] for row in walk(asked)}
        found = asked(Cut())
        assert not found.before, name
        pages = [[row[key] for row in found.rows]]
        while found.after:
            add_rows(filled, 1000 * number + len(pages))
            found = asked(Cut(after=found.after))
            pages.append([row[key] for row in found.rows])
        seen = [one for rows in pages for one in rows]
        assert len(pages) > 1, name
        assert len(seen) == len(set(seen)), name
        assert there <= set(seen), name


def test_the_way_back_leads_over_the_same_pages(filled: Database) -> None:
    for name, (key, page) in WALKS.items():
        with filled.read() as connection:
            found = page(connection, Cut())
            there = [[row[key] for row in found.rows]]
            while found.after:
                found = page(connection, Cut(after=found.after))
                there.append([row[key] for row in found.rows])
            back = [[row[key] for row in found.rows]]
            while found.before:
                found = page(connection, Cut(before=found.before))
                back.insert(0, [row[key] for row in found.rows])
        # the last page of the way there may be short; on the way back it is the first one
        assert [one for rows in back for one in rows] == [one for rows in there for one in rows], name


def walk(asked: Callable[[Cut], paging.Page]) -> Iterator[dict[str, Any]]:
    """Every row, page by page."""
    found = asked(Cut())
    yield from found.rows
    while found.after:
        found = asked(Cut(after=found.after))
        yield from found.rows


def test_a_key_that_no_page_gave_is_no_error(filled: Database) -> None:
    with filled.read() as connection:
        for typed in ("x", "1", "1_", "nan_2.25.1", "inf_2.25.1", "_", "9" * 400 + "_1", "1_\0", "1_ü"):
            for _, page in WALKS.values():
                for cut in (Cut(after=typed), Cut(before=typed), Cut(typed, typed)):
                    assert len(page(connection, cut).rows) <= PAGE


def test_details_of_several_series_are_those_of_each(filled: Database) -> None:
    with filled.read() as connection:
        ids = list(range(1, 40))
        random.Random(1).shuffle(ids)
        several = reports.series_details(connection, ids)
        assert several == [reports.series_detail(connection, one) for one in ids]
        assert any(one["jobs"] and one["jobs"][0]["deliveries"] for one in several)
        assert timeline.of_several(connection, ids) == {one: timeline.of_series(connection, one) for one in ids}


def test_the_longest_silence_of_a_series_is_told(filled: Database) -> None:
    with filled.write() as connection:
        connection.execute(
            sa.text("UPDATE instance SET received_at = received_at + 30 WHERE series_id = 1 AND instance_number > 1")
        )
    with filled.read() as connection:
        gaps = browse.longest_gaps(connection, [1, 2])
        shown = browse.instances(connection, 1, 3, Cut()).rows
    assert gaps[1] == pytest.approx(30.05, abs=0.01)
    assert gaps[2] == pytest.approx(0.05, abs=0.01)
    assert [row["after_s"] for row in shown[:2]] == [None, pytest.approx(30.05, abs=0.01)]


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of the database meanwhile, with its parameters."""
    found: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            found.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(database.engine, "before_cursor_execute", note)


def scanned(database: Database, statement: str, parameters: Any) -> set[str]:
    """Tables that the plan of `statement` reads from end to end: of the huge ones not even an index."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            lines = [row[3].split() for row in plan if row[3].startswith("SCAN")]
            return {line[1] for line in lines if "INDEX" not in line or line[1] in HUGE}
        # with few rows a scan is right: ask what the planner can do, not what it prefers today
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        (document,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).one()
        return set(_read_whole(document[0]["Plan"]))


def _read_whole(node: dict[str, Any]) -> Iterator[str]:
    table, kind = node.get("Relation Name"), node["Node Type"]
    is_whole = kind == "Seq Scan" or (kind == "Bitmap Heap Scan" and "Recheck Cond" not in node)
    if table and (is_whole or (table in HUGE and kind.startswith("Index") and "Index Cond" not in node)):
        yield table
    for child in node.get("Plans", ()):
        yield from _read_whole(child)


def test_a_plan_that_reads_everything_is_seen(filled: Database) -> None:
    assert scanned(filled, "SELECT count(*) FROM instance", ()) == {"instance"}
    assert scanned(filled, "SELECT count(*) FROM series WHERE series_description = 'x'", ()) == {"series"}


HOT: dict[str, Callable[[sa.Connection], object]] = {
    "dashboard": lambda connection: health.health(connection, Settings()),
    "news": browse.newest,
    "studies": lambda connection: browse.studies(connection, StudyQuery(), 50, Cut()),
    "studies far down": lambda connection: browse.studies(connection, StudyQuery(), 50, Cut(after="1.0_2.25.1")),
    "studies of a sender and a state": lambda connection: browse.studies(
        connection, StudyQuery(calling_ae_title="MR1", state=SeriesState.FAILED), 50, Cut()
    ),
    "study": lambda connection: (
        browse.series_of_study(connection, "2.25.1", 20, Cut(after="1.0_1")),
        reports.series_details(connection, [1, 2]),
        browse.longest_gaps(connection, [1, 2]),
        timeline.of_several(connection, [1, 2]),
    ),
    "instances": lambda connection: browse.instances(connection, 1, 100, Cut(after="1.0_1")),
    "jobs that wait": lambda connection: waiting.jobs(connection, "QUEUED", QueueQuery(), Cut(after="5_1.0_x"), 50),
    "jobs that failed": lambda connection: waiting.jobs(connection, "FAILED", QueueQuery(), Cut(after="1.0_x"), 50),
    "deliveries": lambda connection: waiting.deliveries(connection, "QUEUED", QueueQuery(), Cut(), 50),
    "audit": lambda connection: people.audit_page(connection, "somebody", 100, Cut(after="7")),
    "series of the command line": lambda connection: reports.series_list(connection, 20),
    "jobs of the command line": lambda connection: reports.job_list(connection, 20, "FAILED"),
}


def test_what_pages_ask_for_is_found_by_an_index(filled: Database) -> None:
    for name, ask in HOT.items():
        with statements(filled) as asked, filled.read() as connection:
            ask(connection)
        assert asked, name
        for statement, parameters in asked:
            assert not scanned(filled, statement, parameters) & LARGE, f"{name}: {statement}"


def test_a_page_far_down_reads_as_few_rows_as_the_first(database: Database) -> None:
    Filling(database, 3000, 600).fill(lambda _: None)
    with database.read() as connection:
        rows = paging.page(connection, sa.select(job), (job.c.created_at, job.c.id), Cut(), 50, falling=False).rows
        oldest = paging.write(rows[-1], (job.c.created_at, job.c.id))
        kept = [audit.c.id, audit.c.who]
        entry = paging.page(connection, sa.select(*kept), (audit.c.id,), Cut(), 50, falling=False).rows[-1]
    with statements(database) as asked, database.read() as connection:
        waiting.jobs(connection, "SUCCEEDED", QueueQuery(), Cut(after=oldest), 10)
        people.audit_page(connection, "", 10, Cut(after=str(entry["id"])))
    asked = [(statement, parameters) for statement, parameters in asked if "LIMIT" in statement]
    assert len(asked) == 2
    for statement, parameters in asked:
        with database.engine.connect() as connection:
            if database.is_sqlite:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                assert any("SEARCH" in row[3] and "<" in row[3] for row in plan), plan
                assert not any("TEMP B-TREE" in row[3] for row in plan), plan
            else:
                (document,) = connection.exec_driver_sql(
                    f"EXPLAIN (FORMAT JSON, ANALYZE) {statement}", parameters
                ).one()
                assert _rows_read(document[0]["Plan"]) <= 11, document


def _rows_read(node: dict[str, Any]) -> int:
    """Rows of the leaf of a plan that reads the paged table."""
    children = node.get("Plans")
    return _rows_read(children[0]) if children else int(node["Actual Rows"] + node.get("Rows Removed by Filter", 0))

"""The migrations make exactly the tables that the code speaks of, and take them away again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.errors import ConfigurationError, Unavailable
from gateway.store.database import Database, now
from gateway.store.tables import association, metadata, series


def test_migrated_schema_is_the_declared_one(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_downgrade_leaves_nothing_and_upgrade_works_again(database: Database) -> None:
    database.downgrade("base")
    left = set(sa.inspect(database.engine).get_table_names())
    assert left <= {"alembic_version"}
    database.upgrade()
    assert set(sa.inspect(database.engine).get_table_names()) >= set(metadata.tables)


def test_now_is_the_clock_of_the_database(database: Database) -> None:
    import time

    assert abs(database.now_s() - time.time()) < 2.0
    with database.read() as connection:
        first, second = (connection.execute(sa.select(now())).scalar_one() for _ in range(2))
    assert second >= first


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    row = {"id": "a", "calling_ae_title": "CT", "called_ae_title": "US", "address": "::1", "opened_at": 1.0}
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.insert(association), [row, row])
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(association)).scalar_one() == 0


def test_an_unreachable_server_is_unavailable_and_named_without_its_password() -> None:
    database = Database("postgresql://athanor:secret@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught, database.read():
        pass
    assert "postgresql" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"database\.url"):
        Database("not a url")


def test_rows_of_the_first_schema_survive_the_way_up_and_down_and_up_again(database_url: str) -> None:
    database = Database(database_url)
    database.upgrade("0001")
    first = sa.MetaData()
    first.reflect(database.engine)
    with database.write() as connection:
        for name, row in _ROWS_OF_0001:
            connection.execute(sa.insert(first.tables[name]).values(row))
    before = _rows(database, first)
    for _ in range(2):
        database.upgrade()
        database.require_current()
        database.downgrade("0001")
        assert _rows(database, first) == before
    database.upgrade()
    with database.read() as connection:
        assert connection.execute(sa.select(series.c.purged_at)).scalar_one() is None
    database.close()


def test_a_schema_without_candidates_forgets_jobs_of_several_series_and_nothing_else(database: Database) -> None:
    with database.write() as connection:
        for name, row in _ROWS_OF_0001:
            connection.execute(sa.insert(metadata.tables[name]).values(row))
        partner = _ROWS_OF_0001[2][1] | {"id": 2, "uid": "2.25.9", "state": "WAITING"}
        connection.execute(sa.insert(series).values(partner))
        both = _ROWS_OF_0001[5][1] | {"id": "k", "partners": "2:1"}
        connection.execute(sa.insert(metadata.tables["job"]).values(both))
        inputs = [{"job_id": "k", "role": role, "series_id": of, "revision": 1} for of, role in ((1, "a"), (2, "b"))]
        connection.execute(sa.insert(metadata.tables["job_input"]), inputs)
        connection.execute(
            sa.insert(metadata.tables["candidate"]).values(
                rule_version_id=1, study_uid="2.25.1", series_id=2, revision=1, role="b", wait_limit_s=1.0,
                give_up_at=1.0, job_id="k",
            )
        )  # fmt: skip
    database.downgrade("0004")
    earlier = sa.MetaData()
    earlier.reflect(database.engine)
    with database.read() as connection:
        assert list(connection.execute(sa.select(earlier.tables["job"].c.id)).scalars()) == ["j"]
        states = connection.execute(sa.select(series.c.id, series.c.state).order_by(series.c.id)).all()
        assert [tuple(row) for row in states] == [(1, "ROUTED"), (2, "UNMATCHED")]
        assert len(connection.execute(sa.select(earlier.tables["derived"].c.id)).all()) == 1
    database.upgrade()
    with database.engine.connect() as connection:
        assert connection.execute(sa.select(metadata.tables["job"].c.partners)).scalar_one() == ""
        if database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def _rows(database: Database, schema: sa.MetaData) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))] for table in schema.sorted_tables
        }


_ROWS_OF_0001: list[tuple[str, dict[str, object]]] = [
    ("association", {"id": "a", "calling_ae_title": "CT", "called_ae_title": "US", "address": "::1", "opened_at": 1.0}),
    (
        "study",
        {"uid": "2.25.1", "first_received_at": 1.0, "patient_id": "P", "patient_name": "N", "accession_number": "",
         "study_date": "", "study_description": ""},
    ),
    (
        "series",
        {"id": 1, "uid": "2.25.2", "study_uid": "2.25.1", "modality": "MR", "series_description": "",
         "calling_ae_title": "CT", "called_ae_title": "US", "address": "::1", "state": "ROUTED", "revision": 1,
         "instances": 1, "first_received_at": 1.0, "last_received_at": 1.0},
    ),
    (
        "instance",
        {"id": 1, "sop_instance_uid": "2.25.3", "sop_class_uid": "1.2", "transfer_syntax_uid": "1.2", "series_id": 1,
         "association_id": "a", "revision": 1, "path": "received/x", "size_bytes": 1, "sha256": "", "received_at": 1.0,
         "number_of_frames": 1, "orientation": []},
    ),
    (
        "rule_version",
        {"id": 1, "name": "r", "version": 1, "position": 0, "active": True, "definition": {}, "digest": "",
         "author": "", "reason": "", "created_at": 1.0},
    ),
    (
        "job",
        {"id": "j", "series_id": 1, "revision": 1, "rule_version_id": 1, "pipeline_id": "p", "options": {},
         "destinations": [], "priority": 0, "state": "SUCCEEDED", "attempt": 1, "max_attempts": 3, "not_before": 1.0,
         "progress": 1.0, "superseded": False, "created_at": 1.0},
    ),
    (
        "derived",
        {"id": 1, "job_id": "j", "profile": "x", "sop_instance_uid": "2.25.4", "sop_class_uid": "1.2",
         "series_instance_uid": "2.25.5", "series_number": 1, "transfer_syntax_uid": "1.2", "instance_number": 1,
         "source_sop_instance_uid": "2.25.3", "path": "derived/x", "size_bytes": 1, "sha256": ""},
    ),
    (
        "delivery",
        {"id": "d", "job_id": "j", "destination": "pacs", "profile": "x", "state": "DELIVERED", "attempt": 1,
         "not_before": 1.0, "give_up_at": 1.0, "created_at": 1.0},
    ),
    ("delivery_instance", {"delivery_id": "d", "derived_id": 1}),
    ("event", {"id": 1, "at": 1.0, "series_id": 1, "stage": "receive", "what": "x", "detail": {}}),
    ("quarantine", {"id": 1, "at": 1.0, "status": 1, "reason": "", "calling_ae_title": "", "address": ""}),
]  # fmt: skip


def _pretend_later(database: Database) -> None:
    database.upgrade()
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda database: database.upgrade("0001"), "found schema 0001; .*athanor migrate"),
        (lambda _: None, "found schema none; .*athanor migrate"),
        (_pretend_later, "found schema 9999; .*the program that made it"),
    ],
)
def test_another_schema_than_ours_is_refused(database_url: str, prepare: Callable[[Database], None], said: str) -> None:
    database = Database(database_url)
    prepare(database)
    with pytest.raises(ConfigurationError, match=said):
        database.require_current()
    database.close()


def test_a_later_schema_is_not_upgraded(database: Database) -> None:
    _pretend_later(database)
    with pytest.raises(ConfigurationError, match="9999"):
        database.upgrade()


def test_two_that_upgrade_at_once_both_find_it_done(database_url: str) -> None:
    upgrade = f"from gateway.store.database import Database; Database({database_url!r}).upgrade()"
    both = [subprocess.Popen([sys.executable, "-c", upgrade]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    database = Database(database_url)
    database.require_current()
    database.close()


def test_a_database_that_takes_no_writes_is_unavailable(postgresql: str) -> None:
    database = Database(f"{postgresql}?options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(Unavailable, match="read-only"), database.write() as connection:
        connection.execute(sa.text("CREATE TABLE t (a int)"))
    database.close()

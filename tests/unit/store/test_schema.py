"""The migrations make exactly the tables that the code speaks of, and take them away again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.errors import ConfigurationError, Unavailable
from gateway.store.database import Database, now
from gateway.store.tables import association, metadata


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

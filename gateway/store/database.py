"""The database: one engine, two kinds of transaction, the schema brought up to date.

SQLite in WAL mode with synchronous=FULL serves one machine; PostgreSQL serves several by the same statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles

from gateway.errors import ConfigurationError, Unavailable

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_TIMEOUT_S = 30.0


class now(sa.sql.functions.FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since the epoch by the database's clock, so that several hosts agree on leases."""

    type = sa.Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


class Database:
    """Transactions on the truth.

    Raises ConfigurationError for a URL that cannot be used, Unavailable when the database does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except sa.exc.ArgumentError as error:
            raise ConfigurationError(
                "database.url: not a SQLAlchemy URL; expected sqlite:/// or postgresql://"
            ) from error
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
            self.engine = sa.create_engine(
                self.url,
                connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
                pool_size=16,
                max_overflow=64,
                hide_parameters=True,
            )
            sa.event.listen(self.engine, "connect", _sqlite_connect)
            sa.event.listen(self.engine, "begin", _sqlite_begin)
        else:
            self.engine = sa.create_engine(
                self.url,
                pool_pre_ping=True,
                pool_size=16,
                max_overflow=64,
                hide_parameters=True,  # they hold patient attributes, and an error is logged
            )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One read-write transaction: committed at the end of the block, rolled back on an exception."""
        try:
            with self.engine.connect() as connection:
                connection.info["immediate"] = True
                try:
                    with connection.begin():
                        yield connection
                finally:
                    connection.info["immediate"] = False
        except (OperationalError, sa.exc.TimeoutError) as error:
            raise Unavailable(f"database {self.url.get_backend_name()}: {_cause(error)}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; nothing is written."""
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except (OperationalError, sa.exc.TimeoutError) as error:
            raise Unavailable(f"database {self.url.get_backend_name()}: {_cause(error)}") from error

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema to `revision`."""
        with self.engine.connect() as connection:
            command.upgrade(self._alembic(connection), revision)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to `revision` (``base`` = empty)."""
        with self.engine.connect() as connection:
            command.downgrade(self._alembic(connection), revision)

    def _alembic(self, connection: Connection) -> Config:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        return config

    def now_s(self) -> float:
        """The database's clock, seconds since the epoch."""
        with self.read() as connection:
            return float(connection.execute(sa.select(now())).scalar_one())

    def close(self) -> None:
        """Give every pooled connection back."""
        self.engine.dispose()


def _cause(error: Exception) -> str:
    """The driver's own words, without the statement and its parameters: those hold patient attributes."""
    return str(error.orig) if isinstance(error, DBAPIError) else "no connection became free in time"


def _sqlite_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the begin event below opens transactions itself
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begin(connection: Connection) -> None:
    # a deferred transaction that turns to writing late fails at once with SQLITE_BUSY; an immediate one waits
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("immediate") else "BEGIN")

"""The database: one engine, two kinds of transaction, the schema brought up to date.

SQLite in WAL mode with synchronous=FULL serves one machine; PostgreSQL serves several by the same statements.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles

from gateway.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_TIMEOUT_S = 30.0
_ASK_AGAIN_S = 0.05
# PostgreSQL advisory locks: "ATH" and a number
LOCK_OF_MIGRATIONS, LOCK_OF_THE_CLOCK, LOCK_OF_THE_DIRECTORY = 0x41544801, 0x41544802, 0x41544803
# how soon a server that went without a word is missed (libpq, seconds but for the last, milliseconds)
_LIBPQ = {
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}  # fmt: skip
_READ_ONLY = "25006"  # SQLSTATE of a server that takes no writes, as a standby does


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
                connect_args=_LIBPQ,
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
        except (DBAPIError, sa.exc.TimeoutError) as error:
            self._report(error)
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; nothing is written."""
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except (DBAPIError, sa.exc.TimeoutError) as error:
            self._report(error)
            raise

    def _report(self, error: DBAPIError | sa.exc.TimeoutError) -> None:
        """Raise Unavailable when `error` is the database's state and not our statement."""
        if _is_outage(error):
            raise Unavailable(f"database {self.url.get_backend_name()}: {_cause(error)}") from error

    def revision(self) -> str | None:
        """The revision of the schema; None for an empty database."""
        with self.read() as connection:
            if not connection.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

    def require_current(self) -> None:
        """Raise ConfigurationError when the schema is not the one that this program was written for."""
        found, expected = self.revision(), head()
        if found == expected:
            return
        advice = "install the program that made it" if found and found > expected else "run `athanor migrate`"
        raise ConfigurationError(f"database: found schema {found or 'none'}; expected {expected}; {advice}")

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema to `revision`. Raises ConfigurationError when it is that of a later program."""
        from alembic import command  # a third of a second that no other use of the database has to pay

        found = self.revision()
        if found is not None and found > head():
            raise ConfigurationError(
                f"database: found schema {found}; expected {head()} or earlier; install the program that made it"
            )
        with self._alone() as connection:
            command.upgrade(self._alembic(connection), revision)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to `revision` (``base`` = empty)."""
        from alembic import command

        with self._alone() as connection:
            command.downgrade(self._alembic(connection), revision)

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """The transaction of a migration: of two at once, the second waits and finds nothing to do."""
        with self.engine.connect() as connection:
            # SQLite changes a table by making it anew, and must not take that for the end of what refers to it
            self._refer_freely(connection, freely=True)
            connection.info["immediate"] = True
            connection.begin()
            connection.info["immediate"] = False
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_OF_MIGRATIONS)))
            try:
                yield connection
            finally:
                connection.rollback()  # what a migration that failed has left; nothing when it did not
                self._refer_freely(connection, freely=False)

    def _refer_freely(self, connection: Connection, *, freely: bool) -> None:
        """Foreign keys of SQLite are not looked at; to be said outside of a transaction."""
        if self.is_sqlite:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute(f"PRAGMA foreign_keys={'OFF' if freely else 'ON'}")

    def _alembic(self, connection: Connection) -> Config:
        from alembic.config import Config

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


def head() -> str:
    """The revision of the schema that this program was written for."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _is_outage(error: DBAPIError | sa.exc.TimeoutError) -> bool:
    if not isinstance(error, DBAPIError):
        return True
    return (
        isinstance(error, sa.exc.OperationalError)
        or error.connection_invalidated
        or getattr(error.orig, "sqlstate", None) == _READ_ONLY
    )


def _cause(error: Exception) -> str:
    """The driver's own words, without the statement and its parameters: those hold patient attributes."""
    return str(error.orig) if isinstance(error, DBAPIError) else "no connection became free in time"


def _sqlite_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the begin event below opens transactions itself
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn a new database to WAL; of two that do so at once, SQLite lets one fail without waiting."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(_ASK_AGAIN_S)
        else:
            return


def _sqlite_begin(connection: Connection) -> None:
    # a deferred transaction that turns to writing late fails at once with SQLITE_BUSY; an immediate one waits
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("immediate") else "BEGIN")

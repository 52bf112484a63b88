"""One leader among clocks: whoever holds a lock that the system takes away when its holder dies.

With PostgreSQL it is an advisory lock of one session, for clocks on any number of hosts; with SQLite, which serves one
host, a lock on a file. A clock asks `leads` before each step, so that one that has lost the lock stops by itself.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.store.database import LOCK_OF_THE_CLOCK, Database

# A session that says nothing for so long is ended by the server, and with it the lock: a leader that was stopped, or
# whose host fell off the network, does not keep the others waiting. The client gives up earlier than the server does.
_SILENCE_ENDS_SESSION_MS = 15_000
_ANSWER_WITHIN_MS = 5_000
_HAS_IDLE_SESSION_TIMEOUT = (14,)


class Leadership(Protocol):
    """The lock, as one clock sees it."""

    def leads(self) -> bool:
        """Whether this clock holds the lock, asked of whoever keeps it; takes it when it is free."""
        ...

    def resign(self) -> None:
        """Let another clock lead at once."""
        ...


def leadership_of(database: Database, folder: Path) -> Leadership:
    """The lock of a gateway on `database`; `folder` is where the lock file of a SQLite node lies."""
    return _FileLeadership(folder) if database.is_sqlite else _SessionLeadership(database)


class _FileLeadership:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = folder / "clock.lock"
        self._descriptor: int | None = None

    def leads(self) -> bool:
        if self._descriptor is None:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
        return True

    def resign(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _SessionLeadership:
    """Lives and dies with one session, which nothing else uses and no pool keeps."""

    def __init__(self, database: Database) -> None:
        self._engine = sa.create_engine(
            database.url,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "connect_timeout": _ANSWER_WITHIN_MS // 1000,
                "tcp_user_timeout": _ANSWER_WITHIN_MS,
                "options": f"-c statement_timeout={_ANSWER_WITHIN_MS}",
            },
        )
        self._session: Connection | None = None
        self._holds = False

    def leads(self) -> bool:
        try:
            if self._session is None:
                self._session = self._engine.connect()
            if self._holds:
                self._session.execute(sa.select(1))
            else:
                self._holds = self._take(self._session)
        except SQLAlchemyError:
            self.resign()  # no answer: the lock may be another's by now
        return self._holds

    @staticmethod
    def _take(session: Connection) -> bool:
        if not session.execute(sa.select(sa.func.pg_try_advisory_lock(LOCK_OF_THE_CLOCK))).scalar_one():
            return False
        if (session.dialect.server_version_info or ()) >= _HAS_IDLE_SESSION_TIMEOUT:
            session.execute(sa.text(f"SET idle_session_timeout = {_SILENCE_ENDS_SESSION_MS}"))
        return True

    def resign(self) -> None:
        session, self._session, self._holds = self._session, None, False
        if session is not None:
            session.invalidate()
            session.close()

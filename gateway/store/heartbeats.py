"""Which processes are alive, and what they have to say about themselves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store import outbox
from gateway.store.database import Database, now
from gateway.store.tables import heartbeat


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life of a process; `age_s` seconds ago."""

    process: str
    age_s: float
    started_at: float
    detail: dict[str, Any]


class Heart:
    """Writes the heartbeat of this process."""

    def __init__(self, database: Database, process: str, **detail: Any) -> None:
        self._database = database
        self._process = process
        self.detail = {"pid": os.getpid(), **detail}
        with database.write() as connection:
            row = outbox.insert_for(connection, heartbeat).values(
                process=process, at=now(), started_at=now(), detail=self.detail
            )
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["process"],
                    set_={"at": now(), "started_at": now(), "detail": self.detail},
                )
            )

    def beat(self, **changes: Any) -> None:
        """Still alive, perhaps with something new to say."""
        self.detail |= changes
        news = {"detail": self.detail} if changes else {}
        with self._database.write() as connection:
            connection.execute(
                sa.update(heartbeat).where(heartbeat.c.process == self._process).values(at=now(), **news)
            )

    def end(self) -> None:
        """Stopped as asked: there is nothing to miss."""
        with self._database.write() as connection:
            connection.execute(sa.delete(heartbeat).where(heartbeat.c.process == self._process))


def forget_all(connection: Connection) -> None:
    """On the only machine of a node, before its processes start: earlier ones are gone, whatever they were called."""
    connection.execute(sa.delete(heartbeat))


def forget_dead(connection: Connection, older_than_s: float) -> int:
    """Processes that have given no sign of life for so long are no news any more. Their number."""
    return connection.execute(sa.delete(heartbeat).where(heartbeat.c.at < now() - older_than_s)).rowcount


def all_of(connection: Connection) -> list[Heartbeat]:
    """The last heartbeat of every process, by name."""
    rows = connection.execute(sa.select(heartbeat, now().label("now")).order_by(heartbeat.c.process))
    return [Heartbeat(row.process, row.now - row.at, row.started_at, row.detail) for row in rows]

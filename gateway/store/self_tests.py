"""Self-tests of pipelines: asked for by a person, run by a process worker between two jobs, the latest of each kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store import outbox
from gateway.store.database import now
from gateway.store.tables import self_test


def ask(connection: Connection, pipeline_id: str, *, by: str) -> None:
    """Let the next free process worker test a pipeline; what an earlier test found is forgotten."""
    values: dict[str, Any] = {
        "asked_by": by[:64], "asked_at": now(), "worker": None, "started_at": None, "ended_at": None,
        "outcome": sa.null(),
    }  # fmt: skip
    connection.execute(
        outbox.insert_for(connection, self_test)
        .values(pipeline_id=pipeline_id, **values)
        .on_conflict_do_update(index_elements=["pipeline_id"], set_=values)
    )
    outbox.add(connection, outbox.SELF_TEST, pipeline_id)


def begin(connection: Connection, pipeline_id: str, worker: str) -> bool:
    """A worker takes the test; False when another one has. It is announced no more, whatever becomes of the worker."""
    outbox.claimed(connection, outbox.SELF_TEST, pipeline_id)
    begun = connection.execute(
        sa.update(self_test)
        .where(self_test.c.pipeline_id == pipeline_id, self_test.c.started_at.is_(None))
        .values(worker=worker, started_at=now())
    )
    return begun.rowcount == 1


def end(connection: Connection, pipeline_id: str, worker: str, outcome: Mapping[str, Any]) -> None:
    """Keep what the test found, unless it was asked for anew meanwhile."""
    connection.execute(
        sa.update(self_test)
        .where(self_test.c.pipeline_id == pipeline_id, self_test.c.worker == worker)
        .values(ended_at=now(), outcome=dict(outcome))
    )


def latest(connection: Connection) -> dict[str, dict[str, Any]]:
    """The latest test of each pipeline: asked, begun and ended when and by whom, and its outcome once it has ended."""
    rows = connection.execute(sa.select(self_test))
    return {row.pipeline_id: dict(row._mapping) for row in rows}

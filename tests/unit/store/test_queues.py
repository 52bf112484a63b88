"""What the clock counts for the metrics: what is due, not what is to come, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from gateway.store import jobs, outbox, queues, tables
from gateway.store.database import Database

MakeJob = Callable[..., str]


def measured(database: Database) -> queues.Waiting:
    with database.read() as connection:
        return queues.measure(connection)


def test_an_empty_database_has_every_state_at_nothing(database: Database) -> None:
    waiting = measured(database)
    assert waiting.stages == {}
    assert waiting.series == {"RECEIVING": 0, "COMPLETE": 0, "WAITING": 0}
    assert waiting.jobs == {"QUEUED": 0, "RUNNING": 0}
    assert waiting.deliveries == {}


def test_rows_count_once_they_are_due(database: Database) -> None:
    now = database.now_s()
    with database.write() as connection:
        outbox.add(connection, outbox.DELIVER, "a", due_at=now - 60)
        outbox.add(connection, outbox.DELIVER, "b", due_at=now - 10)
        outbox.add(connection, outbox.DELIVER, "c", due_at=now + 3600)
    rows, age_s = measured(database).stages["deliver"]
    assert rows == 2
    assert 60 <= age_s < 90


def test_a_job_waits_and_then_runs(database: Database, make_job: MakeJob) -> None:
    job_id = make_job()
    assert measured(database).jobs == {"QUEUED": 1, "RUNNING": 0}
    assert measured(database).stages["process"][0] == 1
    with database.write() as connection:
        assert jobs.claim(connection, job_id, "worker", 30.0) is not None
    assert measured(database).jobs == {"QUEUED": 0, "RUNNING": 1}
    assert measured(database).stages == {}


def test_deliveries_count_by_destination_and_those_that_failed_have_no_age(
    database: Database, make_job: MakeJob
) -> None:
    job_id, now = make_job(), database.now_s()
    with database.write() as connection:
        for destination, state in (("pacs", "QUEUED"), ("archive", "FAILED"), ("viewer", "DELIVERED")):
            connection.execute(
                sa.insert(tables.delivery).values(
                    id=destination, job_id=job_id, destination=destination, profile="p", state=state, attempt=1,
                    not_before=now, give_up_at=now + 60, created_at=now - 100,
                )
            )  # fmt: skip
    waiting = measured(database)
    assert waiting.deliveries == {("pacs", "QUEUED"): 1, ("archive", "FAILED"): 1}
    assert set(waiting.oldest_delivery_s) == {"pacs"}
    assert 100 <= waiting.oldest_delivery_s["pacs"] < 130

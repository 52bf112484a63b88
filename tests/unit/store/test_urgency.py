"""The most urgent job is worked on first, whichever the message names, and none is forgotten for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from gateway.domain.states import JobState
from gateway.services.urgency import most_urgent_first
from gateway.store import jobs, outbox, tables
from gateway.store.database import Database

MakeJob = Callable[..., str]


@pytest.fixture
def add(database: Database, make_job: MakeJob) -> Callable[[int], str]:
    """Adds a job of a priority, 0 the most urgent, and announces it."""
    first = make_job()
    revisions = iter(range(10, 99))
    with database.write() as connection:
        row = dict(connection.execute(sa.select(tables.job).where(tables.job.c.id == first)).one()._mapping)
        connection.execute(sa.update(tables.job).values(state=JobState.CANCELLED))
        outbox.claimed(connection, outbox.PROCESS, first)

    def another(priority: int, **values: object) -> str:
        job_id = str(uuid.uuid4())
        revision = next(revisions)
        made = {"revision": revision, "created_at": row["created_at"] + revision}  # each later than the one before
        new = {"id": job_id, "priority": priority, **made, **values}
        with database.write() as connection:
            connection.execute(sa.insert(tables.job).values({**row, **new}))
            outbox.add(connection, outbox.PROCESS, job_id, priority=priority)
        return job_id

    return another


class Broker:
    """First in, first out, whatever the priority: a quorum queue of RabbitMQ."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.messages: list[str] = []
        self.worked_on: list[str] = []

    def announce(self) -> None:
        outbox.relay(self.database, lambda _, subject, __: self.messages.append(subject))

    def work(self, job_id: str) -> None:
        with self.database.write() as connection:
            if jobs.claim(connection, job_id, "worker", 30.0) is not None:
                self.worked_on.append(job_id)

    def drain(self) -> None:
        """One worker, message after message."""
        work_on = most_urgent_first(self.database, self.work, self.announce)
        for _ in range(100):
            if not self.messages:
                return
            work_on(self.messages.pop(0))
        raise AssertionError("messages without end")


@pytest.fixture
def broker(database: Database) -> Broker:
    return Broker(database)


def test_jobs_are_worked_on_in_the_order_of_their_urgency(broker: Broker, add: Callable[[int], str]) -> None:
    low = [add(9), add(9)]
    broker.announce()
    normal = [add(5), add(5)]
    broker.announce()
    urgent = add(0)
    broker.announce()
    broker.drain()
    assert broker.worked_on[:3] == [urgent, *normal]
    assert sorted(broker.worked_on[3:]) == sorted(low)


def test_a_job_that_cannot_run_yet_keeps_nobody(broker: Broker, add: Callable[..., str], database: Database) -> None:
    later = add(0, not_before=database.now_s() + 3600)
    spent = add(0, attempt=3)
    low = add(9)
    broker.announce()
    broker.drain()
    assert broker.worked_on == [low]
    assert {later, spent}.isdisjoint(broker.worked_on)


def test_a_message_that_came_twice_does_no_harm(broker: Broker, add: Callable[[int], str]) -> None:
    low, urgent = add(9), add(0)
    broker.announce()
    broker.messages += [low, urgent, low]
    broker.drain()
    assert broker.worked_on == [urgent, low]

"""The most urgent job first, whatever the broker knows of priorities: a message says that there is work, and no more.

Quorum queues of RabbitMQ before 4.0 know none, later ones two. Here the worker that a message has reached asks the
database for something more urgent, works on that, and has the job of its message announced again for the next worker.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.store import jobs, outbox
from gateway.store.database import Database


def most_urgent_first(
    database: Database, work: Callable[[str], None], announce: Callable[[], None]
) -> Callable[[str], None]:
    """`work` on the most urgent job when it is told of any. Raises Unavailable."""

    def work_on(job_id: str) -> None:
        with database.read() as connection:
            urgent = jobs.more_urgent(connection, job_id)
        if urgent is not None:
            with database.write() as connection:
                outbox.forget_announcement(connection, outbox.PROCESS, job_id)
            announce()
        work(urgent or job_id)

    return work_on

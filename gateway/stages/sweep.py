"""Sweep: return to the queue what a dead worker left, announce again what the broker lost, bear a stepped clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway import logs, metrics
from gateway.killpoints import reached
from gateway.store import candidates, clock_step, deliveries, destinations, jobs, outbox
from gateway.store.database import Database

# a claim follows its message within milliseconds when a worker is free
_LOST_AFTER_S = 5.0
# NTP slews what is less, and a tick of the clock takes no longer
_IS_A_STEP_S = 2.0

log = logs.get("sweep")


def sweep(database: Database, queue_length: Callable[[str], int]) -> None:
    """Take back expired leases and end vain waiting; announce again what waits while the broker's queue is empty."""
    with database.write() as connection:
        taken = jobs.take_back(connection) + deliveries.take_back(connection)
        forgotten = destinations.announce_forgotten(connection)
        if taken:
            reached("sweep.taken")
    if taken:
        reached("sweep.committed")
        metrics.LEASES_EXPIRED.inc(taken)
        log.warning("leases expired", taken_back=taken)
    if forgotten:
        log.warning("deliveries that nobody had announced", destinations=forgotten)
    given_up = candidates.sweep(database)
    if given_up:
        log.warning("series whose partners did not come", given_up=given_up)
    for waiting in outbox.unclaimed(database, _LOST_AFTER_S):
        if queue_length(waiting.stage) == 0:
            outbox.announce_again(database, waiting.stage, _LOST_AFTER_S)
            reached("sweep.announced")
            metrics.ANNOUNCED_AGAIN.labels(waiting.stage).inc(waiting.rows)
            log.info("announced again", stage=waiting.stage, rows=waiting.rows)


class ClockWatch:
    """Notices when the database's clock was put forward or back, by one that cannot be, and moves waiting times too.

    A step that goes unnoticed, because nobody led at that moment, costs attempts or time and nothing else: attempt
    numbers fence whoever lost a lease too early.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ahead_s: float | None = None

    def forget(self) -> None:
        """Begin anew: who was not the leader for a while cannot tell a step from another's."""
        self._ahead_s = None

    def __call__(self) -> None:
        """Look at both clocks."""
        before = time.monotonic()
        now_s = self._database.now_s()
        ahead_s = now_s - (before + time.monotonic()) / 2
        step_s = self._put_back_before() if self._ahead_s is None else ahead_s - self._ahead_s
        if abs(step_s) > _IS_A_STEP_S + (time.monotonic() - before):
            with self._database.write() as connection:
                clock_step.move_times(connection, step_s)
            log.warning("the clock of the database was put forward or back", step_s=round(step_s, 1))
        self._ahead_s = ahead_s

    def _put_back_before(self) -> float:
        """A clock that was put back while nobody looked, as at a restart, is behind the last sign of life."""
        with self._database.read() as connection:
            ahead_s = clock_step.newest_sign_of_life_s(connection)
        return min(0.0, -ahead_s) if ahead_s is not None else 0.0

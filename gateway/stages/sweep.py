"""Sweep: return to the queue what a dead worker left, and announce again what the broker lost."""

from __future__ import annotations

from collections.abc import Callable

from gateway import logs
from gateway.store import deliveries, jobs, outbox
from gateway.store.database import Database

# a claim follows its message within milliseconds when a worker is free
_LOST_AFTER_S = 5.0

log = logs.get("sweep")


def sweep(database: Database, queue_length: Callable[[str], int]) -> None:
    """Take back expired leases; announce again what waits while the broker's queue for its stage is empty."""
    with database.write() as connection:
        taken = jobs.take_back(connection) + deliveries.take_back(connection)
    if taken:
        log.warning("leases expired", taken_back=taken)
    for waiting in outbox.unclaimed(database, _LOST_AFTER_S):
        if queue_length(waiting.stage) == 0:
            outbox.announce_again(database, waiting.stage, _LOST_AFTER_S)
            log.info("announced again", stage=waiting.stage, rows=waiting.rows)

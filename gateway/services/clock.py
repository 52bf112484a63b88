"""The clock: closes complete series, announces what waits, takes back what was lost. One process."""

from __future__ import annotations

import contextlib
import threading
import time

from gateway import logs
from gateway.domain.completeness import Policy
from gateway.errors import Unavailable
from gateway.services.doorbell import Doorbell, make_app
from gateway.services.notify import notify
from gateway.settings import Settings
from gateway.stages.assemble import assemble
from gateway.stages.sweep import sweep
from gateway.store import heartbeats, judgement, outbox
from gateway.store.database import Database

_SWEEP_EVERY_S = 1.0
_SHORTEST_S = 0.01
_AFTER_A_FAULT_S = 1.0

log = logs.get("clock")


def run(settings: Settings, stopping: threading.Event) -> None:
    """Tick until `stopping` is set."""
    database = Database(settings.database_url)
    policy = Policy(settings.assemble.quiet_s, settings.assemble.quiet_full_s, settings.assemble.fallback_s)
    doorbell = Doorbell(make_app(settings))
    # a series that begins while we sleep is never due before quiet_full_s: half of that and none is judged late
    longest_s = min(0.5, policy.quiet_full_s / 2)
    heart = heartbeats.Heart(database, "clock")
    next_sweep = 0.0
    notify("READY=1")
    log.info("ready")
    while not stopping.is_set():
        wait_s = longest_s
        try:
            assemble(database, policy)
            outbox.relay(database, doorbell.publish)
            if time.monotonic() >= next_sweep:
                sweep(database, doorbell.queue_length)
                heart.beat()
                next_sweep = time.monotonic() + _SWEEP_EVERY_S
            wait_s = _next_due_s(database, longest_s)
        except Unavailable as error:
            log.warning("will try again", reason=str(error))
            wait_s = _AFTER_A_FAULT_S
        stopping.wait(wait_s)
    with contextlib.suppress(Unavailable):
        heart.end()
    database.close()
    log.info("stopped")


def _next_due_s(database: Database, longest_s: float) -> float:
    with database.read() as connection:
        waits = (judgement.next_judgement_in_s(connection), outbox.next_due_in_s(connection))
    return max(_SHORTEST_S, min([longest_s, *(wait for wait in waits if wait is not None)]))

"""The clock: closes complete series, announces what waits, takes back what was lost, deletes what is over.

One clock leads; any others stand by and take over within two seconds of its end. Each step asks first whether this
clock leads still. Two that led at once for a moment would do no harm: every step is a conditional update.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway import logs, metrics
from gateway.domain.completeness import Policy
from gateway.errors import Unavailable
from gateway.flow import QUEUE_OF
from gateway.services.doorbell import Doorbell, make_app
from gateway.services.messenger import Messengers
from gateway.services.notify import notify
from gateway.settings import Settings
from gateway.stages.alert import Watch
from gateway.stages.assemble import assemble
from gateway.stages.deliver import quiet_now
from gateway.stages.retain import Retain
from gateway.stages.sweep import ClockWatch, sweep
from gateway.store import heartbeats, judgement, outbox, queues
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.forecast import days_until_full
from gateway.store.health import existing
from gateway.store.leadership import Leadership, leadership_of

_SWEEP_EVERY_S = 1.0
_COUNT_EVERY_S = 5.0
_BEAT_EVERY_S = 1.0
_LOOK_AHEAD_EVERY_S = 600.0
_ALERT_EVERY_S = 5.0
_FORGET_EVERY_S = 3600.0
_STAND_BY_S = 0.5
_SHORTEST_S = 0.01
_AFTER_A_FAULT_S = 1.0

log = logs.get("clock")


@dataclass(slots=True)
class _Step:
    """Something that the leader does every so often."""

    work: Callable[[], object]
    every_s: float = 0.0
    due: float = 0.0


class Clock:
    """The steps of a leader, in their order."""

    def __init__(self, settings: Settings, database: Database, leadership: Leadership) -> None:
        policy = Policy(settings.assemble.quiet_s, settings.assemble.quiet_full_s, settings.assemble.fallback_s)
        doorbell = Doorbell(make_app(settings))
        self._settings = settings
        self._database = database
        self._leadership = leadership
        # a series that begins while we sleep is never due before quiet_full_s: half of that and none is judged late
        self._longest_s = min(0.5, policy.quiet_full_s / 2)
        self._watch = ClockWatch(database)
        directory = Directory(settings, database)
        alerts = Watch(
            database, lambda: directory.settings, lambda: quiet_now(directory.settings), lambda: self.spool_full_in_days
        )
        retain = Retain(database, settings.spool_dir, settings.retention)
        self._steps = [
            _Step(self._watch),
            _Step(directory.refresh, _SWEEP_EVERY_S),
            _Step(lambda: assemble(database, policy)),
            _Step(lambda: outbox.relay(database, doorbell.publish)),
            _Step(lambda: sweep(database, doorbell.queue_length), _SWEEP_EVERY_S),
            _Step(retain, _SWEEP_EVERY_S),
            _Step(lambda: show_waiting(database), _COUNT_EVERY_S),
            _Step(self._look_ahead, _LOOK_AHEAD_EVERY_S),
            _Step(alerts, _ALERT_EVERY_S),
            _Step(alerts.forget_old, _FORGET_EVERY_S),
        ]
        self.leads = False
        self.spool_full_in_days: float | None = None

    def tick(self) -> float:
        """Do what is due, as long as we lead; how many seconds to sleep then. Raises Unavailable."""
        for step in self._steps:
            if not self._still_leads():
                return _STAND_BY_S
            if time.monotonic() >= step.due:
                step.work()
                step.due = time.monotonic() + step.every_s
        return self._next_due_s()

    def _look_ahead(self) -> None:
        with self._database.read() as connection:
            self.spool_full_in_days = days_until_full(
                connection,
                shutil.disk_usage(existing(self._settings.node.state_dir)).free,
                self._settings.reserve_bytes,
                self._settings.retention.files_days or None,
            )

    def _still_leads(self) -> bool:
        leads = self._leadership.leads()
        if leads != self.leads:
            log.info("leads" if leads else "stands by")
            self.leads = leads
            metrics.show_leadership(leads)
            self._watch.forget()
        return leads

    def _next_due_s(self) -> float:
        with self._database.read() as connection:
            waits = (judgement.next_judgement_in_s(connection), outbox.next_due_in_s(connection))
        return max(_SHORTEST_S, min([self._longest_s, *(wait for wait in waits if wait is not None)]))


def show_waiting(database: Database) -> None:
    """Count what waits, for the metrics."""
    with database.read() as connection:
        waiting = queues.measure(connection)
    metrics.show_queues(waiting, QUEUE_OF)


def run(settings: Settings, stopping: threading.Event, index: int = 0) -> None:
    """Tick until `stopping` is set; `index` tells clocks of one host apart."""
    database = Database(settings.database_url)
    leadership = leadership_of(database, settings.run_dir)
    clock = Clock(settings, database, leadership)
    heart = heartbeats.Heart(database, f"clock-{index}@{socket.gethostname()}", leads=False)
    notify("READY=1")
    log.info("ready")
    next_beat = 0.0
    with Messengers(database, settings):
        while not stopping.is_set():
            try:
                wait_s = clock.tick()
                if time.monotonic() >= next_beat or heart.detail["leads"] != clock.leads:
                    heart.beat(leads=clock.leads, spool_full_in_days=clock.spool_full_in_days)
                    next_beat = time.monotonic() + _BEAT_EVERY_S
            except Unavailable as error:
                log.warning("will try again", reason=str(error))
                wait_s = _AFTER_A_FAULT_S
            notify("WATCHDOG=1")
            stopping.wait(wait_s)
    leadership.resign()
    with contextlib.suppress(Unavailable):
        heart.end()
    database.close()
    log.info("stopped")

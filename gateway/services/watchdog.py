"""The watchdog of a worker: ends the process when work in its hands has lost its lease and still does not return.

A lease is renewed by progress, so work without one hangs, in a GPU kernel or in a call that never returns, and no
thread can be ended from outside. What the process held is in the queue again by then; its successor begins afresh.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway import logs
from gateway.errors import Unavailable

EXIT_CODE = 70  # EX_SOFTWARE of sysexits(3)

_LOOK_EVERY_S = 1.0
_OTHERS_WITHIN_S = 60.0

log = logs.get("watchdog")


@dataclass(slots=True, eq=False)
class _Work:
    subject: str
    was_held: bool = False
    silent_s: float = 0.0


class Watchdog:
    """Looks every second at what is in hand. `held` gives the ids whose leases this worker holds.

    `patience_s` is how long work may go on after its lease was lost, counted while this process runs: one that was
    stopped and goes on has the time to notice by itself. Where `alone` is False, other work of the process is given
    a minute to end first.
    """

    def __init__(self, held: Callable[[], set[str]], patience_s: float, *, alone: bool) -> None:
        self._held = held
        self._patience_s = patience_s
        self._alone = alone
        self._lock = threading.Lock()
        self._in_hand: list[_Work] = []

    @contextmanager
    def watching(self, subject: str) -> Iterator[None]:
        """Watch over work on `subject` until the end of the block."""
        work = _Work(subject)
        with self._lock:
            self._in_hand.append(work)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.remove(work)

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        threading.Thread(target=self._look_for_ever, daemon=True, name="watchdog").start()

    def _look_for_ever(self) -> None:
        looked_at = time.monotonic()
        while True:
            time.sleep(_LOOK_EVERY_S)
            elapsed_s = min(time.monotonic() - looked_at, 2 * _LOOK_EVERY_S)
            looked_at = time.monotonic()
            try:
                hanging = self._hanging(elapsed_s)
            except Unavailable:
                continue  # nobody can renew a lease now
            if hanging:
                self._end(hanging)

    def _hanging(self, elapsed_s: float) -> list[_Work]:
        with self._lock:
            in_hand = list(self._in_hand)
        held = self._held() if in_hand else set()
        for work in in_hand:
            if work.subject in held:
                work.was_held, work.silent_s = True, 0.0
            elif work.was_held:
                work.silent_s += elapsed_s
        return [work for work in in_hand if work.silent_s > self._patience_s]

    def _end(self, hanging: list[_Work]) -> None:
        subjects = [work.subject for work in hanging]
        log.critical("hangs: no progress, and the lease is lost; this process ends", subjects=subjects)
        if not self._alone:
            os.kill(os.getpid(), signal.SIGTERM)  # take nothing new
            self._wait_for_others(hanging)
        os._exit(EXIT_CODE)  # nothing else ends a thread that hangs

    def _wait_for_others(self, hanging: list[_Work]) -> None:
        until = time.monotonic() + _OTHERS_WITHIN_S
        while time.monotonic() < until:
            with self._lock:
                if all(work in hanging for work in self._in_hand):
                    return
            time.sleep(_LOOK_EVERY_S)

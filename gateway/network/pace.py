"""How fast a destination is sent to: a bandwidth that all transfers to it share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Pace = Callable[[int], None]
"""Called with the number of bytes before each piece of an instance goes out. It may wait, or raise TransferStopped."""


def at_once(_: int) -> None:
    """The pace of who has nobody to spare."""


class Bandwidth:
    """Lets `bytes_per_s` through on average, whoever asks: the threads of a process share it, one piece at a time."""

    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until `count` bytes may go; `meanwhile` is called about twice a second for each who takes."""
        while count > 0:
            part = min(count, self.bytes_per_s // 2 + 1)
            self._take(part)
            meanwhile()
            count -= part

    def _take(self, count: int) -> None:
        with self._lock:
            begin = max(self._free_at, time.monotonic())
            self._free_at = begin + count / self.bytes_per_s
        if (wait_s := begin - time.monotonic()) > 0:
            time.sleep(wait_s)


class Bandwidths:
    """The bandwidth of each destination, by name: one for all of its transfers, a new one when its limit changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, Bandwidth] = {}

    def of(self, name: str, bytes_per_s: int) -> Bandwidth | None:
        """What the transfers to a destination share; None without a limit."""
        if not bytes_per_s:
            return None
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or kept.bytes_per_s != bytes_per_s:
                kept = self._kept[name] = Bandwidth(bytes_per_s)
            return kept

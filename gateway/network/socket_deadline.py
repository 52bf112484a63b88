"""An absolute deadline for a socket in the hands of a library whose own timeouts begin anew with every byte."""

from __future__ import annotations

import math
import socket
import threading
import time


class SocketDeadline:
    """Shuts a socket at an absolute time, from a thread of its own."""

    def __init__(self) -> None:
        self._at = math.inf
        self._sock: socket.socket | None = None
        self._is_over = False
        self._changed = threading.Condition()
        self.has_passed = False

    def start(self) -> None:
        """Watch, in a thread of its own."""
        threading.Thread(target=self._watch, daemon=True, name="socket-deadline").start()

    def stop(self) -> None:
        """Watch no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def begin(self, seconds: float) -> None:
        """The next thing has to be over within `seconds`."""
        with self._changed:
            self._at = time.monotonic() + seconds
            self._changed.notify()

    def end(self) -> None:
        """Nothing is waited for."""
        with self._changed:
            self._at = math.inf

    def guard(self, sock: socket.socket) -> None:
        """`sock` is what is to be shut."""
        with self._changed:
            self._sock = sock

    def _watch(self) -> None:
        with self._changed:
            while not self._is_over:
                left_s = self._at - time.monotonic()
                if left_s <= 0:
                    self._shut()
                    self._at = math.inf
                else:
                    self._changed.wait(min(left_s, threading.TIMEOUT_MAX))

    def _shut(self) -> None:
        self.has_passed = True
        if self._sock is not None:
            try:
                # SSLSocket's own would take the TLS object away from the thread that reads
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            except OSError:
                return

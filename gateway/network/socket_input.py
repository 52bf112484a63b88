"""What arrives on a socket, read into a lent buffer by absolute deadlines.

An association that waits holds no buffer: a thousand idle ones cost no more memory than their threads.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Callable

from gateway.network.association_lost import TooSlow, TransportLost

BUFFER_BYTES = 1024 * 1024  # a CT instance of 512 x 512 is written at once
_KEPT = 16
_TOO_SLOW = "nothing more arrived in time"


class Buffers:
    """Buffers for the associations that are receiving right now; safe to call from every thread."""

    def __init__(self, size_bytes: int = BUFFER_BYTES) -> None:
        self._size_bytes = size_bytes
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """A buffer, whatever is in it."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(bytearray(self._size_bytes))

    def give_back(self, buffer: memoryview) -> None:
        """The buffer is not used any more, nor any view of it."""
        if len(self._free) < _KEPT:
            self._free.append(buffer)


class SocketInput:
    """Bytes of a socket in their order; raises TooSlow at `deadline` (`time.monotonic` seconds), and TransportLost."""

    def __init__(self, sock: socket.socket, buffers: Buffers) -> None:
        self._sock = sock
        self._buffers = buffers
        self._buffer: memoryview | None = None
        self._start = self._end = 0
        self.deadline = -math.inf

    @property
    def buffered(self) -> int:
        """How many bytes wait to be taken."""
        return self._end - self._start

    @property
    def room(self) -> int:
        """How many bytes can still be read, those that wait included, before views of earlier ones become void."""
        return 0 if self._buffer is None else len(self._buffer) - self._start

    def wait(self) -> None:
        """Wait for the next byte, without a buffer until it is there."""
        if self.buffered:
            return
        self.rest()
        has_more = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        if not has_more and not _poll(self._sock, select.POLLIN, max(0.0, self.deadline - time.monotonic())):
            raise TooSlow(_TOO_SLOW)
        self.fill()

    def rest(self) -> None:
        """Give the buffer back, if all that it holds was taken."""
        if self._buffer is not None and not self.buffered:
            self._buffers.give_back(self._buffer)
            self._buffer = None

    def fill(self) -> None:
        """Read what has arrived, at least one byte. Views given earlier are void if `room` was 0."""
        if self._buffer is None:
            self._buffer = self._buffers.take()
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            left = self.buffered
            self._buffer[:left] = self._buffer[self._start :]
            self._start, self._end = 0, left
        room = self._buffer[self._end :]
        try:
            count = by(self.deadline, self._sock, lambda: self._sock.recv_into(room), select.POLLIN)
        except TimeoutError:
            raise TooSlow(_TOO_SLOW) from None
        except OSError as error:
            raise TransportLost(f"the transport failed: {error.strerror or type(error).__name__}") from error
        if count == 0:
            raise TransportLost("the peer closed the transport")
        self._end += count

    def take(self, most: int) -> memoryview:
        """Up to `most` of the bytes that wait, as a view of the buffer."""
        assert self._buffer is not None, "fill() comes first"
        start = self._start
        self._start = min(start + most, self._end)
        return self._buffer[start : self._start]

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        if self.buffered >= count > 0:
            return bytes(self.take(count))
        whole = bytearray()
        while len(whole) < count:
            if not self.buffered:
                self.fill()
            whole += self.take(count - len(whole))
        return bytes(whole)


def by(deadline: float, sock: socket.socket, call: Callable[[], int], ready: int) -> int:
    """What `call` on the socket gives; raises TimeoutError at the deadline. `ready`, POLLIN or POLLOUT, is its need.

    It is tried first and waited for only then: a timeout of the socket's own would cost a system call each time.
    """
    if sock.gettimeout() != 0:
        sock.settimeout(0)
    while True:
        left = remaining(deadline)
        try:
            return call()
        except BlockingIOError:
            _poll(sock, ready, left)
        except ssl.SSLWantReadError:  # TLS may have to read before it can write, and the other way round
            _poll(sock, select.POLLIN, left)
        except ssl.SSLWantWriteError:
            _poll(sock, select.POLLOUT, left)


def _poll(sock: socket.socket, ready: int, seconds: float) -> bool:
    """Whether the socket got ready, or failed, in time."""
    poll = select.poll()
    poll.register(sock, ready)
    return bool(poll.poll(math.ceil(seconds * 1000)))


def remaining(deadline: float) -> float:
    """Seconds until `deadline`; raises TimeoutError when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left

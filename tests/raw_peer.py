"""A peer that is no application entity: it does with a connection what the test says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

Behave = Callable[[socket.socket, threading.Event], None]
"""Does what it likes with a connection until it returns; the event is set when the test is over."""


class RawPeer:
    """Listens on a free port of the loopback; `connections` counts those that came."""

    def __init__(self, behave: Behave) -> None:
        self._behave = behave
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Be gone."""
        self._over.set()
        # a closed socket would leave the thread in accept
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(30)
            self._behave(sock, self._over)


def rejecting(result: int, source: int, reason: int) -> Behave:
    """Answers an A-ASSOCIATE-RQ with this A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def behave(sock: socket.socket, _: threading.Event) -> None:
        _read_request(sock)
        sock.sendall(bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason]))
        sock.recv(1)

    return behave


def one_byte_a_second(sock: socket.socket, over: threading.Event) -> None:
    """Answers an A-ASSOCIATE-RQ with an A-ASSOCIATE-AC that takes for ever."""
    _read_request(sock)
    sock.sendall(bytes([2]))
    while not over.wait(1.0):
        sock.sendall(b"\0")


def silent(_: socket.socket, over: threading.Event) -> None:
    """Takes the connection and does nothing with it."""
    over.wait()


def _read_request(sock: socket.socket) -> None:
    head = b""
    while len(head) < 6:
        head += sock.recv(6 - len(head))
    left = int.from_bytes(head[2:6], "big")
    while left:
        left -= len(sock.recv(left))

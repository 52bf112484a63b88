"""The protocol of sd_notify(3): how a process says that it is ready, to systemd as to our own supervisor."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from itertools import count
from typing import Self

_SIGN_OF_LIFE_EVERY_S = 2.0

_numbers = count()


def notify(message: str) -> None:
    """Send `message` (``READY=1``, ``STOPPING=1``) to ``$NOTIFY_SOCKET``; without one, do nothing.

    From ``READY=1`` on, ``WATCHDOG=1`` is sent every two seconds by a thread: as long as this process runs at all.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    _send(address, message)
    if message == "READY=1":
        threading.Thread(target=_say_for_ever, args=(address,), daemon=True, name="sign-of-life").start()


def _say_for_ever(address: str) -> None:
    while True:
        time.sleep(_SIGN_OF_LIFE_EVERY_S)
        _send(address, "WATCHDOG=1")


def _send(address: str, message: str) -> None:
    if address.startswith("@"):
        address = "\0" + address[1:]
    # whoever listened may have stopped listening: that must never stop a service
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.setblocking(False)  # nor one that reads no more, when its queue is full
        channel.sendto(message.encode(), address)


class ReadyChannel:
    """The other end: hand `address` to a child as ``NOTIFY_SOCKET``, then hear. Abstract, so no file is left behind."""

    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"athanor-{os.getpid()}-{next(_numbers)}"
        self._channel.bind("\0" + name)
        self.address = "@" + name

    def wait(self, timeout_s: float) -> bool:
        """Whether ``READY=1`` came within `timeout_s`."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if "READY=1" in self.hear(left):
                return True
        return False

    def hear(self, timeout_s: float) -> str:
        """The next message; empty when none came within `timeout_s`."""
        self._channel.settimeout(timeout_s)
        try:
            return self._channel.recv(4096).decode(errors="replace")
        except TimeoutError:
            return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

"""The protocol of sd_notify(3): how a process says that it is ready, to systemd as to our own supervisor."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from itertools import count
from typing import Self

_numbers = count()


def notify(message: str) -> None:
    """Send `message` (``READY=1``, ``STOPPING=1``) to ``$NOTIFY_SOCKET``; without one, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # whoever listened may have stopped listening: that must never stop a service
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.sendto(message.encode(), address)


class ReadyChannel:
    """The other end: hand `address` to a child as ``NOTIFY_SOCKET``, then wait. Abstract, so no file is left behind."""

    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"athanor-{os.getpid()}-{next(_numbers)}"
        self._channel.bind("\0" + name)
        self.address = "@" + name

    def wait(self, timeout_s: float) -> bool:
        """Whether ``READY=1`` came within `timeout_s`."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            self._channel.settimeout(left)
            try:
                if b"READY=1" in self._channel.recv(4096):
                    return True
            except TimeoutError:
                return False
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

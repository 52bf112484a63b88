"""Tells whoever started this process that it is ready: the protocol of sd_notify(3), for systemd and our supervisor."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send `message` (``READY=1``, ``STOPPING=1``) to ``$NOTIFY_SOCKET``; without one, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)

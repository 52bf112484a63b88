"""The limit of this machine for durable receiving: bytes from a socket into a synced file, and nothing else.

    receive into a buffer > write > sync the file > link > sync the folder > one byte back

No DICOM, no header, no row: what a storage SCP that keeps the same promise can at best come near to.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.store.arriving import sync_folder

_BUFFER_BYTES = 512 * 1024
_LENGTH = struct.Struct(">Q")
_WITHIN_S = 120.0


def synced_files_at_once(folder: Path, studies: Sequence[Sequence[Path]]) -> float:
    """Take each study in a process of its own from a sender of its own; seconds until the last answer."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(len(studies) + 1)
    ends = context.SimpleQueue()
    processes = []
    for number, study in enumerate(studies):
        place = folder / str(number)
        place.mkdir(parents=True)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        processes += [
            context.Process(target=_receive, args=(listener, place)),
            context.Process(target=_send, args=(port, [path.read_bytes() for path in study], start, ends)),
        ]
    for process in processes:
        process.start()
    start.wait(_WITHIN_S)
    began = time.perf_counter()
    for _ in studies:
        ends.get()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds


def _send(port: int, contents: Sequence[bytes], start: Any, ends: Any) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start.wait(_WITHIN_S)
        for content in contents:
            sock.sendmsg([_LENGTH.pack(len(content))])
            sock.sendall(content)
            sock.recv(1)
    ends.put(None)


def _receive(listener: socket.socket, folder: Path) -> None:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    number = 0
    while header := sock.recv(_LENGTH.size, socket.MSG_WAITALL):
        _keep(sock, _LENGTH.unpack(header)[0], buffer, folder, str(number))
        sock.send(b"\0")
        number += 1


def _keep(sock: socket.socket, left: int, buffer: memoryview, folder: Path, name: str) -> None:
    part = folder / f"{name}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    while left:
        count = sock.recv_into(buffer[: min(left, len(buffer))])
        os.write(descriptor, buffer[:count])
        left -= count
    os.fsync(descriptor)
    os.close(descriptor)
    os.link(part, folder / name)
    sync_folder(folder)

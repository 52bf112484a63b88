"""Real peers for the network: DCMTK programs, raw sockets, and certificates for TLS."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from gateway.commands.sandbox import free_port
from gateway.network.dimse import Command, encode_command
from gateway.network.negotiation import ProposedContext, request_pdu
from gateway.network.receiver import AssociationEnd, AssociationInfo, Buffer, StoreAnswer, StoreRequest
from gateway.network.scp import StorageScp
from gateway.network.tls import TlsFiles
from gateway.network.upper_layer import data_pdu

AE_TITLE = "ATHANOR"


def sample(name: str) -> Path:
    """A DICOM file that comes with pydicom."""
    return Path(str(get_testdata_file(name)))


@dataclass(frozen=True, slots=True)
class Stored(StoreRequest):
    """An object that came whole."""

    encoded: bytes = b""


class Incoming:
    """An object that is coming; its pieces are copied, because they are lent."""

    def __init__(self, recorder: Recorder, request: StoreRequest) -> None:
        self._recorder = recorder
        self._request = request
        self._encoded = bytearray()

    def write(self, *pieces: Buffer) -> None:
        for piece in pieces:
            self._encoded += piece

    def finish(self) -> StoreAnswer:
        fields = {name: getattr(self._request, name) for name in StoreRequest.__slots__}
        return self._recorder.keep(Stored(**fields, encoded=bytes(self._encoded)))

    def discard(self) -> None:
        self._recorder.discard(self._request)


class Recorder:
    """A receiver that keeps everything in memory and lets a test wait for it."""

    def __init__(self) -> None:
        self.opened: list[AssociationInfo] = []
        self.stored: list[Stored] = []
        self.discarded: list[StoreRequest] = []
        self.ended: list[tuple[AssociationInfo, AssociationEnd]] = []
        self.answer: Callable[[Stored], StoreAnswer] = lambda _: StoreAnswer(0)
        self._changed = threading.Condition()

    def association_opened(self, info: AssociationInfo) -> None:
        self._add(self.opened, info)

    def begin(self, request: StoreRequest) -> Incoming:
        return Incoming(self, request)

    def keep(self, stored: Stored) -> StoreAnswer:
        self._add(self.stored, stored)
        return self.answer(stored)

    def discard(self, request: StoreRequest) -> None:
        self._add(self.discarded, request)

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        self._add(self.ended, (info, how))

    def wait_until(self, happened: Callable[[Recorder], bool]) -> None:
        """Wait until `happened` is true of this recorder; fails after ten seconds."""
        with self._changed:
            assert self._changed.wait_for(lambda: happened(self), 10), "it did not happen within 10 s"

    def _add(self, where: list[Any], what: object) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()


class Connect(Protocol):
    def __call__(self, port: int, host: str = "127.0.0.1") -> RawPeer: ...


class Listen(Protocol):
    def __call__(self, *, tls: ssl.SSLContext | None = None, **config: object) -> StorageScp: ...


def dcmtk(program: str, *arguments: object, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK program to its end."""
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, "TCP_NODELAY": "1"},
    )


def storescu(port: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Send with DCMTK's storescu."""
    return dcmtk(
        "storescu", "-v", "-aet", "SCANNER", "-aec", AE_TITLE, *arguments[:-1], "127.0.0.1", port, arguments[-1]
    )


def echoscu(port: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Ask with DCMTK's echoscu."""
    return dcmtk("echoscu", "-v", "-aet", "SCANNER", "-aec", AE_TITLE, *arguments, "127.0.0.1", port)


@contextmanager
def program(*command: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs in the background, and is gone afterwards."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_listener(port: int, seconds: float = 15.0) -> None:
    """Wait until something listens on the port."""
    until = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < until, f"nothing listens on port {port}"
        time.sleep(0.02)


@contextmanager
def storescp(folder: Path, *arguments: object) -> Iterator[int]:
    """DCMTK's storescp, which writes to `folder` exactly what it receives; gives its port."""
    port = free_port()
    with program("storescp", "+B", "-od", folder, *arguments, port):
        wait_for_listener(port)
        yield port


class RawPeer:
    """A peer made of bytes: it says whatever a test wants it to."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, port), 5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(10)

    def associate(
        self, proposed: Sequence[ProposedContext] = (ProposedContext(MRImageStorage, ExplicitVRLittleEndian),)
    ) -> None:
        self.sock.sendall(request_pdu("RAW", AE_TITLE, proposed, 16384))
        assert self.read_pdu()[0] == 2

    def send(self, *pdus: bytes) -> None:
        self.sock.sendall(b"".join(pdus))

    def pump(self, data: bytes, times: int) -> None:
        """Send the same bytes again and again, as long as the other side takes them."""
        for _ in range(times):
            self.sock.sendall(data)

    def read_pdu(self) -> tuple[int, bytes]:
        """Type and content of the next PDU; (0, b"") when the other side closed."""
        header = self._read(6)
        if len(header) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", header)
        return kind, self._read(length)

    def is_closed(self) -> bool:
        """Whether the other side closes, waiting for it."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.sock.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.sock.recv(count - len(data))):
            data += more
        return data


def store_command(sop_instance_uid: str = "1.2.3.4", **changes: object) -> bytes:
    """A C-STORE-RQ for an MR image as one PDU over presentation context 1."""
    fields: dict[str, object] = {
        "command_field": 1,
        "message_id": 7,
        "affected_sop_class_uid": str(MRImageStorage),
        "affected_sop_instance_uid": sop_instance_uid,
        "priority": 0,
        "command_data_set_type": 0,
    }
    command = Command(**{**fields, **changes})  # type: ignore[arg-type]
    return data_pdu(1, encode_command(command), is_command=True, is_last=True)


def listening_tls(certificates: Path) -> ssl.SSLContext:
    return TlsFiles(certificates / "certificate.pem", certificates / "key.pem").listening_context()


def calling_tls(certificates: Path) -> TlsFiles:
    return TlsFiles(ca=certificates / "certificate.pem")

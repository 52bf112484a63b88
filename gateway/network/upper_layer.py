"""The DICOM upper layer on a blocking socket (PS3.8 section 9): whole PDUs, each by its deadline.

Every wait has an absolute deadline in `time.monotonic` seconds, so a peer that sends one byte at a time gains
nothing.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from gateway.network.association_lost import (
    AbortReason,
    AssociationLost,
    PeerAborted,
    ProtocolViolation,
    Released,
    TooLarge,
    TooSlow,
    TransportLost,
)
from gateway.network.socket_input import Buffers, SocketInput, by, remaining
from gateway.network.statuses import Rejection

__all__ = [
    "MINIMUM_BYTES_PER_S",
    "RELEASE_RP_PDU",
    "RELEASE_RQ_PDU",
    "AbortReason",
    "AssociationLost",
    "Fragment",
    "PduType",
    "PeerAborted",
    "ProtocolViolation",
    "Released",
    "TooLarge",
    "TooSlow",
    "TransportLost",
    "UpperLayer",
    "abort_pdu",
    "data_pdu",
    "piece_bytes",
    "reject_pdu",
]

MINIMUM_BYTES_PER_S = 16 * 1024
"""A message that has used up its time may go on only while it arrives at this rate on average."""

_SMALL_BUFFER_BYTES = 32 * 1024
_ABORT_WAIT_S = 1.0
_LINGER_BYTES = 16 * 1024 * 1024
_ABORTED_BY_APPLICATION = 0
_ABORTED_BY_UPPER_LAYER = 2
_PDV_HEADER_BYTES = 6
_MOST_PIECES = 512
_HEADERS_BYTES = 6 + _PDV_HEADER_BYTES
_MAX_PIECE_BYTES = 128 * 1024
_PDU_TOLERANCE_BYTES = 2 * _PDV_HEADER_BYTES
"""Some peers count the maximum length without the headers that it includes."""


class PduType(IntEnum):
    """PS3.8 section 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


@dataclass(frozen=True, slots=True)
class Fragment:
    """One presentation data value (PS3.8 9.3.5.1 and Annex E.2): a piece of a command or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class _ValueHeader:
    """What stands before a presentation data value."""

    context_id: int
    is_command: bool
    is_last: bool


class UpperLayer:
    """PDUs over `sock`: one thread reads; sending is guarded, so that another thread may abort.

    `max_pdu_bytes` is the maximum length that this side announces: no P-DATA-TF may be longer (PS3.8 D.1).
    `buffers` are shared by those who receive much at a time.
    """

    def __init__(self, sock: socket.socket, max_pdu_bytes: int, buffers: Buffers | None = None) -> None:
        self._sock = sock
        self._max_pdu_bytes = max_pdu_bytes
        self._input = SocketInput(sock, buffers or Buffers(_SMALL_BUFFER_BYTES))
        self._sending = threading.Lock()
        self._pdu_left = 0
        self._value_left = 0

    def read_pdu(self, deadline: float, max_bytes: int) -> tuple[PduType, bytes]:
        """The next PDU, which must not be P-DATA-TF: its type and its bytes, header included."""
        kind, length = self._read_header(deadline)
        if kind is PduType.P_DATA_TF:
            raise ProtocolViolation("P-DATA-TF where none is expected", AbortReason.UNEXPECTED_PDU)
        if length > max_bytes:
            raise TooLarge(f"{kind.name} of {length} bytes; at most {max_bytes} are taken")
        return kind, struct.pack(">BxL", kind, length) + self._read(length, deadline)

    def await_data(self, deadline: float) -> None:
        """Wait until the peer sends something; raises TooSlow or TransportLost."""
        self._input.deadline = deadline
        self._input.wait()

    def read_fragment(self, deadline: float) -> Fragment | None:
        """The next presentation data value; None when the peer asks to release the association.

        Raises AssociationLost: the peer aborted, left, was too slow, or sent what does not belong here.
        """
        header = self._next_value(deadline)
        if header is None:
            return None
        size, self._value_left = self._value_left, 0
        return Fragment(header.context_id, header.is_command, header.is_last, self._read(size, deadline))

    def read_data_set(
        self, context_id: int, max_bytes: int, deadline_after: Callable[[int], float]
    ) -> Iterator[list[memoryview]]:
        """The data set that follows a command, as much at a time as the buffer takes.

        Each list holds views of the buffer, which are void when the next list is asked for. `deadline_after` says
        until when more must come after so many bytes. Raises AssociationLost, TooLarge over `max_bytes`.
        """
        gathered: list[memoryview] = []
        received = 0
        is_last = False
        while self._value_left or not is_last:
            deadline = deadline_after(received)
            if not self._value_left:
                if gathered and self._input.room < _HEADERS_BYTES:
                    yield gathered
                    gathered = []
                header = self._next_value(deadline)
                if header is None:
                    raise Released("the peer asked to release the association inside a message")
                if header.is_command or header.context_id != context_id:
                    raise ProtocolViolation("a data set that ends before its last fragment")
                is_last = header.is_last
                received += self._value_left
                if received > max_bytes:
                    raise TooLarge(f"a data set of more than {max_bytes} bytes")
                continue
            if not self._input.buffered:
                if not self._input.room:
                    yield gathered
                    gathered = []
                self._input.deadline = deadline
                self._input.fill()
            piece = self._input.take(self._value_left)
            self._value_left -= len(piece)
            gathered.append(piece)
            if len(gathered) == _MOST_PIECES:  # a peer that sends values of a byte each takes no more memory
                yield gathered
                gathered = []
        yield gathered

    def send(self, pdu: bytes, deadline: float) -> None:
        """Send whole PDUs; raises TooSlow or TransportLost."""
        with self._sending:
            self._send(pdu, deadline)

    def abort(self, reason: AbortReason | None = None) -> None:
        """Send A-ABORT if the peer still takes it: the upper layer's with `reason`, else the application's.

        Never raises and never takes much longer than a second.
        """
        if not self._sending.acquire(timeout=_ABORT_WAIT_S):
            return
        try:
            self._send(abort_pdu(reason), time.monotonic() + _ABORT_WAIT_S)
        except AssociationLost:
            pass
        finally:
            self._sending.release()

    def linger(self, deadline: float) -> None:
        """Wait until the peer closes, so that the last PDU reaches it before the transport goes (Sta13)."""
        try:
            if not isinstance(self._sock, ssl.SSLSocket):  # TLS knows no half-closed transport
                self._sock.shutdown(socket.SHUT_WR)
            room = bytearray(_SMALL_BUFFER_BYTES)
            thrown_away = 0
            while thrown_away < _LINGER_BYTES:
                self._sock.settimeout(remaining(deadline))
                if not (count := self._sock.recv_into(room)):
                    return
                thrown_away += count
        except OSError:
            return

    def _read_header(self, deadline: float) -> tuple[PduType, int]:
        kind, length = struct.unpack(">BxL", self._read(6, deadline))
        try:
            return PduType(kind), length
        except ValueError:
            raise ProtocolViolation(f"PDU of type 0x{kind:02X}", AbortReason.UNRECOGNISED_PDU) from None

    @staticmethod
    def _four_bytes(kind: PduType, length: int) -> int:
        if length != 4:
            raise ProtocolViolation(f"{kind.name} of {length} bytes; 4 are expected")
        return length

    def _next_value(self, deadline: float) -> _ValueHeader | None:
        """The header of the next presentation data value, whose length is then `_value_left`; None at a release."""
        if self._pdu_left == 0:
            kind, length = self._read_header(deadline)
            if kind is PduType.RELEASE_RQ:
                self._read(self._four_bytes(kind, length), deadline)
                return None
            if kind is PduType.ABORT:
                _, _, source, reason = self._read(self._four_bytes(kind, length), deadline)
                raise PeerAborted(source, reason)
            if kind is not PduType.P_DATA_TF:
                raise ProtocolViolation(f"{kind.name} during data transfer", AbortReason.UNEXPECTED_PDU)
            if length > self._max_pdu_bytes + _PDU_TOLERANCE_BYTES:
                raise TooLarge(f"P-DATA-TF of {length} bytes; {self._max_pdu_bytes} were agreed")
            self._pdu_left = length
        if self._pdu_left < _PDV_HEADER_BYTES:
            raise ProtocolViolation(f"{self._pdu_left} bytes where a presentation data value belongs")
        size, context_id, control = struct.unpack(">LBB", self._read(_PDV_HEADER_BYTES, deadline))
        if not 2 <= size <= self._pdu_left - 4:
            raise ProtocolViolation(f"a presentation data value of {size} bytes in {self._pdu_left} bytes of a PDU")
        self._pdu_left -= 4 + size
        self._value_left = size - 2
        return _ValueHeader(context_id, bool(control & 1), bool(control & 2))

    def _read(self, count: int, deadline: float) -> bytes:
        self._input.deadline = deadline
        return self._input.read(count)

    def _send(self, pdu: bytes, deadline: float) -> None:
        unsent = memoryview(pdu)
        try:
            while unsent:
                unsent = unsent[by(deadline, self._sock, partial(self._sock.send, unsent), select.POLLOUT) :]
        except TimeoutError:
            raise TooSlow("the peer stopped taking data") from None
        except OSError as error:
            raise TransportLost(f"the transport failed: {error.strerror or type(error).__name__}") from error


def piece_bytes(max_pdu_bytes: int) -> int:
    """How much of a message fits one P-DATA-TF to a peer that announced this maximum length; 0 is no limit.

    Always even, as data set fragments must be (PS3.8 Annex E.1).
    """
    if max_pdu_bytes == 0:
        return _MAX_PIECE_BYTES
    return max(2, min(max_pdu_bytes - _PDV_HEADER_BYTES, _MAX_PIECE_BYTES) & ~1)


def data_pdu(context_id: int, value: bytes, *, is_command: bool, is_last: bool) -> bytes:
    """A P-DATA-TF with one presentation data value."""
    return struct.pack(">BxLLBB", 4, len(value) + 6, len(value) + 2, context_id, is_command | is_last << 1) + value


def abort_pdu(reason: AbortReason | None) -> bytes:
    """An A-ABORT (PS3.8 9.3.8) by the upper layer with `reason`, or by the application, which gives none."""
    source = _ABORTED_BY_APPLICATION if reason is None else _ABORTED_BY_UPPER_LAYER
    return struct.pack(">BxLxxBB", PduType.ABORT, 4, source, reason or 0)


def reject_pdu(rejection: Rejection) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return struct.pack(">BxLxBBB", PduType.ASSOCIATE_RJ, 4, *rejection)


RELEASE_RQ_PDU = struct.pack(">BxLxxxx", PduType.RELEASE_RQ, 4)
RELEASE_RP_PDU = struct.pack(">BxLxxxx", PduType.RELEASE_RP, 4)

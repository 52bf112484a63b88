"""A sender that stores an instance step by step, as slowly and as little of it as a test wants."""

from __future__ import annotations

import socket
import struct

from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from gateway.network.dimse import Command, decode_command, encode_command
from gateway.network.negotiation import ProposedContext, request_pdu
from gateway.network.upper_layer import RELEASE_RQ_PDU, data_pdu


class StorePeer:
    """One association for MR images."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 10)
        proposed = (ProposedContext(MRImageStorage, ExplicitVRLittleEndian),)
        self._sock.sendall(request_pdu("RAW", "ATHANOR", proposed, 131072))
        self._read_pdu()

    def begin(self, sop_instance_uid: str) -> None:
        """Send the command."""
        command = Command(
            command_field=1, message_id=1, affected_sop_class_uid=str(MRImageStorage),
            affected_sop_instance_uid=sop_instance_uid, priority=0, command_data_set_type=0,
        )  # fmt: skip
        self._sock.sendall(data_pdu(1, encode_command(command), is_command=True, is_last=True))

    def send_piece(self, value: bytes) -> None:
        """Send some of the data set."""
        self._sock.sendall(data_pdu(1, value, is_command=False, is_last=False))

    def end(self, value: bytes) -> int:
        """Send the rest of the data set; the status that answers."""
        pieces = [value[start : start + 100_000] for start in range(0, len(value), 100_000)]
        for piece in pieces[:-1]:
            self.send_piece(piece)
        self._sock.sendall(data_pdu(1, pieces[-1], is_command=False, is_last=True))
        status = decode_command(self._read_pdu()[6:]).status
        assert status is not None
        return status

    def release(self) -> None:
        """End the association in order."""
        self._sock.sendall(RELEASE_RQ_PDU)
        self._read_pdu()
        self._sock.close()

    def leave(self) -> None:
        """Be gone."""
        self._sock.close()

    def _read_pdu(self) -> bytes:
        length = struct.unpack(">BxL", self._read(6))[1]
        return self._read(length)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += (more := self._sock.recv(count - len(data)))
            assert more, "the other side closed"
        return data

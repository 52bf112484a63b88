"""A sender for benchmarks that is never the bottleneck: PDUs prepared before the clock starts, one process each.

It knows nothing of retries and reasons: what is not answered with Success ends it.
"""

from __future__ import annotations

import multiprocessing
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.errors import DeliveryError
from gateway.network.dimse import Command, CommandField, command_pdus, data_set_pdus, decode_command
from gateway.network.negotiation import ProposedContext, read_acceptance, request_pdu
from gateway.network.outgoing import OutgoingInstance, data_set_pieces
from gateway.network.upper_layer import RELEASE_RQ_PDU, PduType, piece_bytes

_MAX_PDU_BYTES = 128 * 1024
_WITHIN_S = 120.0
_HAS_DATA_SET = 0
CALLING_AE_TITLE = "BENCH"


@dataclass(frozen=True, slots=True)
class Peer:
    """A storage SCP of this machine."""

    ae_title: str
    port: int


class OpenAssociation:
    """An association for the instances of `paths`, all of one SOP Class and transfer syntax."""

    def __init__(self, peer: Peer, paths: Sequence[Path]) -> None:
        instances = [OutgoingInstance.read(path) for path in paths]
        proposed = (ProposedContext(instances[0].sop_class_uid, instances[0].transfer_syntax_uid),)
        self._sock = socket.create_connection(("127.0.0.1", peer.port), _WITHIN_S)
        self._sock.settimeout(None)  # MSG_WAITALL waits for all on a blocking socket only
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.sendall(request_pdu(CALLING_AE_TITLE, peer.ae_title, proposed, _MAX_PDU_BYTES))
        kind, pdu = self._read_pdu()
        if kind != PduType.ASSOCIATE_AC:
            raise DeliveryError(f"{peer.ae_title}: found PDU type {kind}; expected A-ASSOCIATE-AC; see its log")
        max_pdu_bytes, contexts = read_acceptance(pdu, proposed)
        (context_id,) = contexts
        self._messages = [_message(one, number, context_id, max_pdu_bytes) for number, one in enumerate(instances, 1)]

    def send_all(self) -> None:
        """Send every instance, each after the answer to the last. Raises DeliveryError."""
        for message in self._messages:
            self._sock.sendall(message)
            _, pdu = self._read_pdu()
            status = decode_command(pdu[12:]).status
            if status != 0:
                raise DeliveryError(f"found status {status}; expected Success")

    def release(self) -> None:
        """End the association in order."""
        self._sock.sendall(RELEASE_RQ_PDU)
        self._read_pdu()
        self._sock.close()

    def _read_pdu(self) -> tuple[int, bytes]:
        header = self._read(6)
        kind, length = struct.unpack(">BxL", header)
        return kind, header + self._read(length)

    def _read(self, count: int) -> bytes:
        data = self._sock.recv(count, socket.MSG_WAITALL)
        if len(data) < count:
            raise DeliveryError("the receiver closed the association")
        return data


def _message(instance: OutgoingInstance, number: int, context_id: int, max_pdu_bytes: int) -> bytes:
    command = Command(
        command_field=CommandField.C_STORE_RQ,
        message_id=number,
        affected_sop_class_uid=instance.sop_class_uid,
        affected_sop_instance_uid=instance.sop_instance_uid,
        priority=0,
        command_data_set_type=_HAS_DATA_SET,
    )
    pieces = data_set_pieces(instance, instance.transfer_syntax_uid, piece_bytes(max_pdu_bytes))
    return b"".join((command_pdus(context_id, command, max_pdu_bytes), *data_set_pdus(context_id, pieces)))


def send_at_once(peer: Peer, studies: Sequence[Sequence[Path]]) -> float:
    """Send each study over an association of its own, in a process of its own; seconds until the last answer.

    Raises DeliveryError when one was not accepted whole.
    """
    context = multiprocessing.get_context("fork")
    start = context.Barrier(len(studies) + 1)
    ends = context.SimpleQueue()
    senders = [context.Process(target=_send, args=(peer, study, start, ends)) for study in studies]
    for sender in senders:
        sender.start()
    start.wait(_WITHIN_S)
    began = time.perf_counter()
    answers = [ends.get() for _ in senders]
    seconds = time.perf_counter() - began
    for sender in senders:
        sender.join()
    if failures := [answer for answer in answers if answer]:
        raise DeliveryError(f"{peer.ae_title}: {failures[0]}")
    return seconds


def _send(peer: Peer, paths: Sequence[Path], start: Any, ends: Any) -> None:
    association = OpenAssociation(peer, paths)
    start.wait(_WITHIN_S)
    try:
        association.send_all()
    except (DeliveryError, OSError) as error:
        ends.put(str(error))
        return
    ends.put("")
    association.release()

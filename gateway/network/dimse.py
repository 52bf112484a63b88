"""DIMSE messages (PS3.7): command sets to bytes and back, and whole messages from their fragments.

A command set is Implicit VR Little Endian with a dozen known elements (PS3.7 Annex E), so it is written and
read here directly: a general data set codec would cost more than everything else that a C-STORE answer takes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gateway.domain.uids import is_valid_uid
from gateway.network.upper_layer import (
    MINIMUM_BYTES_PER_S,
    ProtocolViolation,
    TooLarge,
    UpperLayer,
    data_pdu,
    piece_bytes,
)

NO_DATA_SET = 0x0101
"""Command Data Set Type that says that no data set follows; any other value says that one does."""

_MAX_COMMAND_BYTES = 16 * 1024


class CommandField(IntEnum):
    """The services that are spoken here (PS3.7 Annex E.1); a response has 0x8000 added."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_ACTION_RQ = 0x0130
    C_CANCEL_RQ = 0x0FFF
    RESPONSE = 0x8000


class Command(NamedTuple):
    """A command set: the elements of the services spoken here; None is absent. Text is as sent, without padding."""

    command_field: int
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None
    priority: int | None = None
    command_data_set_type: int = NO_DATA_SET
    status: int | None = None
    error_comment: str | None = None
    requested_sop_instance_uid: str | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows the command."""
        return self.command_data_set_type != NO_DATA_SET


# (element, attribute, VR) in ascending order, as a data set is written
_ELEMENTS = (
    (0x0002, "affected_sop_class_uid", "UI"),
    (0x0003, "requested_sop_class_uid", "UI"),
    (0x0100, "command_field", "US"),
    (0x0110, "message_id", "US"),
    (0x0120, "message_id_being_responded_to", "US"),
    (0x0700, "priority", "US"),
    (0x0800, "command_data_set_type", "US"),
    (0x0900, "status", "US"),
    (0x0902, "error_comment", "LO"),
    (0x1000, "affected_sop_instance_uid", "UI"),
    (0x1001, "requested_sop_instance_uid", "UI"),
    (0x1002, "event_type_id", "US"),
    (0x1008, "action_type_id", "US"),
    (0x1030, "move_originator_ae_title", "AE"),
    (0x1031, "move_originator_message_id", "US"),
)
_BY_ELEMENT = {element: (attribute, vr) for element, attribute, vr in _ELEMENTS}
_PLACES = tuple((element, Command._fields.index(attribute), vr) for element, attribute, vr in _ELEMENTS)

_pack_element = struct.Struct("<HHL").pack
_pack_number = struct.Struct("<HHLH").pack
_pack_group_length = struct.Struct("<HHLL").pack
_unpack_element = struct.Struct("<HHL").unpack_from


def encode_command(command: Command) -> bytes:
    """The command set as Implicit VR Little Endian, group length first (PS3.7 6.3.1)."""
    parts = []
    for element, place, vr in _PLACES:
        value = command[place]
        if value is None:
            continue
        if vr == "US":
            parts.append(_pack_number(0, element, 2, value))
        else:
            encoded = str(value).encode("ascii", "replace")
            if len(encoded) % 2:
                encoded += b"\0" if vr == "UI" else b" "
            parts += _pack_element(0, element, len(encoded)), encoded
    body = b"".join(parts)
    return _pack_group_length(0, 0, 4, len(body)) + body


def decode_command(encoded: bytes) -> Command:
    """The command set in `encoded`; elements that the services spoken here do not use are skipped.

    Raises ProtocolViolation: not a command set, a wrong length, or no Command Field.
    """
    values: dict[str, int | str] = {}
    offset, end = 0, len(encoded)
    while offset < end:
        if offset + 8 > end:
            raise ProtocolViolation("a command set that ends inside an element")
        group, element, length = _unpack_element(encoded, offset)
        start, offset = offset + 8, offset + 8 + length
        if group != 0 or offset > end:
            raise ProtocolViolation(f"element ({group:04X},{element:04X}) of {length} bytes in a command set")
        if element not in _BY_ELEMENT:
            continue
        attribute, vr = _BY_ELEMENT[element]
        if vr != "US":
            values[attribute] = encoded[start:offset].decode("ascii", "replace").strip("\0 ")
        elif length == 2:
            values[attribute] = encoded[start] | encoded[start + 1] << 8
        else:
            raise ProtocolViolation(f"command element (0000,{element:04X}) of {length} bytes; 2 are expected")
    if "command_field" not in values:
        raise ProtocolViolation("a command set without Command Field")
    return Command(**values)  # type: ignore[arg-type]  # each attribute was decoded by its own VR


def is_plain_uid(text: str | None) -> bool:
    """Whether `text` consists of digits between dots, at most 64 characters: safe to write anywhere a UID belongs.

    Leading zeros in a component, which PS3.5 9.1 forbids and devices in use send, are let through.
    """
    return text is not None and is_valid_uid(text)


@dataclass(frozen=True, slots=True)
class Message:
    """A whole DIMSE message; `data_set` is encoded in the transfer syntax of the presentation context."""

    context_id: int
    command: Command
    data_set: bytes | None


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """What a message may take: seconds until it begins, seconds from then on, and bytes of data set."""

    idle_s: float
    message_s: float
    data_set_bytes: int


@dataclass(frozen=True, slots=True)
class MessageHead:
    """The command of a message whose data set, if it has one, is still to be read; `began` in monotonic seconds."""

    context_id: int
    command: Command
    began: float


def read_command(upper_layer: UpperLayer, limits: MessageLimits) -> MessageHead | None:
    """The command of the next message; None when the peer asks to release the association.

    Raises AssociationLost.
    """
    upper_layer.await_data(time.monotonic() + limits.idle_s)
    began = time.monotonic()
    encoded = bytearray()
    context_id: int | None = None
    while (fragment := upper_layer.read_fragment(began + limits.message_s)) is not None:
        context_id = fragment.context_id if context_id is None else context_id
        if fragment.context_id != context_id or not fragment.is_command:
            raise ProtocolViolation("fragments of two messages are mixed")
        encoded += fragment.value
        if len(encoded) > _MAX_COMMAND_BYTES:
            raise TooLarge(f"a command set of more than {_MAX_COMMAND_BYTES} bytes")
        if fragment.is_last:
            return MessageHead(context_id, decode_command(bytes(encoded)), began)
    return None


def read_data_set(upper_layer: UpperLayer, head: MessageHead, limits: MessageLimits) -> Iterator[list[memoryview]]:
    """The data set of a message as it arrives, in views that are void when the next ones are asked for.

    Raises AssociationLost.
    """

    def deadline_after(received: int) -> float:
        return head.began + limits.message_s + received / MINIMUM_BYTES_PER_S

    return upper_layer.read_data_set(head.context_id, limits.data_set_bytes, deadline_after)


def read_message(upper_layer: UpperLayer, limits: MessageLimits) -> Message | None:
    """The next message, whole and in memory; None when the peer asks to release the association.

    Raises AssociationLost.
    """
    head = read_command(upper_layer, limits)
    return None if head is None else read_rest(upper_layer, head, limits)


def read_rest(upper_layer: UpperLayer, head: MessageHead, limits: MessageLimits) -> Message:
    """The message that begins with `head`, in memory. Raises AssociationLost."""
    if not head.command.has_data_set:
        return Message(head.context_id, head.command, None)
    data_set = b"".join(b"".join(pieces) for pieces in read_data_set(upper_layer, head, limits))
    return Message(head.context_id, head.command, data_set)


def command_pdus(context_id: int, command: Command, max_pdu_bytes: int) -> bytes:
    """The command as P-DATA-TF PDUs, one after the other; nearly always a single one."""
    encoded, step = encode_command(command), piece_bytes(max_pdu_bytes)
    pieces = (encoded[start : start + step] for start in range(0, len(encoded), step))
    return b"".join(_fragment_pdus(context_id, pieces, is_command=True))


def data_set_pdus(context_id: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The data set, given in pieces of at most `piece_bytes`, as P-DATA-TF PDUs."""
    return _fragment_pdus(context_id, pieces, is_command=False)


def _fragment_pdus(context_id: int, pieces: Iterator[bytes], *, is_command: bool) -> Iterator[bytes]:
    piece = next(pieces, None)
    while piece is not None:
        following = next(pieces, None)
        yield data_pdu(context_id, piece, is_command=is_command, is_last=following is None)
        piece = following


def require_known_context(message: Message | MessageHead, accepted: Container[int]) -> None:
    """Raise ProtocolViolation unless the message came over an accepted presentation context."""
    if message.context_id not in accepted:
        raise ProtocolViolation(f"a message over presentation context {message.context_id}, which was not accepted")

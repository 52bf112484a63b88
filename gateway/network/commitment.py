"""Messages of the Storage Commitment Push Model (PS3.4 Annex J): N-ACTION asks, N-EVENT-REPORT answers.

Both carry a data set of one shape, which is written and read here directly: a request may name ten thousand instances,
and decoding it must not hold up those who are sending. Its depth and its size are bounded, and UIDs are checked to be
digits and dots, so they may go anywhere a UID belongs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from pydicom.uid import ImplicitVRLittleEndian

from gateway.dicom.elements import find_elements, find_items
from gateway.domain.commitment import CommitmentReport, CommitmentRequest, SopReference
from gateway.errors import DicomError, NotDicom
from gateway.network.contexts import STORAGE_COMMITMENT
from gateway.network.dimse import Command, CommandField, MessageLimits, is_plain_uid
from gateway.network.statuses import (
    INVALID_ARGUMENT_VALUE,
    MISTYPED_ARGUMENT,
    NO_SUCH_ACTION,
    NO_SUCH_ARGUMENT,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
)

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Instance: every request and every report is about this one."""

MAX_INFORMATION_BYTES = 8 * 1024 * 1024
MAX_INSTANCES = 50_000

REQUEST_COMMITMENT = 1
ALL_COMMITTED, SOME_FAILED = 1, 2

_SOP_CLASS, _SOP_INSTANCE = 0x00081150, 0x00081155
_TRANSACTION_UID, _REASON, _FAILED, _REFERENCED = 0x00081195, 0x00081197, 0x00081198, 0x00081199

_References = tuple[tuple[SopReference, int], ...]
"""Items of a sequence, each with its Failure Reason."""


class Unusable(DicomError):  # noqa: N818 - the statement, not the suffix, says what it is
    """A request or a report that cannot be taken; `status` answers it (PS3.7 10.1.1.1.8, 10.1.4.1.10)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def information_limits(limits: MessageLimits) -> MessageLimits:
    """The same limits with room for the data set of a request or a report only."""
    return MessageLimits(limits.idle_s, limits.message_s, min(limits.data_set_bytes, MAX_INFORMATION_BYTES))


def action_command(message_id: int) -> Command:
    """The N-ACTION-RQ that asks for storage commitment (PS3.4 J.3.2)."""
    return Command(
        command_field=CommandField.N_ACTION_RQ,
        message_id=message_id,
        requested_sop_class_uid=STORAGE_COMMITMENT,
        requested_sop_instance_uid=WELL_KNOWN_INSTANCE,
        action_type_id=REQUEST_COMMITMENT,
        command_data_set_type=0,
    )


def event_command(message_id: int, report: CommitmentReport) -> Command:
    """The N-EVENT-REPORT-RQ that tells the outcome (PS3.4 J.3.3)."""
    return Command(
        command_field=CommandField.N_EVENT_REPORT_RQ,
        message_id=message_id,
        affected_sop_class_uid=STORAGE_COMMITMENT,
        affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
        event_type_id=SOME_FAILED if report.failed else ALL_COMMITTED,
        command_data_set_type=0,
    )


def answer_command(request: Command, status: int, comment: str = "") -> Command:
    """The response to an N-ACTION or an N-EVENT-REPORT."""
    return Command(
        command_field=request.command_field | CommandField.RESPONSE,
        message_id_being_responded_to=request.message_id,
        affected_sop_class_uid=STORAGE_COMMITMENT,
        affected_sop_instance_uid=WELL_KNOWN_INSTANCE,
        event_type_id=request.event_type_id,
        action_type_id=request.action_type_id,
        status=status,
        error_comment=comment[:64] or None,
    )


def encode_request(request: CommitmentRequest, transfer_syntax_uid: str) -> bytes:
    """The action information of `request` (PS3.4 Table J.3-1)."""
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    instances = _element(_REFERENCED, b"SQ", _items(request.instances, implicit), implicit)
    return _uid_element(_TRANSACTION_UID, request.transaction_uid, implicit) + instances


def encode_report(report: CommitmentReport, transfer_syntax_uid: str) -> bytes:
    """The event information of `report` (PS3.4 Table J.3-2)."""
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    encoded = _uid_element(_TRANSACTION_UID, report.transaction_uid, implicit)
    if report.failed:
        items = b"".join(
            _item(_reference(one, implicit) + _element(_REASON, b"US", reason.to_bytes(2, "little"), implicit))
            for one, reason in report.failed
        )
        encoded += _element(_FAILED, b"SQ", items, implicit)
    if report.committed:
        encoded += _element(_REFERENCED, b"SQ", _items(report.committed, implicit), implicit)
    return encoded


def read_request(command: Command, data_set: bytes | None, transfer_syntax_uid: str) -> CommitmentRequest:
    """The request in an N-ACTION-RQ; raises Unusable."""
    _require_well_known(command.requested_sop_class_uid, command.requested_sop_instance_uid)
    if command.action_type_id != REQUEST_COMMITMENT:
        raise Unusable(NO_SUCH_ACTION, f"Action Type ID {command.action_type_id}; 1 is expected")
    transaction_uid, referenced, _ = _read(data_set, transfer_syntax_uid)
    if not referenced:
        raise Unusable(NO_SUCH_ARGUMENT, "no Referenced SOP Sequence")
    return CommitmentRequest(transaction_uid, tuple(instance for instance, _ in referenced))


def read_report(command: Command, data_set: bytes | None, transfer_syntax_uid: str) -> CommitmentReport:
    """The report in an N-EVENT-REPORT-RQ; raises Unusable."""
    _require_well_known(command.affected_sop_class_uid, command.affected_sop_instance_uid)
    if command.event_type_id not in {ALL_COMMITTED, SOME_FAILED}:
        raise Unusable(NO_SUCH_EVENT_TYPE, f"Event Type ID {command.event_type_id}; 1 or 2 is expected")
    transaction_uid, referenced, failed = _read(data_set, transfer_syntax_uid)
    if not referenced and not failed:
        raise Unusable(NO_SUCH_ARGUMENT, "neither Referenced nor Failed SOP Sequence")
    return CommitmentReport(transaction_uid, tuple(instance for instance, _ in referenced), failed)


def _require_well_known(sop_class_uid: str | None, sop_instance_uid: str | None) -> None:
    if sop_class_uid != STORAGE_COMMITMENT:
        raise Unusable(NO_SUCH_SOP_CLASS, "not the Storage Commitment Push Model SOP Class")
    if sop_instance_uid != WELL_KNOWN_INSTANCE:
        raise Unusable(NO_SUCH_SOP_INSTANCE, "not the Storage Commitment Push Model SOP Instance")


def _read(data_set: bytes | None, transfer_syntax_uid: str) -> tuple[str, _References, _References]:
    """Transaction UID, Referenced and Failed SOP Sequence."""
    if not data_set:
        raise Unusable(NO_SUCH_ARGUMENT, "no data set")
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        found = find_elements(data_set, frozenset({_TRANSACTION_UID, _REFERENCED, _FAILED}), implicit=implicit)
        referenced = _references(found.get(_REFERENCED, b""), implicit)
        failed = _references(found.get(_FAILED, b""), implicit)
    except NotDicom as error:
        raise Unusable(MISTYPED_ARGUMENT, str(error)) from None
    return _uid(found, _TRANSACTION_UID, "Transaction UID"), referenced, failed


def _references(sequence: bytes, implicit: bool) -> _References:
    references = []
    for item in find_items(sequence, implicit=implicit):
        found = find_elements(item, frozenset({_SOP_CLASS, _SOP_INSTANCE, _REASON}), implicit=implicit)
        sop_class_uid = _uid(found, _SOP_CLASS, "Referenced SOP Class UID")
        instance = SopReference(sop_class_uid, _uid(found, _SOP_INSTANCE, "Referenced SOP Instance UID"))
        reason = found.get(_REASON, b"")
        references.append((instance, int.from_bytes(reason, "little") if len(reason) == 2 else PROCESSING_FAILURE))
        if len(references) > MAX_INSTANCES:
            raise Unusable(RESOURCE_LIMITATION, f"more than {MAX_INSTANCES} instances")
    return tuple(references)


def _uid(found: Mapping[int, bytes], tag: int, name: str) -> str:
    text = found.get(tag, b"").decode("ascii", "replace").strip("\0 ")
    if not is_plain_uid(text):
        raise Unusable(INVALID_ARGUMENT_VALUE, f"{name} is no UID")
    return text


def _items(instances: Iterable[SopReference], implicit: bool) -> bytes:
    return b"".join(_item(_reference(instance, implicit)) for instance in instances)


def _item(encoded: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(encoded)) + encoded


def _reference(instance: SopReference, implicit: bool) -> bytes:
    sop_class = _uid_element(_SOP_CLASS, instance.sop_class_uid, implicit)
    return sop_class + _uid_element(_SOP_INSTANCE, instance.sop_instance_uid, implicit)


def _uid_element(tag: int, uid: str, implicit: bool) -> bytes:
    return _element(tag, b"UI", uid.encode("ascii") + b"\0" * (len(uid) % 2), implicit)


def _element(tag: int, vr: bytes, value: bytes, implicit: bool) -> bytes:
    """A data element, in little endian (PS3.5 7.1)."""
    group, element = tag >> 16, tag & 0xFFFF
    if implicit:
        return struct.pack("<HHL", group, element, len(value)) + value
    if vr == b"SQ":
        return struct.pack("<HH2sxxL", group, element, vr, len(value)) + value
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value

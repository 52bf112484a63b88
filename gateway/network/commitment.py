"""Messages of the Storage Commitment Push Model (PS3.4 Annex J): N-ACTION asks, N-EVENT-REPORT answers.

Both carry a small data set; it is measured before it is decoded, and what is read of it is checked: UIDs are digits
and dots, so they may go anywhere a UID belongs.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from gateway.dicom.elements import find_elements
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

_LAST_TAG_OF_INTEREST = 0x0008FFFF
_MALFORMED = (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError, NotImplementedError)
"""What pydicom raises about bytes that are not the data set that they should be."""


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
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    ds.ReferencedSOPSequence = _items(request.instances)
    return _encoded(ds, transfer_syntax_uid)


def encode_report(report: CommitmentReport, transfer_syntax_uid: str) -> bytes:
    """The event information of `report` (PS3.4 Table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = report.transaction_uid
    if report.committed:
        ds.ReferencedSOPSequence = _items(report.committed)
    if report.failed:
        ds.FailedSOPSequence = _items(instance for instance, _ in report.failed)
        for item, (_, reason) in zip(ds.FailedSOPSequence, report.failed, strict=True):
            item.FailureReason = reason
    return _encoded(ds, transfer_syntax_uid)


def read_request(command: Command, data_set: bytes | None, transfer_syntax_uid: str) -> CommitmentRequest:
    """The request in an N-ACTION-RQ; raises Unusable."""
    _require_well_known(command.requested_sop_class_uid, command.requested_sop_instance_uid)
    if command.action_type_id != REQUEST_COMMITMENT:
        raise Unusable(NO_SUCH_ACTION, f"Action Type ID {command.action_type_id}; 1 is expected")
    ds = _decoded(data_set, transfer_syntax_uid)
    instances = _references(ds, "ReferencedSOPSequence")
    if not instances:
        raise Unusable(NO_SUCH_ARGUMENT, "no Referenced SOP Sequence")
    return CommitmentRequest(_uid(ds, "TransactionUID"), instances)


def read_report(command: Command, data_set: bytes | None, transfer_syntax_uid: str) -> CommitmentReport:
    """The report in an N-EVENT-REPORT-RQ; raises Unusable."""
    _require_well_known(command.affected_sop_class_uid, command.affected_sop_instance_uid)
    if command.event_type_id not in {ALL_COMMITTED, SOME_FAILED}:
        raise Unusable(NO_SUCH_EVENT_TYPE, f"Event Type ID {command.event_type_id}; 1 or 2 is expected")
    ds = _decoded(data_set, transfer_syntax_uid)
    committed, failed = _references(ds, "ReferencedSOPSequence"), _references(ds, "FailedSOPSequence")
    if not committed and not failed:
        raise Unusable(NO_SUCH_ARGUMENT, "neither Referenced nor Failed SOP Sequence")
    reasons = [_reason(item) for item in ds.get("FailedSOPSequence") or ()]
    return CommitmentReport(_uid(ds, "TransactionUID"), committed, tuple(zip(failed, reasons, strict=True)))


def _require_well_known(sop_class_uid: str | None, sop_instance_uid: str | None) -> None:
    if sop_class_uid != STORAGE_COMMITMENT:
        raise Unusable(NO_SUCH_SOP_CLASS, "not the Storage Commitment Push Model SOP Class")
    if sop_instance_uid != WELL_KNOWN_INSTANCE:
        raise Unusable(NO_SUCH_SOP_INSTANCE, "not the Storage Commitment Push Model SOP Instance")


def _items(instances: Any) -> Sequence:
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class_uid
        item.ReferencedSOPInstanceUID = instance.sop_instance_uid
        items.append(item)
    return Sequence(items)


def _encoded(ds: Dataset, transfer_syntax_uid: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
    buffer.is_little_endian = True
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


def _decoded(data_set: bytes | None, transfer_syntax_uid: str) -> Dataset:
    """Group 0008 of the data set, after a look at its structure: nothing too deep, nothing cut off."""
    if not data_set:
        raise Unusable(NO_SUCH_ARGUMENT, "no data set")
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        find_elements(data_set, frozenset(), implicit=implicit)
        return read_dataset(
            BytesIO(data_set), implicit, True, stop_when=lambda tag, _vr, _length: int(tag) > _LAST_TAG_OF_INTEREST
        )
    except NotDicom as error:
        raise Unusable(MISTYPED_ARGUMENT, str(error)) from None
    except _MALFORMED as error:
        raise Unusable(MISTYPED_ARGUMENT, f"a malformed data set ({type(error).__name__})") from None


def _references(ds: Dataset, keyword: str) -> tuple[SopReference, ...]:
    items = _value(ds, keyword) or ()
    if not isinstance(items, Sequence):
        raise Unusable(MISTYPED_ARGUMENT, f"{keyword} is no sequence")
    if len(items) > MAX_INSTANCES:
        raise Unusable(RESOURCE_LIMITATION, f"{len(items)} instances; at most {MAX_INSTANCES} are taken")
    return tuple(
        SopReference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID")) for item in items
    )


def _uid(ds: Dataset, keyword: str) -> str:
    text = str(_value(ds, keyword) or "")
    if not is_plain_uid(text):
        raise Unusable(INVALID_ARGUMENT_VALUE, f"{keyword} is no UID")
    return text


def _reason(item: Dataset) -> int:
    reason = _value(item, "FailureReason")
    return reason if isinstance(reason, int) else PROCESSING_FAILURE


def _value(ds: Dataset, keyword: str) -> Any:
    try:
        return ds.get(keyword)
    except _MALFORMED as error:
        raise Unusable(MISTYPED_ARGUMENT, f"{keyword} cannot be read ({type(error).__name__})") from None

"""DIMSE statuses and association rejections in words, and whether trying again can help.

Codes are those of PS3.4 Table B.2-1 and GG.4-1 (C-STORE) and PS3.7 Annex C (all services); rejections are
those of PS3.8 Table 9-21, aborts those of Table 9-26.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class StatusCategory(StrEnum):
    """What a status means for the object that it answers."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
NO_SUCH_ARGUMENT = 0x0114
INVALID_ARGUMENT_VALUE = 0x0115
INVALID_SOP_INSTANCE = 0x0117
NO_SUCH_SOP_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
UNRECOGNISED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
RESOURCE_LIMITATION = 0x0213
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
HANDLER_FAILED = 0xC211

_WORDS = {
    0x0000: "Success",
    0x0001: "Warning: requested optional attributes are not supported",
    0x0105: "Failure: no such attribute",
    0x0106: "Failure: invalid attribute value",
    0x0107: "Warning: attribute list error",
    0x0110: "Failure: processing failure",
    0x0111: "Failure: duplicate SOP Instance",
    0x0112: "Failure: no such SOP Instance",
    0x0113: "Failure: no such event type",
    0x0114: "Failure: no such argument",
    0x0115: "Failure: invalid argument value",
    0x0116: "Warning: attribute value out of range",
    0x0117: "Failure: invalid SOP Instance UID",
    0x0118: "Failure: no such SOP Class",
    0x0119: "Failure: class-instance conflict",
    0x0120: "Failure: missing attribute",
    0x0121: "Failure: missing attribute value",
    0x0122: "Refused: SOP Class not supported",
    0x0123: "Failure: no such action",
    0x0124: "Refused: not authorised",
    0x0210: "Failure: duplicate invocation, the Message ID is in use",
    0x0211: "Failure: unrecognised operation",
    0x0212: "Failure: mistyped argument",
    0x0213: "Failure: resource limitation",
    0xB000: "Warning: stored, with coercion of data elements",
    0xB006: "Warning: stored, with elements discarded",
    0xB007: "Warning: stored, although the data set does not match the SOP Class",
    0xFE00: "Failure: cancelled",
}

_RANGES = (
    (0xA700, 0xA7FF, "Refused: out of resources"),
    (0xA900, 0xA9FF, "Failure: data set does not match the SOP Class"),
    (0xB000, 0xBFFF, "Warning: stored, with a warning that the peer's conformance statement explains"),
    (0xC000, 0xCFFF, "Failure: cannot understand"),
    (0xFF00, 0xFFFF, "Failure: pending, which is no final answer to this request"),
)

_RETRYABLE = frozenset({0x0110, 0x0124, 0x0210, 0x0213})


def describe_status(status: int) -> str:
    """The status in words with its code, for example ``Refused: out of resources (0xA700)``."""
    words = _WORDS.get(status) or next((text for low, high, text in _RANGES if low <= status <= high), None)
    return f"{words or 'Failure: unknown status'} (0x{status:04X})"


def category_of(status: int) -> StatusCategory:
    """Whether the object was taken (success, warning) or not; an unknown status is a failure."""
    if status == SUCCESS:
        return StatusCategory.SUCCESS
    if status in {0x0001, 0x0107, 0x0116} or 0xB000 <= status <= 0xBFFF:
        return StatusCategory.WARNING
    return StatusCategory.FAILURE


def is_taken(status: int) -> bool:
    """Whether the peer has the object now; a duplicate it has had before, and nobody else makes our UIDs."""
    return status == DUPLICATE_SOP_INSTANCE or category_of(status) is not StatusCategory.FAILURE


def is_worth_retrying(status: int) -> bool:
    """Whether the same object may be taken later: what was lacking was the peer's, not the object's."""
    return status in _RETRYABLE or 0xA700 <= status <= 0xA7FF


class Rejection(NamedTuple):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    result: int
    source: int
    reason: int


APPLICATION_CONTEXT_NOT_SUPPORTED = Rejection(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNISED = Rejection(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNISED = Rejection(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = Rejection(1, 2, 2)
TEMPORARY_CONGESTION = Rejection(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = Rejection(2, 3, 2)

_RESULTS = {1: "rejected permanently", 2: "rejected for now"}
_SOURCES = {1: "its application", 2: "its association service", 3: "its presentation service"}
_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def describe_rejection(result: int, source: int, reason: int) -> str:
    """An A-ASSOCIATE-RJ in words, for example ``rejected for now by its ...: local limit exceeded``."""
    how = _RESULTS.get(result, f"rejected with unknown result {result}")
    who = _SOURCES.get(source, f"unknown source {source}")
    why = _REASONS.get((source, reason), f"unknown reason {reason}")
    return f"{how} by {who}: {why}"


def is_rejection_worth_retrying(result: int) -> bool:
    """Whether the same association, requested again later, may be accepted (result 2, rejected-transient)."""
    return result == 2


_ABORT_REASONS = {
    0: "no reason given",
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


def describe_abort(source: int, reason: int) -> str:
    """An A-ABORT in words; the reason counts only when the upper layer itself aborted (source 2)."""
    if source == 2:
        return f"aborted by the upper layer: {_ABORT_REASONS.get(reason, f'unknown reason {reason}')}"
    return "aborted by the application"

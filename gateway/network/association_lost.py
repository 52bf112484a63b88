"""Why an association cannot go on.

AssociationLost          the association cannot go on
├── ProtocolViolation    the peer sent what PS3.8 forbids; `abort` says what it is told
├── TooLarge             a PDU or a message over its limit
├── TooSlow              nothing, or too little, by the deadline
├── PeerAborted          the peer sent A-ABORT
├── Released             the peer asked to release the association inside a message
└── TransportLost        the transport closed under the association
"""

from __future__ import annotations

from enum import IntEnum

from gateway.errors import DicomError
from gateway.network.statuses import describe_abort


class AbortReason(IntEnum):
    """Reasons of an A-ABORT by the upper layer (PS3.8 Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER_VALUE = 6


class AssociationLost(DicomError):  # noqa: N818 - the statement, not the suffix, says what it is
    """The association cannot go on; `abort` is the reason the peer is told, None when nobody listens."""

    abort: AbortReason | None = AbortReason.NOT_SPECIFIED


class ProtocolViolation(AssociationLost):
    """The peer sent what PS3.7 or PS3.8 forbids."""

    def __init__(self, message: str, abort: AbortReason = AbortReason.INVALID_PARAMETER_VALUE) -> None:
        super().__init__(message)
        self.abort = abort


class TooLarge(AssociationLost):
    """A PDU or a message is longer than allowed."""


class TooSlow(AssociationLost):
    """The deadline passed."""


class PeerAborted(AssociationLost):
    """The peer sent A-ABORT."""

    abort = None

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(describe_abort(source, reason))
        self.source = source
        self.reason = reason


class Released(AssociationLost):
    """The peer sent A-RELEASE-RQ before its message was whole; the message is dropped, the association released."""

    abort = None


class TransportLost(AssociationLost):
    """The transport was closed or failed."""

    abort = None

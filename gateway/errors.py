"""Every error that Athanor raises on purpose.

    AthanorError
    ├── ConfigurationError     settings, rules or manifests that do not fit; nothing was started
    ├── DicomError             what a peer sent
    │   ├── NotDicom           not a data set at all                     -> status 0xC000
    │   ├── DataSetMismatch    the data set contradicts the request      -> status 0xA900
    │   ├── UnsuitableSeries   valid DICOM that a pipeline cannot take   -> the job ends REFUSED
    │   ├── Unmarked           a derived object that lacks a mark        -> it is never sent
    │   └── network.association_lost.AssociationLost   the peer broke the association, or the protocol
    ├── OutOfResources         disk reserve reached                      -> status 0xA700
    ├── DeliveryError          a destination did not take an instance
    │   └── network.requestor.StepFailed          at which step, and whether to try again
    └── Unavailable            the database or the broker did not answer; try again

Each message names the thing, what was found, what was expected and what to do. No message holds a patient attribute.
"""

from __future__ import annotations


class AthanorError(Exception):
    """Root of every error raised on purpose."""


class ConfigurationError(AthanorError):
    """Settings, rules or manifests that do not fit."""


class DicomError(AthanorError):
    """A peer sent something that cannot be used as it is."""


class NotDicom(DicomError):  # noqa: N818 - the statement, not the suffix, says what it is
    """The bytes are not a DICOM data set."""


class DataSetMismatch(DicomError):  # noqa: N818
    """The data set and the C-STORE request that carried it disagree."""


class UnsuitableSeries(DicomError):  # noqa: N818
    """A valid series that a pipeline cannot take.

    `check` is a stable word for tables and metrics (``spacing``, ``missing-slices``), the rest is for people.
    """

    def __init__(self, check: str, found: str, expected: str, advice: str = "") -> None:
        self.check = check
        self.found = found
        self.expected = expected
        self.advice = advice
        text = f"{check}: found {found}; expected {expected}"
        super().__init__(f"{text}; {advice}" if advice else text)


class Unmarked(DicomError):  # noqa: N818
    """A derived object lacks one of its obligatory marks: it could be mistaken for an acquired one."""


class OutOfResources(AthanorError):  # noqa: N818
    """The spool cannot take another instance without touching its reserve."""


class DeliveryError(AthanorError):
    """A destination could not be reached or did not take what was sent."""


class Unavailable(AthanorError):  # noqa: N818
    """The database or the broker did not answer; the caller should try again."""

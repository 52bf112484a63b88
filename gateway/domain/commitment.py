"""Storage commitment (PS3.4 Annex J): which instances somebody asks to be kept, and what is answered of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
CLASS_INSTANCE_CONFLICT = 0x0119

# Failure Reason (0008,1197), PS3.3 C.14.1.1
_REASONS: Mapping[int, str] = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_INSTANCE: "no such object instance",
    CLASS_INSTANCE_CONFLICT: "class-instance conflict",
    0x0122: "referenced SOP Class not supported",
    0x0131: "duplicate Transaction UID",
    0x0213: "resource limitation",
}


@dataclass(frozen=True, slots=True, order=True)
class SopReference:
    """An instance, named as Referenced SOP Sequence (0008,1199) names it."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """The wish that these instances be kept safely; the transaction names it in the report."""

    transaction_uid: str
    instances: tuple[SopReference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What is kept of a request; `failed` has the Failure Reason of each instance that is not."""

    transaction_uid: str
    committed: tuple[SopReference, ...]
    failed: tuple[tuple[SopReference, int], ...] = ()

    def not_committed(self, sop_instance_uids: Collection[str]) -> dict[str, str]:
        """Those of `sop_instance_uids` that are not kept, with the reason in words.

        An instance of which the report says nothing is not committed either.
        """
        committed = {instance.sop_instance_uid for instance in self.committed}
        reasons = {instance.sop_instance_uid: describe_failure(reason) for instance, reason in self.failed}
        return {
            uid: reasons.get(uid, "the report does not mention it")
            for uid in sop_instance_uids
            if uid in reasons or uid not in committed
        }


def describe_failure(reason: int) -> str:
    """A Failure Reason (0008,1197) in words with its code, for example ``no such object instance (0x0112)``."""
    return f"{_REASONS.get(reason, 'unknown reason')} (0x{reason:04X})"

"""What the Storage SCP tells whoever keeps the objects: the seam between associations and storage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

AssociationEnd = Literal["released", "aborted"]
Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class AssociationInfo:
    """Who is at the other end of an accepted association. AE titles are claims, not proof."""

    id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    port: int
    implementation_class_uid: str
    implementation_version_name: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What comes before the data set of one C-STORE.

    `sop_instance_uid` is digits and dots, at most 64; whether the data set says the same is the receiver's to
    check.
    """

    association: AssociationInfo
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str | None = None  # what the data set has to say, when the sender named one study (STOW-RS)
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The status that answers a C-STORE, and a comment for the peer's log (64 characters reach it)."""

    status: int
    error_comment: str = ""


class Incoming(Protocol):
    """One object that is arriving. Ends with `finish` or with `discard`."""

    def write(self, *pieces: Buffer) -> None:
        """The next bytes of the data set, exactly as they came; whoever wants them later copies them now."""

    def finish(self) -> StoreAnswer:
        """The data set is whole; Success promises that it is safe."""

    def discard(self) -> None:
        """No more will come of it: the sender has gone."""


class Receiver(Protocol):
    """Keeps what arrives. Called in the association's own thread, by several associations at a time."""

    def association_opened(self, info: AssociationInfo) -> None:
        """An association was accepted; no object of it has come yet."""

    def begin(self, request: StoreRequest) -> Incoming:
        """One object is about to arrive; an objection to it is the answer of `finish`."""

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        """The association is over; nothing of it is still to come."""

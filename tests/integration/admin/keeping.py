"""A receiver that keeps what comes in memory: for tests of what stands before the receive stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.network.receiver import AssociationEnd, AssociationInfo, Incoming, StoreAnswer, StoreRequest


@dataclass
class Kept:
    """One object that arrived, and how it ended: ``whole``, ``discarded`` or not yet."""

    request: StoreRequest
    answer: StoreAnswer
    data_set: bytes = b""
    end: str = ""

    def write(self, *pieces: bytes | memoryview) -> None:
        self.data_set += b"".join(pieces)

    def finish(self) -> StoreAnswer:
        self.end = "whole"
        return self.answer

    def discard(self) -> None:
        self.end = "discarded"


@dataclass
class Keeping:
    """Answers Success, or what `answers` says for a SOP Instance UID."""

    answers: dict[str, StoreAnswer] = field(default_factory=dict)
    instances: list[Kept] = field(default_factory=list)
    associations: list[tuple[AssociationInfo, AssociationEnd | None]] = field(default_factory=list)

    def association_opened(self, info: AssociationInfo) -> None:
        self.associations.append((info, None))

    def begin(self, request: StoreRequest) -> Incoming:
        kept = Kept(request, self.answers.get(request.sop_instance_uid, StoreAnswer(0)))
        self.instances.append(kept)
        return kept

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        self.associations = [(one, how if one.id == info.id else end) for one, end in self.associations]

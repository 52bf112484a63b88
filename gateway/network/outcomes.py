"""What became of a transfer, instance by instance, and of a question whether a destination is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.network.destination import Step, StepFailed
from gateway.network.statuses import is_taken

OnAnswer = Callable[[str, int, str], None]
"""Called with SOP Instance UID, status and its words after each answer, in the thread that sends."""


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """What became of one instance. `status` is None when the peer gave no answer about it.

    A STOW-RS server's Failure Reason and Warning Reason are statuses, too (PS3.18 10.5.3): they are numbered alike.
    """

    sop_instance_uid: str
    status: int | None
    explanation: str
    worth_retrying: bool
    transfer_syntax_uid: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has it: Success, a Warning, or a duplicate of what we sent before."""
        return self.status is not None and is_taken(self.status)


@dataclass(frozen=True, slots=True)
class SendReport:
    """Outcomes in the order in which the instances were given; `failure` is what ended the transfer early.

    `associations` counts HTTP requests where there are no associations.
    """

    outcomes: tuple[InstanceOutcome, ...]
    failure: StepFailed | None
    associations: int
    seconds: float

    @property
    def is_delivered(self) -> bool:
        """Whether the peer took every instance."""
        return all(outcome.is_delivered for outcome in self.outcomes)

    @property
    def is_outage(self) -> bool:
        """Whether the peer took nothing for now: what else waits for it would fare no better."""
        return not any(outcome.is_delivered for outcome in self.outcomes) and any(
            outcome.worth_retrying for outcome in self.outcomes
        )


@dataclass(frozen=True, slots=True)
class EchoReport:
    """How asking went, with the milliseconds of each step; without `failure` it succeeded.

    `status` is that of the C-ECHO, or of the HTTP answer.
    """

    failure: StepFailed | None
    status: int | None
    milliseconds: Mapping[Step, float]

    @property
    def is_answered(self) -> bool:
        """Whether the destination answered with Success."""
        return self.failure is None

    @property
    def explanation(self) -> str:
        """The outcome in words."""
        return "answered: Success" if self.failure is None else str(self.failure)

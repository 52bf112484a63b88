"""Storage commitment over an association that was accepted: requests and reports come in, our reports go out.

A peer that keeps its association open after the request is waiting for the report there; one that releases it gets the
report over another association. So nothing is sent while the peer may be about to release: only after some silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway import logs
from gateway.domain.commitment import CommitmentReport, CommitmentRequest
from gateway.errors import Unavailable
from gateway.network.commitment import Unusable, answer_command, encode_report, event_command, read_report, read_request
from gateway.network.dimse import Command, CommandField
from gateway.network.negotiation import AgreedContext
from gateway.network.receiver import AssociationInfo
from gateway.network.statuses import PROCESSING_FAILURE, SUCCESS

SILENCE_S = 0.5
HOLD_S = 15.0
"""How long the association that brought a request has the first right to carry the report."""

log = logs.get("commitment")


class Vouching(Protocol):
    """Keeps what peers ask to be committed. Called in the association's own thread."""

    def requested(self, association: AssociationInfo, request: CommitmentRequest, hold_s: float) -> None:
        """Keep the request durably; for `hold_s` nobody else reports. Raises Unusable, Unavailable."""

    def report_on(self, association: AssociationInfo, transaction_uid: str) -> CommitmentReport | None:
        """What is held of it; None while that cannot be said yet. Raises Unavailable."""

    def told(self, association: AssociationInfo, report: CommitmentReport, status: int) -> None:
        """The peer answered the report. Raises Unavailable."""

    def leave(self, association: AssociationInfo, transaction_uids: Sequence[str]) -> None:
        """The association is over: these are to be reported over another. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Commitments:
    """Both sides of storage commitment: what peers ask of us, and what they report on our requests.

    `hear` takes a report; it raises Unusable or Unavailable.
    """

    vouching: Vouching
    hear: Callable[[AssociationInfo, CommitmentReport], None]


class AssociationCommitments:
    """The storage commitment of one accepted association; `send` sends a command with its data set."""

    def __init__(
        self,
        commitments: Commitments,
        association: AssociationInfo,
        send: Callable[[AgreedContext, Command, bytes], None],
    ) -> None:
        self._commitments = commitments
        self._association = association
        self._send = send
        self._waiting: dict[str, tuple[AgreedContext, float]] = {}
        self._unanswered: tuple[int, CommitmentReport] | None = None
        self._message_id = 0

    @property
    def wants_to_report(self) -> bool:
        """Whether the peer may be waiting for a report that was not sent yet."""
        return bool(self._waiting) and self._unanswered is None

    def answer(self, command: Command, data_set: bytes | None, context: AgreedContext) -> Command:
        """The response to an N-ACTION or an N-EVENT-REPORT, once what it says is durable."""
        status, comment = SUCCESS, ""
        try:
            if command.command_field == CommandField.N_ACTION_RQ:
                request = read_request(command, data_set, context.transfer_syntax_uid)
                self._commitments.vouching.requested(self._association, request, HOLD_S + SILENCE_S)
                if context.requestor_is_scu:
                    self._waiting[request.transaction_uid] = context, time.monotonic() + HOLD_S
            else:
                report = read_report(command, data_set, context.transfer_syntax_uid)
                self._commitments.hear(self._association, report)
        except Unusable as unusable:
            status, comment = unusable.status, str(unusable)
        except Exception as error:  # noqa: BLE001 - one message that fails must not end the association
            log.error("commitment failed", **logs.failure(error))
            status, comment = PROCESSING_FAILURE, "internal error, see the log of the receiver"
        if status != SUCCESS:
            log.warning("commitment message refused", status=f"0x{status:04X}", reason=comment)
        return answer_command(command, status, comment)

    def report(self) -> None:
        """Send the next report that can be made; what cannot be made for long is left to another association."""
        for transaction_uid, (context, until) in list(self._waiting.items()):
            report = None
            if time.monotonic() < until:
                try:
                    report = self._commitments.vouching.report_on(self._association, transaction_uid)
                except Unavailable as error:
                    log.warning("no report yet", reason=str(error))
                if report is None:
                    continue
            del self._waiting[transaction_uid]
            if report is not None:
                self._message_id += 1
                self._unanswered = self._message_id, report
                command = event_command(self._message_id, report)
                self._send(context, command, encode_report(report, context.transfer_syntax_uid))
                return

    def is_answer(self, response: Command) -> bool:
        """Whether `response` answers our report; then it was taken note of."""
        if (
            self._unanswered is None
            or response.command_field != CommandField.N_EVENT_REPORT_RQ | CommandField.RESPONSE
            or response.message_id_being_responded_to != self._unanswered[0]
            or response.status is None
        ):
            return False
        try:
            self._commitments.vouching.told(self._association, self._unanswered[1], response.status)
        except Unavailable as error:
            log.warning("answer to a report not recorded; it is sent again", reason=str(error))
        self._unanswered = None
        return True

    def end(self) -> None:
        """The association is over."""
        left = [*self._waiting, *([self._unanswered[1].transaction_uid] if self._unanswered else [])]
        if left:
            try:
                self._commitments.vouching.leave(self._association, left)
            except Unavailable as error:
                log.warning("reports wait until the hold on them ends", reason=str(error))

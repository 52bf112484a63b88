"""Storage commitment over associations that this node opens: ask a destination, tell a peer (PS3.4 J.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from gateway.domain.commitment import CommitmentReport, CommitmentRequest
from gateway.network.commitment import (
    MAX_INFORMATION_BYTES,
    Unusable,
    action_command,
    answer_command,
    encode_report,
    encode_request,
    event_command,
    read_report,
)
from gateway.network.contexts import STORAGE_COMMITMENT, UNCOMPRESSED
from gateway.network.destination import Clock, DestinationAddress, Step, StepFailed
from gateway.network.dimse import Command
from gateway.network.negotiation import AgreedContext, ProposedContext
from gateway.network.requestor import RequestedAssociation, open_association
from gateway.network.statuses import INVALID_ARGUMENT_VALUE, SUCCESS, describe_status, is_worth_retrying

_UNSUPPORTED = "the destination does not accept Storage Commitment Push Model; turn commitment off"


def ask(
    destination: DestinationAddress,
    request: CommitmentRequest,
    *,
    report_within_s: float,
    taken: Callable[[], None] = lambda: None,
    heard: Callable[[CommitmentReport], None] = lambda _: None,
) -> CommitmentReport | None:
    """Send the N-ACTION; the report when it comes over this association, None when it is still to come.

    `taken` is called once the destination has taken the request, `heard` with the report before that is answered.
    Raises StepFailed: the destination did not take the request.
    """
    clock = Clock(destination)
    association = open_association(destination, _proposed(as_scp=False), clock)
    context = _agreed(association, _UNSUPPORTED)
    with clock.timing(Step.REQUEST):
        information = encode_request(request, context.transfer_syntax_uid)
        command = action_command(association.next_message_id())
        response = association.exchange(context, command, _pieces(information, association.piece_bytes))
    _require_success(association, response)
    try:
        taken()
        return _await_report(association, request.transaction_uid, report_within_s, heard)
    finally:
        association.release()


def require_support(destination: DestinationAddress) -> None:
    """See that the destination takes questions, without asking one; raises StepFailed."""
    association = open_association(destination, _proposed(as_scp=False), Clock(destination))
    _agreed(association, _UNSUPPORTED)
    association.release()


def tell(peer: DestinationAddress, report: CommitmentReport) -> None:
    """Send the N-EVENT-REPORT over an association of its own; raises StepFailed: the peer did not take it."""
    clock = Clock(peer)
    association = open_association(peer, _proposed(as_scp=True), clock)
    context = _agreed(association, "the peer takes no Storage Commitment report over an association of ours")
    with clock.timing(Step.REQUEST):
        information = encode_report(report, context.transfer_syntax_uid)
        command = event_command(association.next_message_id(), report)
        response = association.exchange(context, command, _pieces(information, association.piece_bytes))
    _require_success(association, response)
    association.release()


def _proposed(*, as_scp: bool) -> list[ProposedContext]:
    return [ProposedContext(STORAGE_COMMITMENT, str(syntax), as_scp=as_scp) for syntax in UNCOMPRESSED]


def _agreed(association: RequestedAssociation, otherwise: str) -> AgreedContext:
    context = next(iter(association.contexts.values()), None)
    if context is None:
        association.release()
        raise StepFailed(Step.CONTEXT, otherwise, worth_retrying=False)
    return context


def _pieces(information: bytes, piece_bytes: int) -> Iterator[bytes]:
    return (information[start : start + piece_bytes] for start in range(0, len(information), piece_bytes))


def _require_success(association: RequestedAssociation, response: Command) -> None:
    assert response.status is not None, "a response has a status"
    if response.status != SUCCESS:
        association.release()
        words = describe_status(response.status)
        if response.error_comment:
            words = f"{words}: {response.error_comment}"
        raise StepFailed(Step.REQUEST, words, worth_retrying=is_worth_retrying(response.status))


def _await_report(
    association: RequestedAssociation,
    transaction_uid: str,
    within_s: float,
    heard: Callable[[CommitmentReport], None],
) -> CommitmentReport | None:
    """The report about `transaction_uid`, if it comes over this association in time."""
    until = time.monotonic() + within_s
    while (message := association.await_request(until, MAX_INFORMATION_BYTES)) is not None:
        context, command = association.contexts[message.context_id], message.command
        try:
            report = read_report(command, message.data_set, context.transfer_syntax_uid)
        except Unusable as unusable:
            association.answer(context, answer_command(command, unusable.status, str(unusable)))
            continue
        is_ours = report.transaction_uid == transaction_uid
        if is_ours:
            heard(report)
        association.answer(context, answer_command(command, SUCCESS if is_ours else INVALID_ARGUMENT_VALUE))
        if is_ours:
            return report
    return None

"""The Storage and Verification SCU: send stored instances to a destination, or ask whether it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.dicom.patient_words import names_patient
from gateway.errors import NotDicom
from gateway.network.contexts import UNCOMPRESSED, VERIFICATION
from gateway.network.destination import Clock, DestinationAddress, Step, StepFailed, TransferStopped
from gateway.network.dimse import CommandField
from gateway.network.negotiation import MAX_CONTEXTS, AgreedContext, ProposedContext
from gateway.network.outcomes import EchoReport, InstanceOutcome, OnAnswer, SendReport
from gateway.network.outgoing import OutgoingInstance, data_set_pieces
from gateway.network.pace import Pace, at_once
from gateway.network.requestor import RequestedAssociation, open_association
from gateway.network.statuses import SUCCESS, describe_status, is_worth_retrying

__all__ = [
    "DestinationAddress",
    "EchoReport",
    "InstanceOutcome",
    "OutgoingInstance",
    "SendReport",
    "Step",
    "StepFailed",
    "TransferStopped",
    "echo",
    "send",
]


def send(
    destination: DestinationAddress,
    instances: Sequence[OutgoingInstance],
    on_answer: OnAnswer,
    pace: Pace = at_once,
) -> SendReport:
    """Send every instance with C-STORE, over one association unless more than 128 contexts are needed.

    Each SOP Class is proposed in the stored transfer syntax and, one presentation context each, in Explicit
    and Implicit VR Little Endian. Never raises for what the peer does: the report says it, instance by
    instance. Raises TransferStopped when `pace` does.
    """
    clock = Clock(destination)
    outcomes: list[InstanceOutcome] = []
    failure: StepFailed | None = None
    associations = 0
    for proposed, group in _by_association(instances):
        try:
            association = open_association(destination, proposed, clock)
        except StepFailed as failed:
            failure = failed
            break
        associations += 1
        try:
            failure = _send_group(association, group, outcomes, on_answer, pace)
        except TransferStopped:
            association.abort()
            raise
        if failure is not None:
            break
        association.release()
    for instance in instances[len(outcomes) :]:
        assert failure is not None, "every instance has an outcome unless something failed"
        outcomes.append(
            # an association that was refused for good may be accepted when an administrator has been there
            InstanceOutcome(instance.sop_instance_uid, None, f"not sent: {failure}", worth_retrying=True)
        )
    return SendReport(tuple(outcomes), failure, associations, clock.seconds)


def _send_group(
    association: RequestedAssociation,
    instances: Sequence[OutgoingInstance],
    outcomes: list[InstanceOutcome],
    on_answer: OnAnswer,
    pace: Pace,
) -> StepFailed | None:
    """Send over an open association, adding to `outcomes`; the failure that ended it, if one did."""
    pace(0)
    agreed = {(c.sop_class_uid, c.transfer_syntax_uid): c for c in association.contexts.values()}
    for instance in instances:
        context = _context_for(instance, agreed)
        if context is None:
            outcomes.append(_refused(instance))
            continue
        try:
            pieces = data_set_pieces(instance, context.transfer_syntax_uid, association.piece_bytes)
            response = association.request(
                context, CommandField.C_STORE_RQ, instance.sop_instance_uid, _paced(pieces, pace)
            )
        except NotDicom as error:
            outcomes.append(InstanceOutcome(instance.sop_instance_uid, None, str(error), worth_retrying=False))
            continue
        except StepFailed as failed:
            explanation = f"no answer, so whether it was stored is unknown: {failed.explanation}"
            outcomes.append(InstanceOutcome(instance.sop_instance_uid, None, explanation, worth_retrying=True))
            return failed
        assert response.status is not None, "a response has a status"
        words = describe_status(response.status)
        if response.error_comment and names_patient(response.error_comment, instance.path):
            words = f"{words}: its comment names the patient, and is left out"
        elif response.error_comment:
            words = f"{words}: {response.error_comment}"
        retry = is_worth_retrying(response.status)
        outcomes.append(
            InstanceOutcome(instance.sop_instance_uid, response.status, words, retry, context.transfer_syntax_uid)
        )
        on_answer(instance.sop_instance_uid, response.status, words)
    return None


def _paced(pieces: Iterator[bytes], pace: Pace) -> Iterator[bytes]:
    for piece in pieces:
        pace(len(piece))
        yield piece


def _context_for(instance: OutgoingInstance, agreed: Mapping[tuple[str, str], AgreedContext]) -> AgreedContext | None:
    for syntax in (instance.transfer_syntax_uid, *UNCOMPRESSED):
        if (context := agreed.get((instance.sop_class_uid, syntax))) is not None:
            return context
    return None


def _refused(instance: OutgoingInstance) -> InstanceOutcome:
    explanation = (
        f"{Step.CONTEXT}: the peer accepts SOP Class {instance.sop_class_uid} in none of "
        f"{instance.transfer_syntax_uid}, {ExplicitVRLittleEndian}, {ImplicitVRLittleEndian}"
    )
    return InstanceOutcome(instance.sop_instance_uid, None, explanation, worth_retrying=False)


def _by_association(
    instances: Sequence[OutgoingInstance],
) -> Iterator[tuple[list[ProposedContext], list[OutgoingInstance]]]:
    """The instances, in order, in groups whose presentation contexts fit one association."""
    proposed: dict[ProposedContext, None] = {}
    group: list[OutgoingInstance] = []
    for instance in instances:
        wanted = [
            ProposedContext(instance.sop_class_uid, str(syntax))
            for syntax in dict.fromkeys((instance.transfer_syntax_uid, *map(str, UNCOMPRESSED)))
        ]
        if len(proposed.keys() | set(wanted)) > MAX_CONTEXTS:
            yield list(proposed), group
            proposed, group = {}, []
        proposed.update(dict.fromkeys(wanted))
        group.append(instance)
    if group:
        yield list(proposed), group


def echo(destination: DestinationAddress) -> EchoReport:
    """Ask the destination with C-ECHO whether it is there; never raises for what the peer does."""
    clock = Clock(destination)
    status: int | None = None
    failure: StepFailed | None = None
    proposed = [ProposedContext(VERIFICATION, str(syntax)) for syntax in UNCOMPRESSED]
    try:
        association = open_association(destination, proposed, clock)
        context = next(iter(association.contexts.values()), None)
        if context is None:
            failure = StepFailed(Step.CONTEXT, "the peer does not accept Verification", worth_retrying=False)
        else:
            with clock.timing(Step.REQUEST):
                status = association.request(context, CommandField.C_ECHO_RQ).status
        with clock.timing(Step.RELEASE):
            association.release()
    except StepFailed as failed:
        failure = failed
    if status is not None and status != SUCCESS:
        failure = StepFailed(Step.REQUEST, describe_status(status), worth_retrying=is_worth_retrying(status))
    return EchoReport(failure, status, clock.milliseconds)

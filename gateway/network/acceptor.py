"""One association as its acceptor sees it, from the first byte to the last (PS3.8 9.2, PS3.7 9.1)."""

from __future__ import annotations

import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pynetdicom.presentation import PresentationContext

from gateway import logs
from gateway.domain.refusal import Reason, Refusal
from gateway.killpoints import reached
from gateway.network.commitment import information_limits
from gateway.network.commitment_in import SILENCE_S, AssociationCommitments, Commitments
from gateway.network.contexts import STORAGE_COMMITMENT, VERIFICATION
from gateway.network.dimse import (
    Command,
    CommandField,
    MessageHead,
    MessageLimits,
    command_pdus,
    data_set_pdus,
    is_plain_uid,
    read_command,
    read_data_set,
    read_rest,
    require_known_context,
)
from gateway.network.guard import Admission, Guard
from gateway.network.negotiation import (
    APPLICATION_CONTEXT_NAME,
    AgreedContext,
    AssociationRequest,
    accept_request,
    read_request,
)
from gateway.network.receiver import AssociationEnd, AssociationInfo, Receiver, StoreRequest
from gateway.network.socket_input import Buffers
from gateway.network.statuses import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    CANNOT_UNDERSTAND,
    HANDLER_FAILED,
    INVALID_SOP_INSTANCE,
    LOCAL_LIMIT_EXCEEDED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    TEMPORARY_CONGESTION,
    UNRECOGNISED_OPERATION,
)
from gateway.network.tls import PeerCertificate, describe_failure
from gateway.network.upper_layer import (
    RELEASE_RP_PDU,
    AbortReason,
    AssociationLost,
    PduType,
    ProtocolViolation,
    Released,
    TooLarge,
    TooSlow,
    TransportLost,
    UpperLayer,
    piece_bytes,
    reject_pdu,
)

log = logs.get("scp")

_MAX_REQUEST_BYTES = 128 * 1024
_MAX_COMMENT_CHARACTERS = 64
_LINGER_S = 1.0
_NO_STORAGE = frozenset({VERIFICATION, STORAGE_COMMITMENT})
_COMMITMENT_REQUESTS = frozenset({CommandField.N_ACTION_RQ, CommandField.N_EVENT_REPORT_RQ})


@dataclass(frozen=True, slots=True)
class AcceptorTerms:
    """What every association of one SCP shares."""

    admission: Admission
    max_pdu_bytes: int
    request_s: float
    answer_s: float
    messages: MessageLimits
    buffers: Buffers
    contexts: Sequence[PresentationContext]
    tls: ssl.SSLContext | None
    refused: Callable[[Refusal], None]
    commitments: Commitments | None


_REJECTIONS = {
    Reason.CALLING_AE_TITLE: CALLING_AE_TITLE_NOT_RECOGNISED,
    Reason.CERTIFICATE: CALLING_AE_TITLE_NOT_RECOGNISED,
    Reason.CALLED_AE_TITLE: CALLED_AE_TITLE_NOT_RECOGNISED,
    Reason.TOO_MANY_ASSOCIATIONS: LOCAL_LIMIT_EXCEEDED,
    Reason.NOT_READY: TEMPORARY_CONGESTION,
    Reason.PROTOCOL_VERSION: PROTOCOL_VERSION_NOT_SUPPORTED,
    Reason.APPLICATION_CONTEXT: APPLICATION_CONTEXT_NOT_SUPPORTED,
}


class AcceptedAssociation:
    """A transport connection that may become an association; `run` is its whole life, in its own thread."""

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        terms: AcceptorTerms,
        guard: Guard,
        receiver: Receiver,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.address, self._port = peer
        self._sock = sock
        self._terms = terms
        self._guard = guard
        self._receiver = receiver
        self._arrived = time.monotonic()
        self._upper_layer: UpperLayer | None = None
        self._info: AssociationInfo | None = None
        self._contexts: Mapping[int, AgreedContext] = {}
        self._peer_max_pdu_bytes = 0
        self._commitments: AssociationCommitments | None = None

    def dismiss(self) -> None:
        """Close the transport; the thread that waits for it ends."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # TLS state belongs to the other thread
        except OSError:
            return  # it was closed already

    def abort(self) -> None:
        """Tell the peer that the association ends here, and close the transport; from any thread."""
        if self._upper_layer is not None:
            self._upper_layer.abort()
        self.dismiss()

    def refuse(self) -> None:
        """Close the transport of an association that never ran."""
        self._close("aborted")

    def run(self) -> None:
        """Negotiate, answer every message, and leave nothing open. Never raises."""
        with logs.bind(association=self.id):
            self._run()

    def _run(self) -> None:
        how: AssociationEnd = "aborted"
        try:
            self._open_transport()
            if self._negotiate():
                self._answer_messages()
                how = "released"
                self._wire.send(RELEASE_RP_PDU, self._answer_deadline())
                self._wire.linger(time.monotonic() + _LINGER_S)
        except AssociationLost as lost:
            self._tell_and_log(lost)
        except OSError as error:
            log.info("no association", address=self.address, reason=error.strerror or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the edge of this association: no other one may notice
            log.error("association aborted", **logs.failure(error))
            self.abort()
        finally:
            self._close(how)

    def _open_transport(self) -> None:
        # Without TCP_NODELAY an answer waits for the acknowledgement of the last one: 44 ms per C-STORE
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._terms.tls is not None:
            self._shake_hands(self._terms.tls)
        self._upper_layer = UpperLayer(self._sock, self._terms.max_pdu_bytes, self._terms.buffers)

    def _shake_hands(self, tls: ssl.SSLContext) -> None:
        """Begin TLS; raises TransportLost or TooSlow, and then the peer has been told."""
        sock = self._sock = tls.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        try:
            sock.settimeout(max(0.001, self._request_deadline() - time.monotonic()))
            sock.do_handshake()
        except TimeoutError:
            raise TooSlow("no whole TLS handshake in time") from None
        except ssl.SSLError as error:
            # Closing with bytes unread would let a reset overtake the alert that says why
            self._sock = socket.socket(fileno=sock.detach())
            UpperLayer(self._sock, self._terms.max_pdu_bytes).linger(time.monotonic() + _LINGER_S)
            raise TransportLost(f"TLS handshake: {describe_failure(error)}") from error

    def _negotiate(self) -> bool:
        """Whether the association was accepted; when not, the rejection has been sent."""
        upper_layer = self._wire
        kind, pdu = upper_layer.read_pdu(self._request_deadline(), _MAX_REQUEST_BYTES)
        if kind is PduType.ABORT:
            return False
        if kind is not PduType.ASSOCIATE_RQ:
            raise ProtocolViolation(f"{kind.name} before an association", AbortReason.UNEXPECTED_PDU)
        request = read_request(pdu)
        self._peer_max_pdu_bytes = request.max_pdu_bytes
        reason = self._objection(request)
        if reason is None:
            answer, self._contexts = accept_request(request, self._terms.contexts, self._terms.max_pdu_bytes)
            reason = self._announce(request)
        if reason is not None:
            self._refused(reason, request.calling_ae_title, request.called_ae_title)
            log.warning("association rejected", address=self.address, reason=reason.value)
            upper_layer.send(reject_pdu(_REJECTIONS[reason]), self._answer_deadline())
            upper_layer.linger(time.monotonic() + _LINGER_S)
            return False
        upper_layer.send(answer, self._answer_deadline())
        return True

    def _objection(self, request: AssociationRequest) -> Reason | None:
        """Why there is no association for this request; None when it has its place now."""
        if not request.speaks_version_1:
            return Reason.PROTOCOL_VERSION
        if request.application_context_name != APPLICATION_CONTEXT_NAME:
            return Reason.APPLICATION_CONTEXT
        admission = self._terms.admission
        objection = admission.objection(self.address, request.calling_ae_title, request.called_ae_title)
        if objection is not None:
            return objection
        certificate = PeerCertificate.shown_on(self._sock)
        if not admission.owns_title(request.calling_ae_title, certificate):
            log.warning(
                "not the certificate of this AE title",
                address=self.address,
                calling_ae_title=request.calling_ae_title,
                found=str(certificate or "none"),
                expected=admission.certificates[request.calling_ae_title],
            )
            return Reason.CERTIFICATE
        has_place = self._guard.associate(self, request.calling_ae_title)
        return None if has_place else Reason.TOO_MANY_ASSOCIATIONS

    def _announce(self, request: AssociationRequest) -> Reason | None:
        info = AssociationInfo(
            id=self.id,
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            address=self.address,
            port=self._port,
            implementation_class_uid=request.implementation_class_uid,
            implementation_version_name=request.implementation_version_name,
            opened_at=datetime.now(UTC),
        )
        try:
            self._receiver.association_opened(info)
        except Exception as error:  # noqa: BLE001 - a receiver that is not ready must not end the listener
            log.error("receiver refused the association", **logs.failure(error))
            return Reason.NOT_READY
        self._info = info
        if self._terms.commitments is not None:
            self._commitments = AssociationCommitments(self._terms.commitments, info, self._send_message)
        return None

    def _answer_messages(self) -> None:
        """Answer one message after the other until the peer asks to release the association."""
        upper_layer = self._wire
        while (head := self._next_command()) is not None:
            require_known_context(head, self._contexts)
            try:
                answer = self._answer(head)
            except Released:
                return
            if answer is not None:
                pdus = command_pdus(head.context_id, answer, self._peer_max_pdu_bytes)
                upper_layer.send(pdus, self._answer_deadline())
                reached("receive.answered")

    def _next_command(self) -> MessageHead | None:
        """The next command; a peer that is silent meanwhile is told what it waits to hear. Raises AssociationLost."""
        while self._commitments is not None and self._commitments.wants_to_report:
            try:
                self._wire.await_data(time.monotonic() + SILENCE_S)
                break
            except TooSlow:
                self._commitments.report()
        return read_command(self._wire, self._terms.messages)

    def _send_message(self, context: AgreedContext, command: Command, data_set: bytes) -> None:
        step = piece_bytes(self._peer_max_pdu_bytes)
        pieces = (data_set[start : start + step] for start in range(0, len(data_set), step))
        pdus = command_pdus(context.context_id, command, self._peer_max_pdu_bytes)
        self._wire.send(pdus + b"".join(data_set_pdus(context.context_id, pieces)), self._answer_deadline())

    def _answer(self, head: MessageHead) -> Command | None:
        """The response to one request; None to C-CANCEL and to a response. Raises AssociationLost."""
        command = head.command
        if command.command_field & CommandField.RESPONSE:
            if self._commitments is not None and self._commitments.is_answer(command):
                return None
            raise ProtocolViolation("a response to a request that was never made")
        if command.command_field == CommandField.C_CANCEL_RQ:
            return None
        if command.message_id is None:
            raise ProtocolViolation("a request without Message ID")
        comment = ""
        context = self._contexts[head.context_id]
        if context.sop_class_uid == STORAGE_COMMITMENT and command.command_field in _COMMITMENT_REQUESTS:
            assert self._commitments is not None, "the context would not have been accepted"
            message = read_rest(self._wire, head, information_limits(self._terms.messages))
            return self._commitments.answer(command, message.data_set, context)
        if command.command_field == CommandField.C_STORE_RQ:
            status, comment = self._store(head, context)
        else:
            self._skip_data_set(head)
            status = SUCCESS if command.command_field == CommandField.C_ECHO_RQ else UNRECOGNISED_OPERATION
        return Command(
            command_field=command.command_field | CommandField.RESPONSE,
            message_id_being_responded_to=command.message_id,
            affected_sop_class_uid=command.affected_sop_class_uid,
            affected_sop_instance_uid=command.affected_sop_instance_uid,
            status=status,
            error_comment=comment[:_MAX_COMMENT_CHARACTERS] or None,
        )

    def _store(self, head: MessageHead, context: AgreedContext) -> tuple[int, str]:
        """Status and comment for a C-STORE request (PS3.4 B.2.3), whose data set goes to the receiver as it comes."""
        command = head.command
        sop_instance_uid = command.affected_sop_instance_uid
        if command.affected_sop_class_uid != context.sop_class_uid or context.sop_class_uid in _NO_STORAGE:
            objection = SOP_CLASS_NOT_SUPPORTED, "not the SOP Class of the presentation context"
        elif sop_instance_uid is None or not is_plain_uid(sop_instance_uid):
            objection = INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID"
            if self._info is not None:
                self._refused(Reason.INVALID_UID, self._info.calling_ae_title, self._info.called_ae_title)
        elif not command.has_data_set or self._info is None:
            objection = CANNOT_UNDERSTAND, "no data set"
        else:
            return self._stream(
                head,
                StoreRequest(
                    association=self._info,
                    message_id=command.message_id or 0,
                    sop_class_uid=context.sop_class_uid,
                    sop_instance_uid=sop_instance_uid,
                    transfer_syntax_uid=context.transfer_syntax_uid,
                    move_originator_ae_title=command.move_originator_ae_title,
                    move_originator_message_id=command.move_originator_message_id,
                ),
            )
        self._skip_data_set(head)
        return objection

    def _stream(self, head: MessageHead, request: StoreRequest) -> tuple[int, str]:
        """Hand the data set to the receiver; whatever that makes of it, the association goes on."""
        data_set = read_data_set(self._wire, head, self._terms.messages)
        incoming = None
        is_empty = True
        try:
            incoming = self._receiver.begin(request)
            for pieces in data_set:
                incoming.write(*pieces)
                is_empty = is_empty and not any(pieces)
            if is_empty:
                incoming.discard()
                return CANNOT_UNDERSTAND, "no data set"
            answer = incoming.finish()
        except AssociationLost:
            if incoming is not None:
                incoming.discard()
            raise
        except Exception as error:  # noqa: BLE001 - one object that fails must not end the association
            log.error("storing failed", **logs.failure(error))
            if incoming is not None:
                incoming.discard()
            for _ in data_set:
                pass
            return HANDLER_FAILED, "internal error, see the log of the receiver"
        return answer.status, answer.error_comment

    def _skip_data_set(self, head: MessageHead) -> None:
        if head.command.has_data_set:
            for _ in read_data_set(self._wire, head, self._terms.messages):
                pass

    def _tell_and_log(self, lost: AssociationLost) -> None:
        if self._info is None:
            if (reason := self._reason_of(lost)) is not None:
                self._refused(reason)
            log.info("no association", address=self.address, reason=str(lost))
        else:
            log.warning("association aborted", address=self.address, reason=str(lost))
        if lost.abort is None or (self._info is None and isinstance(lost, TooSlow)):
            return  # nobody listens, or nobody spoke (PS3.8 AA-2)
        # Before there is an association the application aborts (AA-1), then the upper layer (AA-8)
        self._wire.abort(None if self._info is None else lost.abort)
        self._wire.linger(time.monotonic() + _LINGER_S)

    def _reason_of(self, lost: AssociationLost) -> Reason | None:
        """What kept this connection from becoming an association; None when the peer left by itself."""
        if isinstance(lost, TooSlow):
            return Reason.TOO_SLOW
        if isinstance(lost, ProtocolViolation | TooLarge):
            return Reason.NO_REQUEST
        return Reason.TLS if self._upper_layer is None else None

    def _refused(self, reason: Reason, calling_ae_title: str = "", called_ae_title: str = "") -> None:
        self._terms.refused(Refusal(self.address, calling_ae_title, called_ae_title, reason))

    def _close(self, how: AssociationEnd) -> None:
        self._sock.close()
        try:
            self._tell_receiver(how)
        finally:
            self._guard.leave(self)

    def _tell_receiver(self, how: AssociationEnd) -> None:
        if self._info is None:
            return
        if self._commitments is not None:
            self._commitments.end()
        try:
            self._receiver.association_ended(self._info, how)
        except Exception as error:  # noqa: BLE001 - the association is over either way
            log.error("receiver failed at the end of the association", **logs.failure(error))

    @property
    def _wire(self) -> UpperLayer:
        assert self._upper_layer is not None, "the transport is open"
        return self._upper_layer

    def _request_deadline(self) -> float:
        return self._arrived + self._terms.request_s

    def _answer_deadline(self) -> float:
        return time.monotonic() + self._terms.answer_s

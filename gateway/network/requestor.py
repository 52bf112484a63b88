"""One association as its requestor sees it: name, transport, TLS, negotiation, requests, release (PS3.8 9.2).

Every failure says at which step it came, so that a person knows whom to call.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from gateway.errors import ConfigurationError
from gateway.network.destination import Clock, DestinationAddress, Step, StepFailed
from gateway.network.dimse import (
    NO_DATA_SET,
    Command,
    CommandField,
    Message,
    MessageLimits,
    command_pdus,
    data_set_pdus,
    read_message,
    require_known_context,
)
from gateway.network.negotiation import AgreedContext, ProposedContext, read_acceptance, request_pdu
from gateway.network.statuses import describe_abort, describe_rejection, is_rejection_worth_retrying
from gateway.network.tls import TlsFiles, describe_failure, is_worth_retrying
from gateway.network.upper_layer import (
    RELEASE_RP_PDU,
    RELEASE_RQ_PDU,
    AbortReason,
    AssociationLost,
    PduType,
    ProtocolViolation,
    TooSlow,
    TransportLost,
    UpperLayer,
    piece_bytes,
)

_MAX_ANSWER_BYTES = 128 * 1024
_LAST_WORDS_S = 0.5
_CLOSED_AT_ONCE = "the peer closed after the handshake; does it accept our certificate?"


class RequestedAssociation:
    """An established association; made by `open_association`."""

    def __init__(
        self,
        upper_layer: UpperLayer,
        sock: socket.socket,
        clock: Clock,
        max_pdu_bytes: int,
        contexts: Mapping[int, AgreedContext],
    ) -> None:
        self._upper_layer = upper_layer
        self._sock = sock
        self._clock = clock
        self._message_id = 0
        self.contexts = contexts
        self._max_pdu_bytes = max_pdu_bytes

    @property
    def piece_bytes(self) -> int:
        """How much of a data set the peer takes at a time."""
        return piece_bytes(self._max_pdu_bytes)

    def request(
        self,
        context: AgreedContext,
        command_field: CommandField,
        sop_instance_uid: str | None = None,
        pieces: Iterator[bytes] | None = None,
    ) -> Command:
        """Send a C-STORE with the data set in `pieces`, or a C-ECHO, and give the response.

        Raises StepFailed: no valid answer came in time; the association is over.
        """
        command = Command(
            command_field=command_field,
            message_id=self.next_message_id(),
            affected_sop_class_uid=context.sop_class_uid,
            affected_sop_instance_uid=sop_instance_uid,
            priority=None if pieces is None else 0,
            command_data_set_type=NO_DATA_SET if pieces is None else 0,
        )
        return self.exchange(context, command, pieces)

    def next_message_id(self) -> int:
        """A Message ID that no request in progress has."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def exchange(self, context: AgreedContext, command: Command, pieces: Iterator[bytes] | None) -> Command:
        """Send a request with its data set, and give the response. Raises StepFailed, as `request` does."""
        try:
            self._send(context.context_id, command, pieces)
            return self._response(command)
        except AssociationLost as lost:
            self._give_up(lost)
            raise StepFailed(Step.REQUEST, str(lost), worth_retrying=True) from lost
        except OSError as error:  # of the file: the transport's are AssociationLost
            self.abort()
            raise StepFailed(
                Step.REQUEST, f"the stored file ended early: {error.strerror}", worth_retrying=True
            ) from error

    def await_request(self, deadline: float, max_bytes: int) -> Message | None:
        """The next request of the peer, such as N-EVENT-REPORT, with at most `max_bytes` of data set.

        None when none came, or when the peer ended the association; `release` is next.
        """
        now = time.monotonic()
        limits = MessageLimits(max(0.0, deadline - now), self._clock.response_deadline() - now, max_bytes)
        try:
            message = read_message(self._upper_layer, limits)
            if message is None:
                self._upper_layer.send(RELEASE_RP_PDU, self._clock.response_deadline())
                self._sock.close()
            else:
                require_known_context(message, self.contexts)
        except TooSlow:
            return None
        except AssociationLost as lost:
            self._give_up(lost)
            return None
        return message

    def answer(self, context: AgreedContext, response: Command) -> None:
        """Send the response to a request of the peer; raises StepFailed."""
        try:
            self._send(context.context_id, response, None)
        except AssociationLost as lost:
            self._give_up(lost)
            raise StepFailed(Step.REQUEST, str(lost), worth_retrying=True) from lost

    def release(self) -> None:
        """End the association in order; a peer that does not play along is left, for every answer is here."""
        try:
            self._upper_layer.send(RELEASE_RQ_PDU, self._clock.response_deadline())
            while self._upper_layer.read_pdu(self._clock.response_deadline(), 4)[0] is PduType.RELEASE_RQ:
                self._upper_layer.send(RELEASE_RP_PDU, self._clock.response_deadline())  # both asked at once
        except AssociationLost:
            pass
        finally:
            self._sock.close()

    def abort(self) -> None:
        """End the association at once."""
        self._upper_layer.abort()
        self._sock.close()

    def _send(self, context_id: int, command: Command, pieces: Iterator[bytes] | None) -> None:
        try:
            pdus = command_pdus(context_id, command, self._max_pdu_bytes)
            self._upper_layer.send(pdus, self._clock.response_deadline())
            for pdu in data_set_pdus(context_id, pieces) if pieces is not None else ():
                self._upper_layer.send(pdu, self._clock.response_deadline())
        except TransportLost:
            # A peer that aborts also closes: what it said last is a better explanation than a broken pipe
            self._upper_layer.read_fragment(time.monotonic() + _LAST_WORDS_S)
            raise

    def _response(self, request: Command) -> Command:
        wait_s = max(0.0, self._clock.response_deadline() - time.monotonic())
        message = read_message(self._upper_layer, MessageLimits(wait_s, wait_s, 0))
        if message is None:
            raise ProtocolViolation("the peer asked to release the association instead of answering")
        response = message.command
        if (
            response.command_field != request.command_field | CommandField.RESPONSE
            or response.message_id_being_responded_to != request.message_id
            or response.status is None
        ):
            raise ProtocolViolation("the peer answered something else than the request")
        return response

    def _give_up(self, lost: AssociationLost) -> None:
        if lost.abort is not None:
            self._upper_layer.abort(lost.abort)
        self._sock.close()


def open_association(
    destination: DestinationAddress, proposed: Sequence[ProposedContext], clock: Clock
) -> RequestedAssociation:
    """Resolve, connect, negotiate; raises StepFailed."""
    deadline = clock.connect_deadline()
    with clock.timing(Step.RESOLVE):
        addresses = resolve(destination.host, destination.port, deadline)
    with clock.timing(Step.CONNECT):
        sock = connect(destination.host, destination.port, addresses, deadline)
    try:
        if destination.tls is not None:
            with clock.timing(Step.TLS):
                sock = _shake_hands(destination, destination.tls, sock, deadline)
        with clock.timing(Step.ASSOCIATE):
            return _negotiate(destination, proposed, sock, clock)
    except StepFailed:
        sock.close()
        raise


Place = tuple[socket.AddressFamily, tuple[str, int]]


def resolve(host: str, port: int, deadline: float) -> list[Place]:
    """Addresses of `host`; raises StepFailed.

    The system's resolver knows no deadline, so it is waited for from outside.
    """
    answers: queue.SimpleQueue[list[Place] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([(family, (str(place[0]), port)) for family, _, _, _, place in found])
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(None, "not a host name"))

    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        threading.Thread(target=ask, name="resolver", daemon=True).start()
    else:
        family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
        return [(family, (host, port))]
    try:
        answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        answer = TimeoutError(None, "the name service did not answer in time")
    if isinstance(answer, OSError):
        raise StepFailed(
            Step.RESOLVE,
            f"host name {host} has no address: {answer.strerror}",
            worth_retrying=True,
        )
    return answer


def connect(host: str, port: int, addresses: Sequence[Place], deadline: float) -> socket.socket:
    """A connection to the first of the addresses of `host` that answers; raises StepFailed."""
    where = f"{host} port {port}"
    explanation = f"{where}: no address to try"
    for place, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(0.001, (deadline - time.monotonic()) / (len(addresses) - place)))
            sock.connect(address)
        except TimeoutError:
            explanation = f"{where}: no answer in time; is a firewall in between?"
        except ConnectionRefusedError:
            explanation = f"{where}: connection refused; nothing listens there"
        except OSError as error:
            explanation = f"{where}: {error.strerror or type(error).__name__}"
        else:
            # Without TCP_NODELAY every C-STORE waits 44 ms for an acknowledgement
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        sock.close()
    raise StepFailed(Step.CONNECT, explanation, worth_retrying=True)


def _shake_hands(
    destination: DestinationAddress, files: TlsFiles, sock: socket.socket, deadline: float
) -> ssl.SSLSocket:
    name = destination.tls_server_name or destination.host
    worth_retrying = True
    try:
        context = files.calling_context()
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        return context.wrap_socket(sock, server_hostname=name)
    except ConfigurationError as error:
        explanation = str(error)
    except ssl.SSLError as error:
        explanation, worth_retrying = describe_failure(error, name), is_worth_retrying(error)
    except ValueError:
        explanation, worth_retrying = f"{name!r} cannot be a server name", False
    except TimeoutError:
        explanation = "no answer in time; does the peer speak TLS here?"
    except OSError as error:
        explanation = f"{error.strerror or 'closed'}; does the peer speak TLS here?"
    raise StepFailed(Step.TLS, explanation, worth_retrying=worth_retrying)


def _negotiate(
    destination: DestinationAddress, proposed: Sequence[ProposedContext], sock: socket.socket, clock: Clock
) -> RequestedAssociation:
    upper_layer = UpperLayer(sock, destination.max_pdu_bytes)
    request = request_pdu(destination.calling_ae_title, destination.ae_title, proposed, destination.max_pdu_bytes)
    deadline = clock.response_deadline()
    try:
        upper_layer.send(request, deadline)
        kind, pdu = upper_layer.read_pdu(deadline, _MAX_ANSWER_BYTES)
        if kind is PduType.ASSOCIATE_AC:
            max_pdu_bytes, contexts = read_acceptance(pdu, proposed)
            return RequestedAssociation(upper_layer, sock, clock, max_pdu_bytes, contexts)
    except AssociationLost as lost:
        if lost.abort is not None:
            upper_layer.abort(lost.abort)
        # TLS 1.3 refuses a client's certificate only after the handshake, with an alert that a reset may overtake
        if destination.tls is not None and isinstance(cause := lost.__cause__, ssl.SSLError | ConnectionError):
            words = describe_failure(cause) if isinstance(cause, ssl.SSLError) else _CLOSED_AT_ONCE
            raise StepFailed(Step.TLS, words, worth_retrying=True) from lost
        raise StepFailed(Step.ASSOCIATE, str(lost), worth_retrying=True) from lost
    if kind is PduType.ASSOCIATE_RJ and len(pdu) == 10:
        result, source, reason = pdu[7:10]
        raise StepFailed(
            Step.ASSOCIATE,
            describe_rejection(result, source, reason),
            worth_retrying=is_rejection_worth_retrying(result),
        )
    if kind is PduType.ABORT and len(pdu) == 10:
        raise StepFailed(Step.ASSOCIATE, describe_abort(pdu[8], pdu[9]), worth_retrying=True)
    upper_layer.abort(AbortReason.UNEXPECTED_PDU)
    raise StepFailed(Step.ASSOCIATE, f"the peer answered with {kind.name}", worth_retrying=False)

"""Every way in which reaching a destination fails, told apart step by step."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from network_peers import Listen, calling_tls, free_port, listening_tls, sample, storescp
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from gateway.errors import ConfigurationError
from gateway.network.contexts import supported_contexts
from gateway.network.dimse import Command, MessageLimits, command_pdus, read_message
from gateway.network.negotiation import accept_request, read_request
from gateway.network.scu import DestinationAddress, OutgoingInstance, Step, StepFailed, echo, send
from gateway.network.statuses import Rejection
from gateway.network.tls import TlsFiles
from gateway.network.upper_layer import (
    RELEASE_RP_PDU,
    RELEASE_RQ_PDU,
    AbortReason,
    AssociationLost,
    UpperLayer,
    abort_pdu,
    reject_pdu,
)

LIMITS = MessageLimits(5.0, 5.0, 10_000_000)
MR = OutgoingInstance.read(sample("MR_small.dcm"))


def destination(port: int, **changes: object) -> DestinationAddress:
    fields: dict[str, object] = {
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "calling_ae_title": "ATHANOR",
        "connect_timeout_s": 0.5,
        "response_timeout_s": 0.5,
    }
    return DestinationAddress(**{**fields, **changes})  # type: ignore[arg-type]


def failure_of(address: DestinationAddress) -> StepFailed:
    """The failure that C-ECHO and C-STORE report alike."""
    report = echo(address)
    sent = send(address, [MR], lambda *_: None)
    assert report.failure is not None
    assert sent.failure is not None
    assert not sent.is_delivered
    assert (sent.failure.step, str(sent.failure)) == (report.failure.step, str(report.failure))
    assert sent.outcomes[0].status is None
    assert sent.outcomes[0].worth_retrying, "whatever keeps it from being sent, an administrator may repair"
    assert report.status is None
    assert report.explanation == str(report.failure)
    return report.failure


@contextmanager
def scripted(script: Callable[[socket.socket], None]) -> Iterator[int]:
    """A peer that does with every connection what the script says; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    sock, _ = listener.accept()
                except TimeoutError:
                    continue
                with sock:
                    sock.settimeout(5)
                    try:
                        script(sock)
                    except (OSError, AssociationLost):
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def accept(sock: socket.socket) -> UpperLayer:
    """Accept the association of a scripted peer's caller."""
    upper_layer = UpperLayer(sock, 131072)
    _, pdu = upper_layer.read_pdu(time.monotonic() + 5, 100_000)
    answer, _ = accept_request(read_request(pdu), supported_contexts(), 16384)
    sock.sendall(answer)
    return upper_layer


def wait_for_the_end(sock: socket.socket) -> None:
    sock.setblocking(True)
    while sock.recv(65536):
        pass


def read_once(sock: socket.socket) -> None:
    assert sock.recv(65536)


def test_a_name_that_does_not_exist() -> None:
    failure = failure_of(destination(104, host="pacs.invalid"))
    assert failure.step is Step.RESOLVE
    assert "pacs.invalid has no address" in failure.explanation
    assert failure.worth_retrying


def test_a_port_where_nothing_listens() -> None:
    failure = failure_of(destination(free_port()))
    assert failure.step is Step.CONNECT
    assert "connection refused; nothing listens there" in failure.explanation


def test_an_address_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:  # a full queue drops what else arrives, as a firewall would
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        failure = failure_of(destination(port))
        assert time.monotonic() - began < 3.0
        for one in crowd:
            one.close()
    assert failure.step is Step.CONNECT
    assert "no answer in time" in failure.explanation
    assert failure.worth_retrying


def test_a_peer_that_accepts_the_connection_and_says_nothing() -> None:
    with scripted(wait_for_the_end) as port:
        failure = failure_of(destination(port))
    assert failure.step is Step.ASSOCIATE
    assert failure.explanation == "nothing more arrived in time"


def test_a_peer_that_hangs_up() -> None:
    with scripted(read_once) as port:
        failure = failure_of(destination(port))
    assert (failure.step, failure.explanation) == (Step.ASSOCIATE, "the peer closed the transport")


@pytest.mark.parametrize(
    ("rejection", "words", "retry"),
    [
        (Rejection(1, 1, 3), "rejected permanently by its application: calling AE title not recognised", False),
        (Rejection(1, 1, 7), "rejected permanently by its application: called AE title not recognised", False),
        (Rejection(2, 3, 2), "rejected for now by its presentation service: local limit exceeded", True),
    ],
)
def test_a_rejection_is_told_with_its_reason(rejection: Rejection, words: str, retry: bool) -> None:
    def reject(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(reject_pdu(rejection))
        wait_for_the_end(sock)

    with scripted(reject) as port:
        failure = failure_of(destination(port))
    assert (failure.step, failure.explanation, failure.worth_retrying) == (Step.ASSOCIATE, words, retry)


def test_dcmtk_refuses_and_the_reason_arrives(tmp_path: Path) -> None:
    with storescp(tmp_path, "--refuse") as port:
        failure = failure_of(destination(port))
    assert failure.step is Step.ASSOCIATE
    assert "rejected" in failure.explanation


def test_an_abort_instead_of_an_answer() -> None:
    def abort(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(abort_pdu(AbortReason.UNEXPECTED_PDU))
        wait_for_the_end(sock)

    with scripted(abort) as port:
        failure = failure_of(destination(port))
    assert (failure.step, failure.explanation) == (Step.ASSOCIATE, "aborted by the upper layer: unexpected PDU")


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02\x00\x00\x00\x00\x04abcd", RELEASE_RP_PDU, b"\x02\x00\xff\xff\xff\xff"],
)
def test_an_answer_that_is_none(answer: bytes) -> None:
    def answer_so(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)
        wait_for_the_end(sock)

    with scripted(answer_so) as port:
        assert failure_of(destination(port)).step is Step.ASSOCIATE


def test_a_peer_without_the_service() -> None:
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        report = echo(destination(server.server_address[1], response_timeout_s=5.0))
        sent = send(destination(server.server_address[1], response_timeout_s=5.0), [MR], lambda *_: None)
    finally:
        ae.shutdown()
    assert report.failure is not None
    assert report.failure.step is Step.CONTEXT
    assert sent.failure is None
    assert "accepts SOP Class" in sent.outcomes[0].explanation


def test_a_status_that_is_not_success_fails_an_echo() -> None:
    def answer_badly(sock: socket.socket) -> None:
        upper_layer = accept(sock)
        message = read_message(upper_layer, LIMITS)
        assert message is not None
        answer = Command(0x8030, message_id_being_responded_to=message.command.message_id, status=0x0122)
        sock.sendall(command_pdus(message.context_id, answer, 0))
        read_message(upper_layer, LIMITS)
        sock.sendall(RELEASE_RP_PDU)

    with scripted(answer_badly) as port:
        report = echo(destination(port))
    assert report.status == 0x0122
    assert report.failure is not None
    assert report.explanation == "request: Refused: SOP Class not supported (0x0122)"


def test_every_step_of_an_echo_is_timed(listen: Listen) -> None:
    report = echo(DestinationAddress("ATHANOR", "localhost", listen().port, "ME"))
    assert report.is_answered
    assert report.explanation == "answered: Success"
    assert list(report.milliseconds) == [Step.RESOLVE, Step.CONNECT, Step.ASSOCIATE, Step.REQUEST, Step.RELEASE]
    assert all(0 < spent < 5000 for spent in report.milliseconds.values())


def store_until(sock: socket.socket, last: int, then: Callable[[socket.socket], None]) -> None:
    """Answer `last` C-STOREs with Success, read one more, and do what the test says."""
    upper_layer = accept(sock)
    for n in range(last + 1):
        message = read_message(upper_layer, LIMITS)
        assert message is not None
        if n == last:
            then(sock)
            return
        answer = Command(0x8001, message_id_being_responded_to=message.command.message_id, status=0)
        sock.sendall(command_pdus(message.context_id, answer, 0))


def abort(sock: socket.socket) -> None:
    sock.sendall(abort_pdu(AbortReason.NOT_SPECIFIED))
    wait_for_the_end(sock)


def answer_something_else(sock: socket.socket) -> None:
    sock.sendall(command_pdus(1, Command(0x8001, message_id_being_responded_to=999, status=0), 0))
    wait_for_the_end(sock)


def ask_for_release(sock: socket.socket) -> None:
    sock.sendall(RELEASE_RQ_PDU)
    wait_for_the_end(sock)


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (abort, "aborted by the upper layer: no reason given"),
        (lambda sock: None, "the peer closed the transport"),
        (wait_for_the_end, "nothing more arrived in time"),
        (answer_something_else, "the peer answered something else than the request"),
        (ask_for_release, "the peer asked to release the association instead of answering"),
    ],
)
def test_what_ends_at_instance_k_leaves_k_known_one_unknown_and_the_rest_unsent(
    then: Callable[[socket.socket], None], words: str
) -> None:
    with scripted(lambda sock: store_until(sock, 2, then)) as port:
        report = send(destination(port), [MR] * 5, lambda *_: None)
    assert report.failure is not None
    assert (report.failure.step, report.failure.explanation) == (Step.REQUEST, words)
    assert [outcome.is_delivered for outcome in report.outcomes] == [True, True, False, False, False]
    assert report.outcomes[2].explanation == f"no answer, so whether it was stored is unknown: {words}"
    assert report.outcomes[3].explanation == f"not sent: request: {words}"
    assert all(outcome.worth_retrying for outcome in report.outcomes[2:])


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_dcmtk_aborts_at_an_instance(tmp_path: Path, option: str) -> None:
    with storescp(tmp_path, option) as port:
        report = send(destination(port, response_timeout_s=5.0), [MR, MR], lambda *_: None)
    assert report.failure is not None
    assert report.failure.step is Step.REQUEST
    assert not any(outcome.is_delivered for outcome in report.outcomes)


def test_the_whole_transfer_has_a_deadline() -> None:
    def slowly(sock: socket.socket) -> None:
        upper_layer = accept(sock)
        while (message := read_message(upper_layer, LIMITS)) is not None:
            time.sleep(0.1)
            answer = Command(0x8001, message_id_being_responded_to=message.command.message_id, status=0)
            sock.sendall(command_pdus(message.context_id, answer, 0))

    with scripted(slowly) as port:
        began = time.monotonic()
        report = send(destination(port, total_timeout_s=0.7), [MR] * 100, lambda *_: None)
    assert time.monotonic() - began < 3.0
    assert report.failure is not None
    delivered = [outcome.is_delivered for outcome in report.outcomes]
    assert delivered == sorted(delivered, reverse=True)
    assert 0 < sum(delivered) < 10


def test_a_peer_that_stops_reading_is_given_up(tmp_path: Path) -> None:
    big = tmp_path / "big.dcm"
    big.write_bytes(sample("MR_small.dcm").read_bytes() + bytes(40_000_000))

    def stare(sock: socket.socket) -> None:
        accept(sock)
        stared.wait(5)

    stared = threading.Event()
    with scripted(stare) as port:
        report = send(destination(port), [OutgoingInstance.read(big)], lambda *_: None)
        stared.set()
    assert report.failure is not None
    assert report.failure.explanation == "the peer stopped taking data"


def test_a_peer_that_does_not_release_in_order_changes_nothing() -> None:
    def answer_and_leave(sock: socket.socket) -> None:
        store_until(
            sock, 0, lambda s: s.sendall(command_pdus(1, Command(0x8001, message_id_being_responded_to=1, status=0), 0))
        )

    with scripted(answer_and_leave) as port:
        report = send(destination(port), [MR], lambda *_: None)
    assert report.is_delivered
    assert report.failure is None


def test_two_releases_that_cross_are_both_answered() -> None:
    answered = threading.Event()

    def cross(sock: socket.socket) -> None:
        upper_layer = accept(sock)
        message = read_message(upper_layer, LIMITS)
        assert message is not None
        answer = Command(0x8001, message_id_being_responded_to=message.command.message_id, status=0)
        sock.sendall(command_pdus(message.context_id, answer, 0) + RELEASE_RQ_PDU)
        assert read_message(upper_layer, LIMITS) is None
        if upper_layer.read_pdu(time.monotonic() + 2, 4)[0] == 6:
            answered.set()
        sock.sendall(RELEASE_RP_PDU)

    with scripted(cross) as port:
        assert send(destination(port), [MR], lambda *_: None).is_delivered
    assert answered.is_set()


def test_a_certificate_that_nobody_vouches_for(listen: Listen, certificates: Path) -> None:
    port = listen(tls=listening_tls(certificates)).port
    failure = failure_of(destination(port, tls=TlsFiles()))
    assert failure.step is Step.TLS
    assert "certificate is not trusted: self-signed certificate" in failure.explanation
    assert failure.worth_retrying


def test_a_certificate_for_another_name(listen: Listen, certificates: Path) -> None:
    port = listen(tls=listening_tls(certificates)).port
    failure = failure_of(destination(port, tls=calling_tls(certificates), tls_server_name="pacs.example"))
    assert failure.step is Step.TLS
    assert "not made out to pacs.example" in failure.explanation
    assert not failure.worth_retrying


def test_a_peer_that_does_not_speak_tls(listen: Listen, certificates: Path) -> None:
    failure = failure_of(destination(listen().port, tls=calling_tls(certificates)))
    assert failure.step is Step.TLS
    assert "the peer does not speak TLS here" in failure.explanation
    assert not failure.worth_retrying


def test_a_peer_that_wants_a_certificate_of_ours(listen: Listen, certificates: Path) -> None:
    demanding = listening_tls(certificates)
    demanding.verify_mode = ssl.CERT_REQUIRED
    demanding.load_verify_locations(certificates / "certificate.pem")
    port = listen(tls=demanding).port
    report = echo(destination(port, tls=calling_tls(certificates), response_timeout_s=5.0))
    assert report.failure is not None
    assert report.failure.step is Step.TLS


def test_a_stalled_tls_handshake_is_bounded(certificates: Path) -> None:
    with scripted(wait_for_the_end) as port:
        began = time.monotonic()
        failure = failure_of(destination(port, tls=calling_tls(certificates)))
        assert time.monotonic() - began < 3.0
    assert (failure.step, failure.worth_retrying) == (Step.TLS, True)


def test_an_address_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="port 0"):
        DestinationAddress("PACS", "127.0.0.1", 0, "ATHANOR")
    with pytest.raises(ConfigurationError, match="1 to 16 ASCII characters"):
        DestinationAddress("SEVENTEEN LETTERS", "127.0.0.1", 104, "ATHANOR")


def test_nothing_to_send_needs_no_association() -> None:
    report = send(destination(free_port()), [], lambda *_: None)
    assert report.is_delivered
    assert report.associations == 0


def test_a_reset_in_the_middle_still_tells_the_abort() -> None:
    """A peer that aborts while the data set is still on its way."""
    big = [MR] * 1

    def abort_early(sock: socket.socket) -> None:
        accept(sock)
        sock.recv(100)
        sock.sendall(abort_pdu(AbortReason.NOT_SPECIFIED))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    with scripted(abort_early) as port:
        report = send(destination(port), big, lambda *_: None)
    assert report.failure is not None
    assert report.failure.step is Step.REQUEST

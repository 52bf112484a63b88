"""STOW-RS to a server that takes everything, some of it, nothing, or answers nonsense."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fault_stow import FaultStow, Reply, Request
from raw_peer import RawPeer, silent
from small_series import write_small_series

from gateway.network.destination import Step, TransferStopped
from gateway.network.outcomes import SendReport
from gateway.network.outgoing import OutgoingInstance
from gateway.network.pace import Bandwidth
from gateway.network.stow import StowAddress, ask, store
from gateway.network.tls import TlsFiles

Server = Callable[..., FaultStow]


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[OutgoingInstance]:
    paths = write_small_series(tmp_path_factory.mktemp("series"), 1, 5)
    return [OutgoingInstance.read(path) for path in paths]


@pytest.fixture
def serve() -> Iterator[Server]:
    started: list[FaultStow] = []

    def start(answer: Callable[[Request], Reply] = lambda _: Reply()) -> FaultStow:
        started.append(FaultStow(answer).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


def send(
    server: FaultStow | str, instances: Sequence[OutgoingInstance], **address: Any
) -> tuple[SendReport, list[tuple[str, int]]]:
    url = server if isinstance(server, str) else server.url
    answers: list[tuple[str, int]] = []
    report = store(
        StowAddress(url, connect_timeout_s=1.0, response_timeout_s=1.0, **address),
        instances,
        lambda uid, status, _: answers.append((uid, status)),
    )
    assert [outcome.sop_instance_uid for outcome in report.outcomes] == [one.sop_instance_uid for one in instances]
    return report, answers


def uids(instances: Sequence[OutgoingInstance]) -> list[str]:
    return [instance.sop_instance_uid for instance in instances]


def words(report: SendReport) -> str:
    """What is said of every instance alike."""
    (said,) = {outcome.explanation for outcome in report.outcomes}
    return said


def test_everything_arrives_byte_by_byte(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve()
    report, answers = send(server, instances)
    assert report.is_delivered
    assert report.associations == 1
    assert answers == [(uid, 0) for uid in uids(instances)]
    for stored, instance in zip(server.stored, instances, strict=True):
        assert instance.path.read_bytes().endswith(stored.encoded)
        assert len(stored.encoded) > 1000


def test_a_request_holds_no_more_than_a_batch(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve()
    size = instances[0].path.stat().st_size
    report, _ = send(server, instances, batch_bytes=2 * size + 100)
    assert report.is_delivered
    assert [len(request.uids) for request in server.requests] == [2, 2, 1]
    report, _ = send(server, instances, batch_bytes=1)
    assert report.is_delivered
    assert report.associations == 5


def test_too_large_a_request_is_halved_down_to_one_instance(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve(lambda request: Reply() if len(request.uids) == 1 else Reply(413))
    report, _ = send(server, instances)
    assert report.is_delivered
    assert [item.sop_instance_uid for item in server.stored] == uids(instances), "in their order"
    assert [len(request.uids) for request in server.requests] == [5, 2, 1, 1, 3, 1, 2, 1, 1]
    never, _ = send(serve(lambda _: Reply(413)), instances[:1])
    assert (words(never), never.outcomes[0].worth_retrying) == ("HTTP 413 Request Entity Too Large", False)


def test_each_instance_has_its_own_end(serve: Server, instances: list[OutgoingInstance]) -> None:
    first, second, third, fourth, fifth = uids(instances)
    server = serve(
        lambda _: Reply(
            202, failed={second: 0xA700, third: 0xC122}, warned={fourth: 0xB000}, forgets=frozenset({fifth})
        )
    )
    report, answers = send(server, instances)
    assert report.failure is None
    found = [(o.status, o.is_delivered, o.worth_retrying, o.explanation) for o in report.outcomes]
    assert found == [
        (0x0000, True, False, "Success (0x0000)"),
        (0xA700, False, True, "Refused: out of resources (0xA700)"),
        (0xC122, False, False, "Failure: transfer syntax not supported (0xC122)"),
        (0xB000, True, False, "Warning: stored, with coercion of data elements (0xB000)"),
        (None, False, True, "HTTP 202 Accepted, and the answer does not name it"),
    ]
    assert answers == [(first, 0), (second, 0xA700), (third, 0xC122), (fourth, 0xB000)]


def test_what_is_there_already_is_delivered(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve(lambda request: Reply(409, failed=dict.fromkeys(request.uids, 0x0111)))
    report, _ = send(server, instances)
    assert report.is_delivered


def test_nothing_taken_says_why(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve(lambda request: Reply(409, failed=dict.fromkeys(request.uids, 0xA900)))
    report, _ = send(server, instances)
    assert words(report) == "Failure: data set does not match the SOP Class (0xA900)"
    assert not any(outcome.worth_retrying for outcome in report.outcomes)


@pytest.mark.parametrize(
    ("reply", "said", "retry"),
    [
        (Reply(400), "HTTP 400 Bad Request, and the answer does not name it", False),
        (Reply(409), "HTTP 409 Conflict, and the answer does not name it", False),
        (Reply(415), "HTTP 415 Unsupported Media Type", False),
        (Reply(401), "HTTP 401 Unauthorized; does token_file hold the right token", True),
        (Reply(403), "HTTP 403 Forbidden; does token_file hold the right token", True),
        (Reply(404), "HTTP 404 Not Found; is stow_url the base of its store service?", True),
        (Reply(429, headers={"Retry-After": "7"}), "HTTP 429 Too Many Requests, to be asked again in 7 s", True),
        (Reply(503, headers={"Retry-After": "soon"}), "HTTP 503 Service Unavailable", True),
        (Reply(500), "HTTP 500 Internal Server Error", True),
        (Reply(799), "HTTP 799", True),
        (
            Reply(307, headers={"Location": "https://elsewhere/studies?key=secret"}),
            "HTTP 307 Temporary Redirect to https://elsewhere/studies; redirects are not followed",
            True,
        ),
    ],
    ids=lambda value: str(value.code) if isinstance(value, Reply) else "",
)
def test_an_answer_about_the_request_is_decoded(
    serve: Server, instances: list[OutgoingInstance], reply: Reply, said: str, retry: bool
) -> None:
    server = serve(lambda _: reply)
    report, answers = send(server, instances, batch_bytes=1)
    assert said in report.outcomes[0].explanation
    assert "secret" not in report.outcomes[0].explanation
    assert {outcome.worth_retrying for outcome in report.outcomes} == {retry}
    assert answers == []
    assert len(server.requests) == (1 if retry else 5), "what keeps the server from answering is not asked again"
    assert (report.failure.retry_after_s if report.failure else 0) == (7 if reply.code == 429 else 0)


DEEP = b'[{"00081199":' * 2000


@pytest.mark.parametrize(
    "body",
    [
        b"", b"OK", b"\xff\xfe", b"[]", b"{}", b"[1, 2]", b'{"00081199": 5}', b'{"00081199": {"Value": [1, null]}}',
        b'{"00081199": {"Value": [{"00081155": {"Value": {}}}]}}', DEEP, b"<html><body>Thank you</body>", b"<a/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel>&b;</NativeDicomModel>',
    ],
    ids=range(13),
)  # fmt: skip
def test_an_answer_that_is_none_means_that_nothing_was_accepted(
    serve: Server, instances: list[OutgoingInstance], body: bytes
) -> None:
    report, answers = send(serve(lambda _: Reply(200, body=body)), instances)
    assert words(report) == "HTTP 200 OK, and the answer does not name it"
    assert (report.is_outage, answers) == (True, [])


def test_an_answer_in_xml_is_read(serve: Server, instances: list[OutgoingInstance]) -> None:
    def item(uid: str, tag: str, reason: int) -> str:
        return (
            f'<Item number="1"><DicomAttribute tag="00081155" vr="UI"><Value number="1">{uid}</Value></DicomAttribute>'
            f'<DicomAttribute tag="{tag}" vr="US"><Value number="1">{reason}</Value></DicomAttribute></Item>'
        )

    first, second = uids(instances)[:2]
    body = (
        '<?xml version="1.0"?><NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
        f'<DicomAttribute tag="00081199" vr="SQ">{item(first, "00081196", 0xB006)}</DicomAttribute>'
        f'<DicomAttribute tag="00081198" vr="SQ">{item(second, "00081197", 0x0110)}</DicomAttribute></NativeDicomModel>'
    )
    report, _ = send(serve(lambda _: Reply(202, body=body.encode())), instances[:2])
    assert [outcome.status for outcome in report.outcomes] == [0xB006, 0x0110]


def test_a_list_of_one_data_set_is_read(serve: Server, instances: list[OutgoingInstance]) -> None:
    body = json.dumps([{"00081199": {"vr": "SQ", "Value": [{"00081155": {"Value": [uids(instances)[0]]}}]}}])
    report, _ = send(serve(lambda _: Reply(200, body=body.encode())), instances[:1])
    assert report.is_delivered


def test_an_answer_without_end_is_cut_off(serve: Server, instances: list[OutgoingInstance]) -> None:
    report, _ = send(serve(lambda _: Reply(200, body=bytes(1_000_000))), instances)
    assert "an answer of more than " in words(report)


def failed_at(behave: Any, instances: list[OutgoingInstance], **address: Any) -> tuple[Step, str]:
    with RawPeer(behave) as peer:
        report, _ = send(f"http://127.0.0.1:{peer.port}", instances, **address)
    assert report.failure is not None
    assert report.is_outage
    return report.failure.step, report.failure.explanation


def test_a_server_that_says_nothing(instances: list[OutgoingInstance]) -> None:
    assert failed_at(silent, instances) == (Step.REQUEST, "no answer in time")


def test_a_server_that_answers_one_byte_at_a_time(instances: list[OutgoingInstance]) -> None:
    def behave(sock: socket.socket, over: threading.Event) -> None:
        sock.recv(1 << 20)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-More: less\r\n" * 1000:
            if over.wait(0.2):
                return
            sock.sendall(bytes([byte]))

    began = time.monotonic()
    assert failed_at(behave, instances) == (Step.REQUEST, "no answer in time")
    assert time.monotonic() - began < 10


def test_a_server_that_hangs_up(instances: list[OutgoingInstance]) -> None:
    step, said = failed_at(lambda sock, _: sock.close(), instances)
    assert step is Step.REQUEST
    assert "closed" in said or "reset" in said or "broken pipe" in said


def test_a_server_that_is_not_there(instances: list[OutgoingInstance]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    report, _ = send(f"http://127.0.0.1:{port}", instances)
    assert str(report.failure) == f"transport connection: 127.0.0.1:{port}: connection refused"
    nowhere, _ = send("http://no-such-host.invalid", instances)
    assert nowhere.failure is not None
    assert nowhere.failure.step is Step.RESOLVE


def test_a_server_that_does_not_speak_tls(serve: Server, instances: list[OutgoingInstance]) -> None:
    report, _ = send(serve().url.replace("http:", "https:"), instances)
    assert report.failure is not None
    assert report.failure.step is Step.TLS


def test_tls_with_certificates_on_both_sides(tmp_path: Path, instances: list[OutgoingInstance], serve: Server) -> None:
    ours, theirs = (make_certificate(tmp_path / name) for name in ("ours", "theirs"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs[0], theirs[1])
    context.load_verify_locations(ours[0])
    context.verify_mode = ssl.CERT_REQUIRED
    server = serve()
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    report, _ = send(url, instances, tls=TlsFiles(ours[0], ours[1], theirs[0]), tls_server_name="stow.example")
    assert report.is_delivered, report.failure
    other_name, _ = send(url, instances, tls=TlsFiles(ours[0], ours[1], theirs[0]))
    assert str(other_name.failure).startswith("TLS handshake: the peer's certificate is not made out to 127.0.0.1")
    untrusted, _ = send(url, instances, tls=TlsFiles(ours[0], ours[1], ours[0]), tls_server_name="stow.example")
    assert str(untrusted.failure).startswith("TLS handshake: the peer's certificate is not trusted")
    anonymous, _ = send(url, instances, tls=TlsFiles(ca=theirs[0]), tls_server_name="stow.example")
    assert anonymous.failure is not None
    assert not anonymous.is_delivered


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate made out to stow.example, signed by itself, and its key."""
    folder.mkdir()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=stow.example", "-addext", "subjectAltName=DNS:stow.example", "-keyout", key,
         "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_the_token_of_the_file_is_sent_and_a_redirect_does_not_get_it(
    serve: Server, instances: list[OutgoingInstance], tmp_path: Path
) -> None:
    elsewhere = serve()
    server = serve(lambda _: Reply(308, headers={"Location": f"{elsewhere.url}/studies"}))
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    send(server, instances, token_file=token)
    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert elsewhere.requests == []
    report, _ = send(server, instances, token_file=tmp_path / "none")
    assert str(report.failure) == f"request: token_file {tmp_path / 'none'} cannot be read"
    token.write_text("a\r\nX-Evil: b")
    report, _ = send(server, instances, token_file=token)
    assert str(report.failure) == f"request: token_file {token} holds more than one line"


def test_who_lost_the_delivery_stops_in_the_middle(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve()

    def pace(count: int) -> None:
        if count:
            raise TransferStopped("cancelled")

    with pytest.raises(TransferStopped):
        store(StowAddress(server.url, response_timeout_s=1.0), instances, lambda *_: None, pace)
    assert server.stored == []


def test_the_bandwidth_is_kept_by_all_transfers_together(serve: Server, instances: list[OutgoingInstance]) -> None:
    server = serve()
    total = sum(instance.path.stat().st_size for instance in instances)
    bandwidth = Bandwidth(2 * total)  # two of three transfers have to wait half a second each
    reports: list[SendReport] = []

    def transfer() -> None:
        reports.append(store(StowAddress(server.url), instances, lambda *_: None, bandwidth.take))

    threads = [threading.Thread(target=transfer) for _ in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(report.is_delivered for report in reports)
    assert time.monotonic() - began > 1.2


def test_asking_says_whether_it_is_there_and_lets_us_in(serve: Server) -> None:
    assert ask(StowAddress(serve().url)).is_answered
    assert ask(StowAddress(serve(lambda _: Reply(404)).url)).is_answered, "few servers know OPTIONS"
    refused = ask(StowAddress(serve(lambda _: Reply(401)).url))
    assert refused.explanation.startswith("request: HTTP 401 Unauthorized")
    with RawPeer(silent) as peer:
        unanswered = ask(StowAddress(f"http://127.0.0.1:{peer.port}", response_timeout_s=0.3, connect_timeout_s=0.3))
    assert unanswered.explanation == "request: no answer in time"

"""Starting, stopping and TLS of the Storage SCP."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from network_peers import (
    Connect,
    Listen,
    Recorder,
    Stored,
    calling_tls,
    echoscu,
    listening_tls,
    sample,
    storescu,
)

from gateway.errors import ConfigurationError
from gateway.network.receiver import StoreAnswer
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.scp import listen as bind
from gateway.network.scu import DestinationAddress, OutgoingInstance, Step, echo, send


def test_an_address_in_use_is_said_before_anything_starts(listen: Listen, recorder: Recorder) -> None:
    taken = listen().port
    with pytest.raises(ConfigurationError, match=f"port {taken}: Address already in use"):
        StorageScp(ScpConfig("ATHANOR", port=taken), recorder).start()


def test_connections_wait_while_nobody_accepts_them() -> None:
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 500:
        pytest.skip("the system lets no more wait: net.core.somaxconn")
    with ExitStack() as held:
        listener = held.enter_context(bind(ScpConfig("ATHANOR", port=0)))
        for _ in range(400):  # one that does not fit asks again after a second
            held.enter_context(socket.create_connection(listener.getsockname(), timeout=0.9))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ae_title": ""}, "AE title ''"),
        ({"ae_title": "SEVENTEEN LETTERS"}, "1 to 16 characters"),
        ({"max_pdu_bytes": 100}, "max_pdu_bytes is 100; at least 4096"),
        ({"acse_timeout_s": 0}, "acse_timeout_s is 0; more than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ScpConfig(**{"ae_title": "ATHANOR", **settings})  # type: ignore[arg-type]


def test_stopping_lets_an_association_finish(listen: Listen, recorder: Recorder) -> None:
    scp = listen()
    busy, go_on = threading.Event(), threading.Event()

    def hold(_: Stored) -> StoreAnswer:
        busy.set()
        go_on.wait(10)
        return StoreAnswer(0)

    recorder.answer = hold
    port = scp.port
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(storescu, port, sample("CT_small.dcm"))
        assert busy.wait(10)
        stopping = pool.submit(scp.stop, 10.0)
        until = time.monotonic() + 5
        while echoscu(port).returncode == 0:  # the door is closed while the association goes on
            assert time.monotonic() < until
        go_on.set()
        stopping.result(10)
        assert sending.result().returncode == 0
    assert recorder.ended[0][1] == "released"


def test_stopping_aborts_what_does_not_finish(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    scp = listen()
    idle = raw_peer(scp.port)
    idle.associate()
    waiting = raw_peer(scp.port)
    began = time.monotonic()
    scp.stop(0.3)
    assert 0.3 <= time.monotonic() - began < 3.0
    assert idle.read_pdu() == (7, bytes(4))
    assert waiting.is_closed()
    assert recorder.ended[0][1] == "aborted"


def test_stopping_twice_or_before_the_start_does_nothing(recorder: Recorder) -> None:
    scp = StorageScp(ScpConfig("ATHANOR", port=0), recorder)
    scp.stop(0.0)
    scp.stop(0.0)


def test_accepted_sockets_send_without_delay(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    instance = OutgoingInstance.read(sample("MR_small.dcm"))
    destination = DestinationAddress("ATHANOR", "127.0.0.1", listen().port, "SENDER")
    report = send(destination, [instance] * 50, lambda *_: None)
    assert report.is_delivered
    # with Nagle's algorithm on either side each C-STORE waits 40 ms for a delayed acknowledgement: 2 s
    assert report.seconds < 1.5


def test_over_tls_objects_arrive_and_a_c_echo_is_answered(
    listen: Listen, recorder: Recorder, certificates: Path
) -> None:
    scp = listen(tls=listening_tls(certificates))
    secure = (
        "+tls",
        certificates / "key.pem",
        certificates / "certificate.pem",
        "+cf",
        certificates / "certificate.pem",
    )
    assert echoscu(scp.port, *secure).returncode == 0
    sent = storescu(scp.port, *secure, sample("CT_small.dcm"))
    assert sent.returncode == 0, sent.stderr
    destination = DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "SENDER", tls=calling_tls(certificates))
    assert echo(destination).is_answered
    report = send(destination, [OutgoingInstance.read(sample("MR_small.dcm"))], lambda *_: None)
    assert report.is_delivered, report
    assert len(recorder.stored) == 2


def test_a_large_instance_over_tls_does_not_stall(
    listen: Listen, recorder: Recorder, certificates: Path, tmp_path: Path
) -> None:
    # TLS records hold back bytes that no select() sees
    import pydicom

    ds = pydicom.dcmread(sample("MR_small.dcm"))
    ds.Rows = ds.Columns = 1024
    ds.PixelData = bytes(range(256)) * (1024 * 1024 * 2 // 256)
    path = tmp_path / "large.dcm"
    ds.save_as(path)
    scp = listen(tls=listening_tls(certificates))
    destination = DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "SENDER", tls=calling_tls(certificates))
    report = send(destination, [OutgoingInstance.read(path)], lambda *_: None)
    assert report.is_delivered
    assert ds.PixelData in recorder.stored[0].encoded


def test_plain_and_silent_peers_do_not_hold_up_a_tls_listener(
    listen: Listen, raw_peer: Connect, certificates: Path
) -> None:
    scp = listen(tls=listening_tls(certificates), acse_timeout_s=1.0, max_associations=2)
    silent = [raw_peer(scp.port) for _ in range(10)]
    plain = echo(DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "PLAIN", response_timeout_s=5.0))
    assert plain.failure is not None
    assert plain.failure.step is Step.ASSOCIATE
    began = time.monotonic()
    secure = DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "SENDER", tls=calling_tls(certificates))
    assert echo(secure).is_answered
    assert time.monotonic() - began < 1.0
    assert all(peer.is_closed() for peer in silent)
    assert time.monotonic() - began < 4.0


def test_one_listener_takes_both_families_and_knows_the_peer_by_its_plain_address(
    listen: Listen, recorder: Recorder
) -> None:
    scp = listen(address="::", peers={"*": ("127.0.0.0/8", "::1")})
    for host in ("::1", "127.0.0.1"):
        assert echo(DestinationAddress("ATHANOR", host, scp.port, "SENDER")).is_answered
    assert [info.address for info in recorder.opened] == ["::1", "127.0.0.1"]


def test_an_ipv6_address_can_be_listened_on_alone(listen: Listen) -> None:
    scp = listen(address="::1")
    assert echo(DestinationAddress("ATHANOR", "::1", scp.port, "SENDER")).is_answered
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", scp.port), 2)

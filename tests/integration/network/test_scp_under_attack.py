"""Hostile sockets against the listener, while a real peer's C-ECHO is answered within a second."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from network_peers import Connect, Listen, RawPeer, Recorder, echoscu, store_command

from gateway.network.scu import DestinationAddress, echo
from gateway.network.upper_layer import data_pdu

LIMITS = {"max_associations": 5, "acse_timeout_s": 1.0, "dimse_timeout_s": 1.0, "network_timeout_s": 3.0}


def assert_served(port: int) -> None:
    """A real peer at the same address is answered within a second."""
    began = time.monotonic()
    report = echo(DestinationAddress("ATHANOR", "127.0.0.1", port, "REAL"))
    assert report.is_answered, report.explanation
    assert time.monotonic() - began < 1.0


def association_threads() -> int:
    return sum(thread.name.startswith("association-") for thread in threading.enumerate())


@contextmanager
def dripping(peers: list[RawPeer], byte: bytes = b"\x00") -> Iterator[None]:
    """Every peer sends one byte every tenth of a second."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):
            for peer in peers:
                try:
                    peer.send(byte)
                except OSError:
                    continue

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_idle_transport_connections_take_no_association_place(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(**LIMITS, max_waiting_per_address=200)
    idle = [raw_peer(scp.port) for _ in range(20)]
    assert_served(scp.port)
    assert echoscu(scp.port).returncode == 0
    began = time.monotonic()
    assert all(peer.is_closed() for peer in idle)
    assert time.monotonic() - began < 5.0


def test_a_flood_of_idle_connections_leaves_few_threads_and_a_free_door(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(**{**LIMITS, "acse_timeout_s": 60.0})
    flood = [raw_peer(scp.port) for _ in range(200)]
    assert_served(scp.port)
    assert association_threads() <= 20
    assert sum(peer.is_closed() for peer in flood[:150]) == 150


def test_a_slow_request_ends_at_its_absolute_deadline(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(**LIMITS, max_waiting_per_address=200)
    slow = [raw_peer(scp.port) for _ in range(20)]
    for peer in slow:
        peer.send(struct.pack(">BxL", 1, 1000))
    began = time.monotonic()
    with dripping(slow):
        assert_served(scp.port)
        # they are aborted, not answered, and none outlives the deadline by much
        assert {peer.read_pdu()[0] for peer in slow} <= {7, 0}
        assert time.monotonic() - began < 3.0
        assert_served(scp.port)


def test_a_giant_pdu_is_refused_by_its_header(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(**LIMITS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for associated in (False, True):
        peer = raw_peer(scp.port)
        if associated:
            peer.associate()
        peer.send(struct.pack(">BxL", 4 if associated else 1, 0xFFFFFFFF))
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            peer.pump(bytes(1_000_000), times=300)
        assert_served(scp.port)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_an_endless_message_is_cut_at_its_limit(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    scp = listen(**{**LIMITS, "dimse_timeout_s": 20.0}, max_instance_bytes=5_000_000)
    peer = raw_peer(scp.port)
    peer.associate()
    peer.send(store_command())
    fragment = data_pdu(1, bytes(16_000), is_command=False, is_last=False)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        peer.pump(fragment, times=20_000)
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.stored == []
    assert_served(scp.port)


def test_a_message_of_tiny_fragments_ends_in_time(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    scp = listen(**LIMITS)
    peers = [raw_peer(scp.port) for _ in range(3)]
    for peer in peers:
        peer.associate()
        peer.send(store_command())
    began = time.monotonic()
    with dripping(peers, data_pdu(1, b"x", is_command=False, is_last=False)):
        assert_served(scp.port)
        recorder.wait_until(lambda r: sum(how == "aborted" for _, how in r.ended) == 3)
    assert time.monotonic() - began < 4.0


def test_a_silent_association_ends_and_gives_its_place_back(
    listen: Listen, raw_peer: Connect, recorder: Recorder
) -> None:
    scp = listen(**{**LIMITS, "max_associations": 2, "network_timeout_s": 0.5})
    silent = [raw_peer(scp.port) for _ in range(2)]
    for peer in silent:
        peer.associate()
    assert not echo(DestinationAddress("ATHANOR", "127.0.0.1", scp.port, "REAL")).is_answered
    recorder.wait_until(lambda r: len(r.ended) == 2)
    assert [peer.read_pdu()[0] for peer in silent] == [7, 7]
    assert_served(scp.port)


def test_one_address_cannot_take_all_associations(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(address="::", max_associations=10, max_associations_per_address=3)
    for _ in range(3):
        raw_peer(scp.port, "::1").associate()
    assert_served(scp.port)
    report = echo(DestinationAddress("ATHANOR", "::1", scp.port, "REAL"))
    assert "local limit exceeded" in report.explanation
    assert report.failure is not None
    assert report.failure.worth_retrying


def test_a_peer_that_reads_no_answers_is_given_up(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    scp = listen(**LIMITS)
    peer = raw_peer(scp.port)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.associate()
    peer.sock.settimeout(0.5)
    # every answer repeats the UID, so that the socket's buffer is soon full
    message = store_command("1" * 10_000) + data_pdu(1, b"ab", is_command=False, is_last=True)
    with pytest.raises(OSError):  # noqa: PT011 - it times out or breaks, depending on who is first
        peer.pump(message, times=100_000)
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.ended[0][1] == "aborted"
    assert_served(scp.port)


def test_deeply_nested_bytes_are_only_bytes(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    nested = bytes.fromhex("0800 1111 5351 0000 ffffffff feff 00e0 ffffffff") * 20_000
    peer = raw_peer(listen(**LIMITS).port)
    peer.associate()
    pieces = [nested[i : i + 65_536] for i in range(0, len(nested), 65_536)]
    peer.send(store_command(), *(data_pdu(1, p, is_command=False, is_last=p is pieces[-1]) for p in pieces))
    assert peer.read_pdu()[0] == 4
    assert recorder.stored[0].encoded == nested


def test_garbage_leaves_nothing_behind(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(**LIMITS)
    for seed in range(30):
        peer = raw_peer(scp.port)
        peer.send(bytes((seed * n * 7919) % 251 for n in range(1, 400)))
        peer.close()
    assert_served(scp.port)
    until = time.monotonic() + 5
    while association_threads() and time.monotonic() < until:
        time.sleep(0.02)
    assert association_threads() == 0

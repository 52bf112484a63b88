"""The limits of the listener, whom it refuses, and what it makes of odd requests. Attacks: tests/faults."""

from __future__ import annotations

import socket
import struct
import time

import pytest
from network_peers import Connect, Listen, Recorder, store_command
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from gateway.domain.refusal import Reason, Refusal
from gateway.network.negotiation import ProposedContext, request_pdu
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.scu import DestinationAddress, echo
from gateway.network.upper_layer import data_pdu

LIMITS = {"max_associations": 5, "acse_timeout_s": 1.0, "dimse_timeout_s": 1.0, "network_timeout_s": 3.0}
PRIVATE = "1.2.826.0.1.3680043.2.1143.107.104.103.1"
MR = (ProposedContext(MRImageStorage, ExplicitVRLittleEndian),)


def assert_served(port: int) -> None:
    """A real peer at the same address is answered within a second."""
    began = time.monotonic()
    report = echo(DestinationAddress("ATHANOR", "127.0.0.1", port, "REAL"))
    assert report.is_answered, report.explanation
    assert time.monotonic() - began < 1.0


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


def test_one_ae_title_cannot_take_all_associations(listen: Listen, raw_peer: Connect) -> None:
    scp = listen(max_associations=10, max_associations_per_peer=2)
    for _ in range(2):
        raw_peer(scp.port).associate()  # as RAW
    third = raw_peer(scp.port)
    third.send(request_pdu("RAW", "ATHANOR", MR, 16384))
    assert third.read_pdu() == (3, bytes((0, 2, 3, 2)))
    assert_served(scp.port)


def test_ae_titles_padded_with_nul_are_the_same_titles(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    scp = listen(peers={"SCANNER": ("*",)})
    pdu = bytearray(request_pdu("SCANNER", "ATHANOR", MR, 16384))
    pdu[10:26], pdu[26:42] = b"ATHANOR".ljust(16, b"\0"), b"SCANNER".ljust(16, b"\0")
    peer = raw_peer(scp.port)
    peer.send(bytes(pdu))
    assert peer.read_pdu()[0] == 2
    recorder.wait_until(lambda r: bool(r.opened))
    assert recorder.opened[0].calling_ae_title == "SCANNER"


@pytest.mark.parametrize("asked", [(0, 0), (8, 8), (1, 1)])
def test_one_operation_at_a_time_is_the_answer_to_any_window(
    listen: Listen, raw_peer: Connect, asked: tuple[int, int]
) -> None:
    pdu = request_pdu("RAW", "ATHANOR", MR, 16384)
    item = struct.pack(">BxHHH", 0x53, 4, *asked)  # PS3.7 D.3.3.3
    at = pdu.rindex(b"\x50\x00", 0, pdu.index(struct.pack(">BxH", 0x51, 4)))
    (length,) = struct.unpack_from(">H", pdu, at + 2)
    longer = pdu[: at + 2] + struct.pack(">H", length + len(item)) + pdu[at + 4 :] + item
    peer = raw_peer(listen().port)
    peer.send(longer[:2] + struct.pack(">L", len(longer) - 6) + longer[6:])
    kind, answer = peer.read_pdu()
    assert kind == 2
    assert struct.pack(">BxHHH", 0x53, 4, 1, 1) in answer


def test_a_private_sop_class_is_stored_where_the_settings_name_it(
    listen: Listen, raw_peer: Connect, recorder: Recorder
) -> None:
    proposed = (ProposedContext(PRIVATE, ExplicitVRLittleEndian),)
    refused, accepted = raw_peer(listen().port), raw_peer(listen(private_sop_classes=(PRIVATE,)).port)
    results = []
    for peer in (refused, accepted):
        peer.send(request_pdu("RAW", "ATHANOR", proposed, 16384))
        _, answer = peer.read_pdu()
        results.append(answer[answer.index(b"\x21\x00") + 6])
    assert results == [3, 0], "abstract syntax not supported, acceptance (PS3.8 9.3.3.2)"
    accepted.send(store_command(affected_sop_class_uid=PRIVATE), data_pdu(1, b"ab", is_command=False, is_last=True))
    recorder.wait_until(lambda r: bool(r.stored))
    assert recorder.stored[0].sop_class_uid == PRIVATE


def test_everybody_who_was_refused_is_told_of(raw_peer: Connect, recorder: Recorder) -> None:
    told: set[Refusal] = set()
    peers = {"MR1": ("127.0.0.1",), "CT1": ("192.0.2.1",)}
    config = ScpConfig(ae_title="ATHANOR", port=0, peers=peers, acse_timeout_s=0.3, max_waiting_per_address=1)
    with StorageScp(config, recorder, refused=told.add) as scp:
        for calling, called in (("CT1", "ATHANOR"), ("MR1", "OTHER")):
            peer = raw_peer(scp.port)
            peer.send(request_pdu(calling, called, MR, 16384))
            assert peer.read_pdu()[0] == 3
        http = raw_peer(scp.port)
        http.send(b"GET / HTTP/1.1\r\n\r\n")
        assert http.read_pdu()[0] == 7
        idle = raw_peer(scp.port), raw_peer(scp.port)
        assert all(peer.is_closed() for peer in idle)
        hostile = raw_peer(scp.port)
        hostile.sock.sendall(request_pdu("MR1", "ATHANOR", MR, 16384))
        assert hostile.read_pdu()[0] == 2
        hostile.send(store_command("../x"), data_pdu(1, b"ab", is_command=False, is_last=True))
        assert hostile.read_pdu()[0] == 4
    here = "127.0.0.1"
    assert told == {
        Refusal(here, "CT1", "ATHANOR", Reason.CALLING_AE_TITLE),
        Refusal(here, "MR1", "OTHER", Reason.CALLED_AE_TITLE),
        Refusal(here, "", "", Reason.NO_REQUEST),
        Refusal(here, "", "", Reason.TOO_MANY_WAIT),
        Refusal(here, "", "", Reason.TOO_SLOW),
        Refusal(here, "MR1", "ATHANOR", Reason.INVALID_UID),
    }

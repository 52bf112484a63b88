"""What PS3.7 and PS3.8 say about each thing that a peer can send, said with raw bytes."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable

import pytest
from network_peers import Connect, Listen, RawPeer, Recorder, store_command
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from gateway.network.contexts import VERIFICATION
from gateway.network.dimse import NO_DATA_SET, Command, decode_command, encode_command
from gateway.network.negotiation import ProposedContext, request_pdu
from gateway.network.receiver import StoreAnswer
from gateway.network.upper_layer import RELEASE_RP_PDU, RELEASE_RQ_PDU, data_pdu

MR = ProposedContext(MRImageStorage, ExplicitVRLittleEndian)
ECHO = ProposedContext(VERIFICATION, ImplicitVRLittleEndian)
P_DATA, RELEASE_RP, ABORT, REJECT = 4, 6, 7, 3
BY_APPLICATION, BY_UPPER_LAYER = 0, 2
NOTHING, UNRECOGNISED, UNEXPECTED, INVALID = 0, 1, 2, 6


def data(value: bytes, *, last: bool = True, context_id: int = 1) -> bytes:
    return data_pdu(context_id, value, is_command=False, is_last=last)


def command(context_id: int, **fields: object) -> bytes:
    encoded = encode_command(Command(**fields))  # type: ignore[arg-type]
    return data_pdu(context_id, encoded, is_command=True, is_last=True)


def echo_command(context_id: int = 1, **changes: object) -> bytes:
    fields: dict[str, object] = {"command_field": 0x30, "message_id": 3, "affected_sop_class_uid": str(VERIFICATION)}
    return command(context_id, **{**fields, **changes})


def response(peer: RawPeer) -> Command:
    kind, content = peer.read_pdu()
    assert kind == P_DATA
    length, _, control = struct.unpack(">LBB", content[:6])
    assert (length, control) == (len(content) - 4, 3)
    return decode_command(content[6:])


def abort_of(peer: RawPeer) -> tuple[int, int]:
    kind, content = peer.read_pdu()
    assert kind == ABORT
    assert peer.is_closed()
    peer.close()
    return content[2], content[3]


@pytest.fixture
def peer(listen: Listen, raw_peer: Connect) -> RawPeer:
    """A raw peer with an association that has an MR and a Verification context."""
    connected = raw_peer(listen().port)
    connected.associate([MR, ECHO])
    return connected


def test_c_store_is_answered_with_status_and_uids(peer: RawPeer, recorder: Recorder) -> None:
    recorder.answer = lambda _: StoreAnswer(0xA700, "the spool is full, " * 10)
    peer.send(store_command("1.2.3.4", message_id=77), data(b"abcd"))
    answer = response(peer)
    assert answer.command_field == 0x8001
    assert answer.message_id_being_responded_to == 77
    assert answer.command_data_set_type == NO_DATA_SET
    assert answer.status == 0xA700
    assert answer.affected_sop_class_uid == str(MRImageStorage)
    assert answer.affected_sop_instance_uid == "1.2.3.4"
    assert answer.error_comment is not None
    assert len(answer.error_comment) == 64
    (request,) = recorder.stored
    assert (request.encoded, request.message_id) == (b"abcd", 77)
    assert request.transfer_syntax_uid == ExplicitVRLittleEndian


def test_the_originator_of_a_move_is_handed_on(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(move_originator_ae_title="WORKSTATION", move_originator_message_id=5), data(b"ab"))
    assert response(peer).status == 0
    (request,) = recorder.stored
    assert (request.move_originator_ae_title, request.move_originator_message_id) == ("WORKSTATION", 5)


def test_many_messages_in_one_transmission_are_answered_in_order(peer: RawPeer, recorder: Recorder) -> None:
    sent = [store_command(f"1.2.{n}", message_id=n) + data(b"%04d" % n) for n in range(1, 21)]
    peer.send(*sent)
    answers = [response(peer) for _ in sent]
    assert [answer.message_id_being_responded_to for answer in answers] == list(range(1, 21))
    assert [request.encoded for request in recorder.stored] == [b"%04d" % n for n in range(1, 21)]


def test_c_echo_is_answered_between_c_stores(peer: RawPeer) -> None:
    peer.send(store_command(), data(b"ab"), echo_command(3), store_command(), data(b"ab"))
    assert [response(peer).command_field for _ in range(3)] == [0x8001, 0x8030, 0x8001]


def test_release_is_answered_and_the_transport_left_to_the_peer(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(), data(b"ab"), RELEASE_RQ_PDU)
    assert response(peer).status == 0
    assert peer.read_pdu() == (RELEASE_RP, bytes(4))
    peer.close()
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.ended[0][1] == "released"


def test_release_inside_a_message_drops_the_message(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(), data(b"ab", last=False), RELEASE_RQ_PDU)
    assert peer.read_pdu()[0] == RELEASE_RP
    peer.close()
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.stored == []


def test_abort_inside_a_message_drops_the_message(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(), data(b"ab", last=False), bytes.fromhex("0700 00000004 00000000"))
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.stored == []
    assert recorder.ended[0][1] == "aborted"
    assert peer.is_closed()


def test_a_vanished_peer_ends_the_association(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(), data(b"ab", last=False))
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
    peer.close()
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.ended[0][1] == "aborted"
    assert recorder.stored == []


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(bytes.fromhex("0900 00000004 00000000"), UNRECOGNISED, id="unknown PDU"),
        pytest.param(request_pdu("A", "B", [MR], 16384), UNEXPECTED, id="second A-ASSOCIATE-RQ"),
        pytest.param(RELEASE_RP_PDU, UNEXPECTED, id="A-RELEASE-RP"),
        pytest.param(data(b"ab"), INVALID, id="data set without a command"),
        pytest.param(store_command() + store_command(), INVALID, id="command instead of a data set"),
        pytest.param(store_command() + data(b"ab", context_id=3), INVALID, id="context changes inside a message"),
        pytest.param(echo_command(9), INVALID, id="context that was not accepted"),
        pytest.param(echo_command(3, message_id=None), INVALID, id="request without Message ID"),
        pytest.param(echo_command(3, command_field=0x8030, status=0), INVALID, id="response without a request"),
        pytest.param(data_pdu(1, b"nonsense", is_command=True, is_last=True), INVALID, id="no command set"),
        pytest.param(bytes.fromhex("0400 00000000"), INVALID, id="empty P-DATA-TF"),
        pytest.param(bytes.fromhex("0400 00100000"), NOTHING, id="P-DATA-TF longer than agreed"),
    ],
)
def test_what_does_not_belong_here_aborts_the_association(
    peer: RawPeer, recorder: Recorder, sent: bytes, reason: int
) -> None:
    peer.send(sent)
    assert abort_of(peer) == (BY_UPPER_LAYER, reason)
    recorder.wait_until(lambda r: bool(r.ended))
    assert recorder.ended[0][1] == "aborted"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(bytes.fromhex("0400 00000006 0000000203 03"), id="P-DATA-TF"),
        pytest.param(RELEASE_RQ_PDU, id="A-RELEASE-RQ"),
        pytest.param(bytes.fromhex("0900 00000004 00000000"), id="unknown PDU"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP"),
        pytest.param(b"\x01\x00\x00\x00\x00\x04abcd", id="malformed A-ASSOCIATE-RQ"),
        pytest.param(b"\x01\x00\x7f\xff\xff\xff", id="A-ASSOCIATE-RQ of 2 GB"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS hello"),
    ],
)
def test_what_is_no_association_request_is_aborted(
    listen: Listen, raw_peer: Connect, recorder: Recorder, first: bytes
) -> None:
    stranger = raw_peer(listen().port)
    stranger.send(first)
    assert abort_of(stranger) == (BY_APPLICATION, NOTHING)
    assert recorder.opened == []


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        pytest.param(lambda rq: rq[:6] + b"\x00\x02" + rq[8:], b"\x00\x01\x02\x02", id="protocol version"),
        pytest.param(lambda rq: rq.replace(b"3.1.1.1", b"3.1.1.9"), b"\x00\x01\x01\x02", id="application context"),
        pytest.param(lambda rq: rq.replace(b"ATHANOR ", b"OTHER   "), b"\x00\x01\x01\x07", id="called AE title"),
    ],
)
def test_an_association_that_cannot_be_is_rejected(
    listen: Listen, raw_peer: Connect, recorder: Recorder, change: Callable[[bytes], bytes], answer: bytes
) -> None:
    peer = raw_peer(listen().port)
    peer.send(change(request_pdu("A", "ATHANOR", [MR], 16384)))
    assert peer.read_pdu() == (REJECT, answer)
    assert peer.is_closed()
    assert recorder.opened == []


def test_a_receiver_that_is_not_ready_rejects_for_now(listen: Listen, raw_peer: Connect, recorder: Recorder) -> None:
    recorder.association_opened = None  # type: ignore[assignment,method-assign]  # calling it fails
    peer = raw_peer(listen().port)
    peer.send(request_pdu("A", "ATHANOR", [MR], 16384))
    assert peer.read_pdu() == (REJECT, b"\x00\x02\x03\x01")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(store_command(affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.2"), 0x0122, id="other SOP Class"),
        pytest.param(store_command("../../etc/passwd"), 0x0117, id="path for a UID"),
        pytest.param(store_command("1.2\x00.3"), 0x0117, id="NUL inside a UID"),
        pytest.param(store_command(affected_sop_instance_uid=None), 0x0117, id="no SOP Instance UID"),
    ],
)
def test_a_c_store_that_contradicts_itself_is_refused_but_the_association_lives(
    peer: RawPeer, recorder: Recorder, sent: bytes, status: int
) -> None:
    peer.send(sent, data(b"ab"), store_command("1.2.3"), data(b"ab"))
    assert response(peer).status == status
    assert response(peer).status == 0
    assert [request.sop_instance_uid for request in recorder.stored] == ["1.2.3"]


def test_a_c_store_without_a_data_set_cannot_be_understood(peer: RawPeer, recorder: Recorder) -> None:
    peer.send(store_command(command_data_set_type=NO_DATA_SET))
    assert response(peer).status == 0xC000
    peer.send(store_command(), data(b""))
    assert response(peer).status == 0xC000
    assert recorder.stored == []


def test_a_c_store_over_the_verification_context_is_refused(peer: RawPeer, recorder: Recorder) -> None:
    store = command(
        3,
        command_field=1,
        message_id=1,
        affected_sop_class_uid=str(VERIFICATION),
        affected_sop_instance_uid="1.2.3",
        command_data_set_type=0,
    )
    peer.send(store, data(b"ab", context_id=3))
    assert response(peer).status == 0x0122
    assert recorder.stored == []


def test_a_service_that_is_not_spoken_is_answered_so(peer: RawPeer) -> None:
    find = command(3, command_field=0x20, message_id=4, affected_sop_class_uid="1.2.3", command_data_set_type=0)
    peer.send(find, data(b"identifier", context_id=3), echo_command(3))
    answer = response(peer)
    assert (answer.command_field, answer.status) == (0x8020, 0x0211)
    assert response(peer).command_field == 0x8030


def test_a_cancel_is_ignored(peer: RawPeer) -> None:
    peer.send(command(1, command_field=0x0FFF, message_id_being_responded_to=9), echo_command(3))
    assert response(peer).command_field == 0x8030


def test_one_byte_at_a_time_is_as_good_as_all_at_once(peer: RawPeer, recorder: Recorder) -> None:
    for byte in store_command() + data(b"abcd"):
        peer.send(bytes([byte]))
    assert response(peer).status == 0
    assert recorder.stored[0].encoded == b"abcd"


def test_the_answer_is_cut_for_a_peer_that_takes_little_at_a_time(listen: Listen, raw_peer: Connect) -> None:
    peer = raw_peer(listen().port)
    peer.send(request_pdu("RAW", "ATHANOR", [ECHO], 64))
    assert peer.read_pdu()[0] == 2
    peer.send(echo_command())
    encoded, last = b"", False
    while not last:
        kind, content = peer.read_pdu()
        assert kind == P_DATA
        assert len(content) <= 64
        encoded += content[6:]
        last = bool(content[5] & 2)
    assert decode_command(encoded).status == 0


def test_the_association_id_is_in_the_log_and_in_the_info(
    peer: RawPeer, recorder: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    peer.send(data(b"ab"))
    abort_of(peer)
    recorder.wait_until(lambda r: bool(r.ended))
    logged = "".join(capfd.readouterr())
    assert re.search(rf"association aborted.*association={recorder.opened[0].id}", logged)

"""PDUs over a real pair of sockets: framing, limits, deadlines, and messages put together from their fragments."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.network.dimse import Command, Message, MessageLimits, data_set_pdus, encode_command, read_message
from gateway.network.upper_layer import (
    RELEASE_RQ_PDU,
    AbortReason,
    AssociationLost,
    PduType,
    PeerAborted,
    ProtocolViolation,
    TooLarge,
    TooSlow,
    TransportLost,
    UpperLayer,
    abort_pdu,
    data_pdu,
    piece_bytes,
)

MAX_PDU = 4096
LIMITS = MessageLimits(idle_s=5.0, message_s=5.0, data_set_bytes=100_000)
STORE = Command(
    command_field=1,
    message_id=1,
    affected_sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
    affected_sop_instance_uid="1.2.3",
    priority=0,
    command_data_set_type=0,
)
ECHO = Command(command_field=0x30, message_id=2, affected_sop_class_uid="1.2.840.10008.1.1")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, UpperLayer]]:
    """The peer's raw socket and our upper layer at its other end."""
    peer, ours = socket.socketpair()
    with peer, ours:
        yield peer, UpperLayer(ours, MAX_PDU)


def pdv(context_id: int, control: int, value: bytes) -> bytes:
    return struct.pack(">LBB", len(value) + 2, context_id, control) + value


def p_data(*values: bytes) -> bytes:
    body = b"".join(values)
    return struct.pack(">BxL", 4, len(body)) + body


def message_pdus(data_set: bytes, step: int) -> bytes:
    pieces = (data_set[i : i + step] for i in range(0, len(data_set), step))
    command = data_pdu(1, encode_command(STORE), is_command=True, is_last=True)
    return command + b"".join(data_set_pdus(1, pieces))


def test_a_message_is_put_together_from_its_fragments(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    data_set = bytes(range(256)) * 100
    peer.sendall(message_pdus(data_set, MAX_PDU - 6))
    assert read_message(upper_layer, LIMITS) == Message(1, STORE, data_set)


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 800), st.integers(1, 300))
def test_fragments_and_segments_of_any_size_make_the_same_message(data_set: bytes, step: int, segment: int) -> None:
    peer, ours = socket.socketpair()
    with peer, ours:
        sent = message_pdus(data_set, step)
        sender = threading.Thread(
            target=lambda: [peer.sendall(sent[i : i + segment]) for i in range(0, len(sent), segment)]
        )
        sender.start()
        assert read_message(UpperLayer(ours, MAX_PDU), LIMITS) == Message(1, STORE, data_set)
        sender.join()


def test_one_pdu_may_hold_the_end_of_one_message_and_the_next(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    command = encode_command(STORE)
    peer.sendall(
        p_data(pdv(1, 1, command[:20]))
        + p_data(pdv(1, 3, command[20:]), pdv(1, 0, b"ab"))
        + p_data(pdv(1, 2, b"cd"), pdv(3, 3, encode_command(ECHO)))
    )
    assert read_message(upper_layer, LIMITS) == Message(1, STORE, b"abcd")
    assert read_message(upper_layer, LIMITS) == Message(3, ECHO, None)


def test_a_release_request_ends_the_messages(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(RELEASE_RQ_PDU)
    assert read_message(upper_layer, LIMITS) is None


def test_an_abort_says_who_aborted(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(abort_pdu(AbortReason.UNEXPECTED_PDU))
    with pytest.raises(PeerAborted, match="aborted by the upper layer: unexpected PDU"):
        read_message(upper_layer, LIMITS)


COMMAND = pdv(1, 3, encode_command(STORE))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(b"\x09\x00\x00\x00\x00\x04abcd", AbortReason.UNRECOGNISED_PDU, id="unknown PDU type"),
        pytest.param(b"\x03\x00\x00\x00\x00\x04abcd", AbortReason.UNEXPECTED_PDU, id="A-ASSOCIATE-RJ"),
        pytest.param(b"\x06\x00\x00\x00\x00\x04abcd", AbortReason.UNEXPECTED_PDU, id="A-RELEASE-RP"),
        pytest.param(b"\x05\x00\x00\x00\x00\x08abcdefgh", AbortReason.INVALID_PARAMETER_VALUE, id="long release"),
        pytest.param(b"\x07\x00\x00\x00\x00\x02ab", AbortReason.INVALID_PARAMETER_VALUE, id="short abort"),
        pytest.param(p_data(), AbortReason.INVALID_PARAMETER_VALUE, id="P-DATA-TF without a value"),
        pytest.param(p_data(b"abc"), AbortReason.INVALID_PARAMETER_VALUE, id="less than a value header"),
        pytest.param(p_data(struct.pack(">LBB", 1, 1, 3)), AbortReason.INVALID_PARAMETER_VALUE, id="value too short"),
        pytest.param(p_data(struct.pack(">LBB", 99, 1, 3)), AbortReason.INVALID_PARAMETER_VALUE, id="value too long"),
        pytest.param(p_data(pdv(1, 2, b"ab")), AbortReason.INVALID_PARAMETER_VALUE, id="data before a command"),
        pytest.param(p_data(COMMAND, COMMAND), AbortReason.INVALID_PARAMETER_VALUE, id="two commands"),
        pytest.param(p_data(COMMAND, pdv(3, 2, b"a")), AbortReason.INVALID_PARAMETER_VALUE, id="context changes"),
        pytest.param(p_data(pdv(1, 3, b"x")), AbortReason.INVALID_PARAMETER_VALUE, id="no command set"),
    ],
)
def test_what_the_standard_forbids_is_a_violation(
    ends: tuple[socket.socket, UpperLayer], sent: bytes, reason: AbortReason
) -> None:
    peer, upper_layer = ends
    peer.sendall(sent)
    with pytest.raises(ProtocolViolation) as violation:
        read_message(upper_layer, LIMITS)
    assert violation.value.abort is reason


def test_a_pdu_longer_than_agreed_is_refused_by_its_header(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(struct.pack(">BxL", 4, 0xFFFFFFFF))
    with pytest.raises(TooLarge, match="4294967295 bytes; 4096 were agreed"):
        read_message(upper_layer, LIMITS)


def test_a_data_set_over_the_limit_is_refused_as_it_arrives(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(message_pdus(bytes(30_000), MAX_PDU - 6))
    with pytest.raises(TooLarge, match="data set of more than 10000 bytes"):
        read_message(upper_layer, MessageLimits(5.0, 5.0, 10_000))


def test_a_command_set_over_the_limit_is_refused(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(p_data(pdv(1, 1, bytes(MAX_PDU - 6))) * 5)
    with pytest.raises(TooLarge, match="command set of more than"):
        read_message(upper_layer, LIMITS)


def test_silence_ends_after_the_idle_time(ends: tuple[socket.socket, UpperLayer]) -> None:
    _, upper_layer = ends
    began = time.monotonic()
    with pytest.raises(TooSlow):
        read_message(upper_layer, MessageLimits(0.1, 60.0, 1000))
    assert 0.1 <= time.monotonic() - began < 5.0


@contextmanager
def dripping(peer: socket.socket, first: bytes, then: bytes) -> Iterator[None]:
    """A peer that sends `first` at once and `then` every 20 ms."""
    stop = threading.Event()

    def drip() -> None:
        peer.sendall(first)
        while not stop.wait(0.02):
            peer.sendall(then)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(struct.pack(">BxL", 4, 1000) + struct.pack(">LBB", 996, 1, 3), b"x", id="a byte at a time"),
        pytest.param(p_data(COMMAND), p_data(pdv(1, 0, b"x")), id="a whole tiny PDU at a time"),
        pytest.param(p_data(COMMAND), p_data(pdv(1, 0, b"")), id="empty values without end"),
    ],
)
def test_dripping_does_not_move_the_deadline(ends: tuple[socket.socket, UpperLayer], first: bytes, then: bytes) -> None:
    peer, upper_layer = ends
    with dripping(peer, first, then):
        began = time.monotonic()
        with pytest.raises(TooSlow):
            read_message(upper_layer, MessageLimits(5.0, 0.3, 1000))
        assert time.monotonic() - began < 5.0


def test_a_peer_that_leaves_inside_a_pdu_is_noticed(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(p_data(COMMAND)[:20])
    peer.close()
    with pytest.raises(TransportLost):
        read_message(upper_layer, LIMITS)


def test_a_peer_that_takes_nothing_is_given_up(ends: tuple[socket.socket, UpperLayer]) -> None:
    _, upper_layer = ends
    with pytest.raises(TooSlow):
        upper_layer.send(bytes(50_000_000), time.monotonic() + 0.2)


def test_a_pdu_of_negotiation_is_read_whole_and_bounded(ends: tuple[socket.socket, UpperLayer]) -> None:
    peer, upper_layer = ends
    peer.sendall(b"\x01\x00\x00\x00\x00\x03abc" + b"\x01\x00\x00\x00\x10\x00")
    assert upper_layer.read_pdu(time.monotonic() + 1, 10) == (PduType.ASSOCIATE_RQ, b"\x01\x00\x00\x00\x00\x03abc")
    with pytest.raises(TooLarge):
        upper_layer.read_pdu(time.monotonic() + 1, 10)


@pytest.mark.parametrize(("announced", "piece"), [(0, 131072), (16384, 16378), (16383, 16376), (10**9, 131072), (8, 2)])
def test_pieces_fit_the_peer_and_are_even(announced: int, piece: int) -> None:
    assert piece_bytes(announced) == piece


def test_every_loss_is_one_error(ends: tuple[socket.socket, UpperLayer]) -> None:
    for loss in (ProtocolViolation, TooLarge, TooSlow, PeerAborted, TransportLost):
        assert issubclass(loss, AssociationLost)
    assert PeerAborted.abort is None
    assert TransportLost.abort is None

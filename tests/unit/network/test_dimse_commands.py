"""Command sets against pydicom's codec, which knows the whole of PS3.7 Annex E."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from gateway.network.dimse import Command, command_pdus, decode_command, encode_command, is_plain_uid
from gateway.network.upper_layer import ProtocolViolation

KEYWORDS = {
    "affected_sop_class_uid": "AffectedSOPClassUID",
    "requested_sop_class_uid": "RequestedSOPClassUID",
    "command_field": "CommandField",
    "message_id": "MessageID",
    "message_id_being_responded_to": "MessageIDBeingRespondedTo",
    "priority": "Priority",
    "command_data_set_type": "CommandDataSetType",
    "status": "Status",
    "error_comment": "ErrorComment",
    "affected_sop_instance_uid": "AffectedSOPInstanceUID",
    "requested_sop_instance_uid": "RequestedSOPInstanceUID",
    "event_type_id": "EventTypeID",
    "action_type_id": "ActionTypeID",
    "move_originator_ae_title": "MoveOriginatorApplicationEntityTitle",
    "move_originator_message_id": "MoveOriginatorMessageID",
}

number = st.integers(0, 0xFFFF)
uid = st.lists(st.integers(0, 10**9).map(str), min_size=1, max_size=6).map(".".join)
text = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16)
commands = st.builds(
    Command,
    command_field=number,
    message_id=st.none() | number,
    message_id_being_responded_to=st.none() | number,
    affected_sop_class_uid=st.none() | uid,
    requested_sop_class_uid=st.none() | uid,
    affected_sop_instance_uid=st.none() | uid,
    requested_sop_instance_uid=st.none() | uid,
    event_type_id=st.none() | number,
    action_type_id=st.none() | number,
    priority=st.none() | number,
    command_data_set_type=number,
    status=st.none() | number,
    error_comment=st.none() | text,
    move_originator_ae_title=st.none() | text,
    move_originator_message_id=st.none() | number,
)


def as_pydicom_writes(command: Command) -> bytes:
    ds = Dataset()
    for attribute, keyword in KEYWORDS.items():
        if (value := getattr(command, attribute)) is not None:
            setattr(ds, keyword, value)
    body = _encoded(ds)
    length = Dataset()
    length.CommandGroupLength = len(body)
    return _encoded(length) + body


def _encoded(ds: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = True
    buffer.is_little_endian = True
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


@given(commands)
def test_a_command_is_encoded_as_pydicom_encodes_it_and_read_back(command: Command) -> None:
    encoded = encode_command(command)
    assert encoded == as_pydicom_writes(command)
    assert decode_command(encoded) == command


def test_elements_that_are_not_used_here_are_skipped() -> None:
    ds = Dataset()
    ds.CommandField = 0x0021  # C-MOVE-RQ
    ds.MessageID = 5
    ds.MoveDestination = "ELSEWHERE"
    ds.NumberOfRemainingSuboperations = 3
    assert decode_command(_encoded(ds)) == Command(command_field=0x0021, message_id=5)


def test_a_response_is_readable_for_pydicom() -> None:
    answer = Command(command_field=0x8001, message_id_being_responded_to=9, status=0xA700, error_comment="disk full")
    ds = read_dataset(BytesIO(encode_command(answer)), is_implicit_VR=True, is_little_endian=True)
    assert (ds.Status, ds.ErrorComment, ds.MessageIDBeingRespondedTo) == (0xA700, "disk full", 9)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x00",
        bytes.fromhex("0000 0001 02000000 01"),  # ends inside the value
        bytes.fromhex("0800 1600 02000000 3100"),  # a data set element
        bytes.fromhex("0000 1001 04000000 01000000"),  # Message ID of four bytes
        bytes.fromhex("0000 1001 02000000 0100"),  # no Command Field
    ],
)
def test_what_is_no_command_set_is_refused(encoded: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode_command(encoded)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_hostile_bytes_raise_nothing_else(encoded: bytes) -> None:
    with suppress(ProtocolViolation):
        decode_command(encoded)


def test_a_command_is_split_for_a_peer_that_takes_little_at_a_time() -> None:
    command = Command(command_field=0x8001, message_id_being_responded_to=1, status=0, error_comment="x" * 64)
    pdus = command_pdus(3, command, 50)
    rebuilt, last = b"", False
    while pdus:
        length = int.from_bytes(pdus[2:6])
        assert length <= 50
        assert not last
        assert (pdus[0], pdus[10], pdus[11] & 1) == (4, 3, 1)
        rebuilt += pdus[12 : 6 + length]
        last = bool(pdus[11] & 2)
        pdus = pdus[6 + length :]
    assert last
    assert decode_command(rebuilt) == command


@pytest.mark.parametrize(
    ("uid", "plain"),
    [
        ("1.2.840", True),
        ("1.2.03", True),
        ("../../etc/passwd", False),
        ("1.2\0", False),
        ("..", False),
        ("", False),
        (None, False),
        ("1" * 65, False),
    ],
)
def test_a_uid_is_digits_and_dots(uid: str | None, plain: bool) -> None:
    assert is_plain_uid(uid) is plain

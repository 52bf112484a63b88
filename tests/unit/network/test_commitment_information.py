"""The data sets of storage commitment against pydicom's codec, and what is not one of them."""

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
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.domain.commitment import CommitmentReport, CommitmentRequest, SopReference
from gateway.network.commitment import (
    Unusable,
    action_command,
    encode_report,
    encode_request,
    event_command,
    read_report,
    read_request,
)

SYNTAXES = [str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)]
uid = st.lists(st.integers(0, 10**9).map(str), min_size=1, max_size=6).map(".".join)
instances = st.lists(st.builds(SopReference, uid, uid), min_size=1, max_size=5).map(tuple)
failures = st.lists(st.tuples(st.builds(SopReference, uid, uid), st.integers(0, 0xFFFF)), max_size=5).map(tuple)
reports = st.builds(CommitmentReport, uid, instances, failures)


def decoded(encoded: bytes, syntax: str) -> Dataset:
    return read_dataset(BytesIO(encoded), syntax == SYNTAXES[0], True)


def as_pydicom_writes(ds: Dataset, syntax: str, *, undefined_lengths: bool = False) -> bytes:
    for sequence in (element for element in ds if undefined_lengths and element.VR == "SQ"):
        sequence.is_undefined_length = True
        for item in sequence.value:
            item.is_undefined_length_sequence_item = True
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == SYNTAXES[0], True
    write_dataset(buffer, ds)
    return bytes(buffer.getvalue())


@given(st.builds(CommitmentRequest, uid, instances), st.sampled_from(SYNTAXES), st.booleans())
def test_a_request_is_written_as_pydicom_writes_it_and_read_back(
    request_: CommitmentRequest, syntax: str, undefined_lengths: bool
) -> None:
    encoded = encode_request(request_, syntax)
    ds = decoded(encoded, syntax)
    assert as_pydicom_writes(ds, syntax) == encoded
    again = as_pydicom_writes(ds, syntax, undefined_lengths=undefined_lengths)
    assert read_request(action_command(1), again, syntax) == request_


@given(reports, st.sampled_from(SYNTAXES), st.booleans())
def test_a_report_is_written_as_pydicom_writes_it_and_read_back(
    report: CommitmentReport, syntax: str, undefined_lengths: bool
) -> None:
    encoded = encode_report(report, syntax)
    ds = decoded(encoded, syntax)
    assert as_pydicom_writes(ds, syntax) == encoded
    command = event_command(1, report)
    assert command.event_type_id == (2 if report.failed else 1)
    assert read_report(command, as_pydicom_writes(ds, syntax, undefined_lengths=undefined_lengths), syntax) == report


@settings(max_examples=300)
@given(reports, st.sampled_from(SYNTAXES), st.data())
def test_damaged_bytes_are_unusable_or_another_report_and_nothing_else(
    report: CommitmentReport, syntax: str, data: st.DataObject
) -> None:
    encoded = bytearray(encode_report(report, syntax))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    del encoded[data.draw(st.integers(1, len(encoded))) :]
    with suppress(Unusable):
        read_report(event_command(1, report), bytes(encoded), syntax)


def test_a_sequence_within_itself_is_refused() -> None:
    deep = bytes.fromhex("0800 9911 ffffffff feff 00e0 ffffffff") * 200_000
    with pytest.raises(Unusable, match="nested deeper") as refused:
        read_request(action_command(1), deep, SYNTAXES[0])
    assert refused.value.status == 0x0212


def test_what_a_report_does_not_mention_is_not_committed() -> None:
    one, two = SopReference("1.2", "1.2.1"), SopReference("1.2", "1.2.2")
    report = CommitmentReport("1.2.9", (one,), ((two, 0x0119),))
    assert report.not_committed(["1.2.1", "1.2.2", "1.2.3"]) == {
        "1.2.2": "class-instance conflict (0x0119)",
        "1.2.3": "the report does not mention it",
    }
    assert CommitmentReport("1.2.9", (one,), ((one, 0x0112),)).not_committed(["1.2.1"]) == {
        "1.2.1": "no such object instance (0x0112)"
    }

"""Stored files on their way out: unchanged where they may be, and the same object where they may not."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.errors import NotDicom
from gateway.network.outgoing import OutgoingInstance, data_set_pieces


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def data_set(instance: OutgoingInstance, transfer_syntax_uid: str, piece: int = 1000) -> bytes:
    pieces = list(data_set_pieces(instance, transfer_syntax_uid, piece))
    assert all(len(p) == piece for p in pieces[:-1])
    return b"".join(pieces)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"]
)
def test_in_its_stored_transfer_syntax_the_stored_bytes_go_out(name: str) -> None:
    path = sample(name)
    instance = OutgoingInstance.read(path)
    stored = path.read_bytes()
    # PS3.10 7.1: the data set begins after the 12 bytes of the group length and as many as it says
    offset = 128 + 4 + 12 + int.from_bytes(stored[140:144], "little")
    assert data_set(instance, instance.transfer_syntax_uid) == stored[offset:]


@pytest.mark.parametrize("target", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm"]
)
def test_in_another_transfer_syntax_the_same_object_goes_out(name: str, target: pydicom.uid.UID) -> None:
    instance = OutgoingInstance.read(sample(name))
    encoded = data_set(instance, target)
    sent = read_dataset(BytesIO(encoded), target.is_implicit_VR, is_little_endian=True)
    stored = pydicom.dcmread(instance.path)
    assert {element.tag for element in sent} == {element.tag for element in stored}
    assert sent.SOPInstanceUID == stored.SOPInstanceUID == instance.sop_instance_uid
    pixels = np.frombuffer(sent.PixelData, "<i2").reshape(stored.Rows, stored.Columns)
    np.testing.assert_array_equal(pixels, stored.pixel_array)
    for element in stored:
        if element.keyword not in {"PixelData", "DataSetTrailingPadding"} and not element.tag.is_private:
            assert sent[element.tag].value == element.value, element.keyword


def test_a_second_attempt_sends_the_same_bytes() -> None:
    instance = OutgoingInstance.read(sample("MR_small_jp2klossless.dcm"))
    assert data_set(instance, ExplicitVRLittleEndian) == data_set(instance, ExplicitVRLittleEndian)


def test_colour_is_not_converted_on_the_way() -> None:
    instance = OutgoingInstance.read(sample("SC_rgb_jpeg_dcmtk.dcm"))
    sent = read_dataset(BytesIO(data_set(instance, ExplicitVRLittleEndian)), False, is_little_endian=True)
    assert sent.PhotometricInterpretation.startswith("YBR_FULL")
    stored = pydicom.pixels.pixel_array(instance.path, raw=True)
    np.testing.assert_array_equal(np.frombuffer(sent.PixelData, "u1").reshape(stored.shape), stored)


def test_a_file_that_is_not_what_it_was_said_to_be_is_refused(tmp_path: Path) -> None:
    path = sample("CT_small.dcm")
    said = OutgoingInstance(path, "1.2.840.10008.5.1.4.1.1.2", "9.9.9", ExplicitVRLittleEndian)
    with pytest.raises(NotDicom, match=r"9\.9\.9"):
        data_set_pieces(said, ExplicitVRLittleEndian, 1000)
    nothing = tmp_path / "nothing.dcm"
    with pytest.raises(NotDicom, match="cannot be read: No such file"):
        OutgoingInstance.read(nothing)
    nothing.write_bytes(b"no DICOM at all")
    with pytest.raises(NotDicom, match="no Part 10 file"):
        OutgoingInstance.read(nothing)


def test_a_file_without_a_data_set_is_refused(tmp_path: Path) -> None:
    stored = sample("CT_small.dcm").read_bytes()
    offset = 128 + 4 + 12 + int.from_bytes(stored[140:144], "little")
    path = tmp_path / "headless.dcm"
    path.write_bytes(stored[:offset])
    with pytest.raises(NotDicom, match="no data set"):
        OutgoingInstance.read(path)


def test_a_file_without_a_sop_instance_uid_is_refused() -> None:
    with pytest.raises(NotDicom, match="what is no UID"):
        OutgoingInstance.read(sample("nested_priv_SQ.dcm"))


def test_a_file_that_cannot_be_decoded_is_refused_by_name(tmp_path: Path) -> None:
    ds = pydicom.dcmread(sample("MR_small_jp2klossless.dcm"))
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f no codestream"])
    path = tmp_path / "broken.dcm"
    ds.save_as(path)
    instance = OutgoingInstance.read(path)
    with pytest.raises(NotDicom, match="cannot be rewritten as Explicit VR Little Endian"):
        data_set_pieces(instance, ExplicitVRLittleEndian, 1000)

"""Headers as devices send them, and bytes that are none."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicom_files import run
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from gateway.dicom.elements import DEFAULT_LIMITS, Beginning, HeaderLimits
from gateway.dicom.header import (
    Attributes,
    InstanceHeader,
    read_attributes,
    read_instance_header,
    resolve_attribute,
)
from gateway.errors import ConfigurationError, DataSetMismatch, DicomError, NotDicom

SECRET = "SECRET^PATIENT"  # the one value that no message may repeat
INSTANCE, SERIES, STUDY = "1.2.3.4.1", "1.2.3.4", "1.2.3"
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
CONTENT_SEQUENCE = struct.pack("<HH", 0x0040, 0xA730)


def a_data_set() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, INSTANCE
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.PatientName, ds.PatientID = SECRET, SECRET
    ds.Modality, ds.InstanceNumber = "MR", 12
    return ds


def encoded(ds: Dataset, *, implicit: bool = False) -> bytes:
    file = pydicom.filebase.DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, implicit
    write_dataset(file, ds)
    return file.getvalue()


def header_of(
    data: bytes, transfer_syntax_uid: str = ExplicitVRLittleEndian, limits: HeaderLimits = DEFAULT_LIMITS
) -> InstanceHeader:
    return read_instance_header(
        data, transfer_syntax_uid, sop_class_uid=MRImageStorage, sop_instance_uid=INSTANCE, limits=limits
    )


def short(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, vr, len(value)) + value


@pytest.mark.parametrize("implicit", [False, True])
@given(st.integers(0, 700))
def test_the_beginning_of_a_data_set_says_the_same_as_the_whole_or_asks_for_it(implicit: bool, first: int) -> None:
    ds = a_data_set()
    ds.AdmittingDiagnosesDescription = "x" * 60
    ds.ImageComments = "y" * 200  # follows every value that is wanted
    ds.PixelData = b"\1\2" * 500
    ds["PixelData"].VR = "OW"
    data, syntax = encoded(ds, implicit=implicit), ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    whole = header_of(data, syntax)
    beginning = Beginning.of(data[:first], len(data))
    until_pixels = data.index(b"\xe0\x7f\x10\x00") + (8 if implicit else 12)
    if first >= until_pixels:
        assert header_of(beginning, syntax) == whole
    else:
        with pytest.raises(NotDicom):
            header_of(beginning, syntax)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_scanner_s_header(mr_paths: list[Path], implicit: bool) -> None:
    ds = pydicom.dcmread(mr_paths[2])
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    header = read_instance_header(
        encoded(ds, implicit=implicit), syntax, sop_class_uid=ds.SOPClassUID, sop_instance_uid=ds.SOPInstanceUID
    )
    assert (header.sop_instance_uid, header.series_instance_uid) == (ds.SOPInstanceUID, ds.SeriesInstanceUID)
    assert (header.modality, header.instance_number, header.series_number) == ("MR", 3, 4)
    assert header.image_type == ("ORIGINAL", "PRIMARY", "M", "NORM")
    assert header.image_position == (0.0, -60.0, 35.5)
    assert header.slice_position_mm == pytest.approx(0.0)
    assert (header.rows, header.columns, header.number_of_frames) == (96, 128, 1)
    assert (header.images_in_acquisition, header.acquisition_number) == (5, 1)
    assert (header.patient_name, header.manufacturer) == ("PHANTOM^ATHANOR 11", "Athanor phantom")
    assert header.transfer_syntax_uid == syntax


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_a_compressed_instance(mr_paths: list[Path], syntax: str) -> None:
    ds = pydicom.dcmread(mr_paths[0])
    ds.compress(syntax, generate_instance_uid=False)
    header = read_instance_header(encoded(ds), syntax, sop_class_uid=ds.SOPClassUID, sop_instance_uid=ds.SOPInstanceUID)
    assert header.rows == 96


def test_absent_optional_values_are_empty() -> None:
    ds = a_data_set()
    del ds.InstanceNumber, ds.PatientName, ds.PatientID
    header = header_of(encoded(ds))
    assert (header.instance_number, header.patient_name, header.rows) == (None, "", None)
    assert (header.image_position, header.image_orientation, header.slice_position_mm) == ((), (), None)
    assert header.number_of_frames == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"  12 ", 12),
        (b"1.0 ", 1),
        (b"", None),
        (b"    ", None),
        (b"007 ", 7),
        (b"-3", -3),
        (b"12\0", 12),
        (b"1A", None),
        (b"1.5 ", None),
        (b"nan ", None),
        (b"inf ", None),
        (b"99999999999 ", None),
        (b"1\\2 ", None),
        (b"7", 7),  # odd length
    ],
)
def test_integer_strings_as_devices_write_them(text: bytes, number: int | None) -> None:
    ds = a_data_set()
    del ds.InstanceNumber
    assert header_of(encoded(ds) + short(0x0020, 0x0013, b"IS", text)).instance_number == number


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        (None, "Rücken"),
        ("ISO_IR 100", "Rücken"),
        ("ISO_IR 192", "腰椎"),
        (["", "ISO 2022 IR 87"], "腰椎"),
        ("GB18030", "腰椎"),
        ("ISO_IR 144", "Спина"),
    ],
)
def test_character_sets(character_set: str | list[str] | None, text: str) -> None:
    ds = a_data_set()
    if character_set:
        ds.SpecificCharacterSet = character_set
    ds.SeriesDescription = text
    assert header_of(encoded(ds)).series_description == text


@pytest.mark.parametrize("character_set", [b"ISO_IR 999", b"nonsense", b"\xff\xff", b"ISO_IR 192"])
def test_a_wrong_character_set_costs_letters_and_not_the_instance(character_set: bytes) -> None:
    text = short(0x0008, 0x0005, b"CS", character_set) + short(0x0008, 0x103E, b"LO", b"R\xfccken")
    header = header_of(text + encoded(a_data_set()))
    assert header.series_description.startswith("R")


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, b"", b"../../etc/passwd", b"1.2.x", b"1" * 66, b"1..2"])
def test_uids_from_the_wire_are_checked(keyword: str, value: bytes | None) -> None:
    ds = a_data_set()
    tag = ds[keyword].tag
    del ds[keyword]
    data = encoded(ds) + (b"" if value is None else short(tag.group, tag.element, b"UI", value))
    with pytest.raises(DataSetMismatch, match=keyword) as raised:
        header_of(data)
    assert "passwd" not in str(raised.value)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_uids_must_be_those_of_the_request(keyword: str) -> None:
    ds = a_data_set()
    ds[keyword].value = "9.8.7"
    with pytest.raises(DataSetMismatch, match=r"expected .* as in the C-STORE request"):
        header_of(encoded(ds))


def test_leading_zeros_and_padding_of_uids_are_tolerated() -> None:
    ds = a_data_set()
    del ds.SeriesInstanceUID
    header = header_of(encoded(ds) + short(0x0020, 0x000E, b"UI", b"1.2.03.4 \0"))
    assert header.series_instance_uid == "1.2.03.4"


@pytest.mark.parametrize("group", [0x0000, 0x0002, 0x0004])
def test_elements_outside_a_data_set_are_refused(group: int) -> None:
    with pytest.raises(NotDicom, match=f"{group:04X}"):
        header_of(short(group, 0x0010, b"UI", b"1.2\0") + encoded(a_data_set()))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_syntaxes_that_are_never_accepted(syntax: str) -> None:
    with pytest.raises(NotDicom, match="transfer syntax"):
        header_of(encoded(a_data_set()), syntax)


def test_a_data_set_in_another_syntax_than_announced() -> None:
    with pytest.raises(NotDicom, match="not in the transfer syntax"):
        header_of(encoded(a_data_set(), implicit=True), ExplicitVRLittleEndian)
    with pytest.raises(NotDicom):
        header_of(encoded(a_data_set()), ImplicitVRLittleEndian)


def test_pixel_data_that_were_cut_off(mr_paths: list[Path]) -> None:
    ds = pydicom.dcmread(mr_paths[0])
    with pytest.raises(NotDicom, match=r"\(7FE0,0010\).*cut off"):
        read_instance_header(
            encoded(ds)[:-2],
            ExplicitVRLittleEndian,
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
        )


def nested(depth: int, *, defined: bool, implicit: bool) -> bytes:
    """`depth` sequences within each other."""
    if not defined:
        opening = CONTENT_SEQUENCE + (b"" if implicit else b"SQ\0\0") + b"\xff\xff\xff\xff" + ITEM
        return opening * depth + (ITEM_END + SEQUENCE_END) * depth
    head = CONTENT_SEQUENCE + (b"" if implicit else b"SQ\0\0")
    parts, length = [], 0
    for _ in range(depth):
        parts.append(head + struct.pack("<I", length + 8) + struct.pack("<HHI", 0xFFFE, 0xE000, length))
        length += len(parts[-1])
    return b"".join(reversed(parts))


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_depth_is_bounded(defined: bool, implicit: bool) -> None:
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    rest = encoded(a_data_set(), implicit=implicit)
    assert header_of(nested(60, defined=defined, implicit=implicit) + rest, syntax).modality == "MR"
    with pytest.raises(NotDicom, match="nested deeper"):
        header_of(nested(20_000, defined=defined, implicit=implicit) + rest, syntax)


@pytest.mark.parametrize("defined", [True, False])
def test_the_number_of_elements_is_bounded_wherever_they_are(defined: bool) -> None:
    limits = HeaderLimits(elements=1000)
    empty = b"\x19\0\x10\x10LO\0\0"
    sequence = b"\x08\0\x40\x11SQ\0\0"
    fragments = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 1000 + SEQUENCE_END

    def in_item(content: bytes) -> bytes:
        if not defined:
            return sequence + b"\xff\xff\xff\xff" + ITEM + content + ITEM_END + SEQUENCE_END
        size = len(content)
        return sequence + struct.pack("<I", size + 8) + struct.pack("<HHI", 0xFFFE, 0xE000, size) + content

    rest = encoded(a_data_set())
    assert header_of(empty * 900 + rest, limits=limits).modality == "MR"
    many = (empty * 1000 + rest, in_item(empty * 1000) + rest, in_item(empty * 60) * 40 + rest, rest + fragments)
    for data in many:
        with pytest.raises(NotDicom, match="1000 elements"):
            header_of(data, limits=limits)


def test_the_bytes_besides_pixel_data_are_bounded() -> None:
    limits = HeaderLimits(header_bytes=10_000)
    pixels = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", 20_000) + bytes(20_000)
    private = b"\x19\0\x10\x10OB\0\0" + struct.pack("<I", 20_000) + bytes(20_000)
    rest = encoded(a_data_set())
    assert header_of(rest + pixels, limits=limits).modality == "MR"
    with pytest.raises(NotDicom, match=r"10000 bytes besides pixel data.*listener\.max_header_bytes"):
        header_of(private + rest, limits=limits)


@pytest.mark.parametrize(
    "value", [b"ISO_IR 19", b"ISO_IR 999", b"\\ISO 2022 IR 87", b"", b"ISO_IR 100\0", b"undefined"]
)
def test_an_odd_character_set_is_no_reason_to_refuse(value: bytes) -> None:
    head = struct.pack("<HH2sH", 0x0008, 0x0005, b"CS", len(value)) + value
    assert header_of(head + encoded(a_data_set())).modality == "MR"


def test_values_of_odd_length_are_read_as_they_are() -> None:
    odd = struct.pack("<HH2sH", 0x0008, 0x103E, b"LO", 5) + b"Spine"
    assert header_of(odd + encoded(a_data_set())).series_description == "Spine"


def test_a_long_text_and_one_with_nul_are_what_a_row_takes() -> None:
    ds = a_data_set()
    ds.SeriesDescription, ds.StudyDescription = "A" * 60_000, "B\0C"
    header = header_of(encoded(ds))
    assert (header.series_description, header.study_description) == ("A" * 1024, "BC")


def test_an_icon_with_encapsulated_pixels_is_passed_over() -> None:
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, 4) + b"\xfe\xff\x0d\xe0"
    icon = b"\x88\x00\x00\x02SQ\0\0\xff\xff\xff\xff" + ITEM
    icon += b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + fragments + SEQUENCE_END + ITEM_END + SEQUENCE_END
    assert header_of(icon + encoded(a_data_set())).instance_number == 12


def test_an_unknown_sequence_is_implicit_inside() -> None:
    inner = encoded(a_data_set(), implicit=True)
    unknown = b"\x09\x00\x10\x10UN\0\0\xff\xff\xff\xff" + ITEM + inner + ITEM_END + SEQUENCE_END
    assert header_of(unknown + encoded(a_data_set())).instance_number == 12


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_end_in_an_answer_without_patient_attributes(data: st.DataObject) -> None:
    ds = a_data_set()
    ds.ReferencedImageSequence = Sequence([a_data_set()])
    whole = bytearray(encoded(ds, implicit=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    syntax = data.draw(st.sampled_from([ImplicitVRLittleEndian, ExplicitVRLittleEndian]))
    assert "SECRET" not in answer_to(damaged, syntax)


def answer_to(data: bytes, syntax: str) -> str:
    """The error that `data` meets, or the UID that was read."""
    try:
        return header_of(data, syntax).sop_instance_uid
    except DicomError as error:
        return str(error)


def test_lookup_by_keyword_tag_and_private_tag(tmp_path: Path) -> None:
    ds = a_data_set()
    ds.EchoTime, ds.SliceThickness, ds.PixelSpacing = "98.5", None, [0.5, 0.75]
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.ReferencedImageSequence = Sequence([a_data_set()])
    block = ds.private_block(0x0019, "ACME", create=True)
    block.add_new(0xAB, "UN", b"tse\\fast ")
    block.add_new(0xAC, "UN", b"\x00\x01\x02\xff")
    attributes = Attributes(ds)
    assert attributes.lookup("EchoTime") == attributes.lookup("(0018,0081)") == (98.5,)
    assert attributes.lookup("SliceThickness") == ()
    assert attributes.lookup("RepetitionTime") is None
    assert attributes.lookup("PixelSpacing") == (0.5, 0.75)
    assert attributes.lookup("ImageType") == ("ORIGINAL", "PRIMARY")
    assert attributes.lookup("PatientName") == (SECRET,)
    assert attributes.lookup("(0019,10AB)") == ("tse", "fast")
    assert attributes.lookup("(0019,10AC)") == ()
    assert attributes.lookup("ReferencedImageSequence") == ()
    assert [item.lookup("Modality") for item in attributes.items("ReferencedImageSequence")] == [("MR",)]
    assert attributes.items("SourceImageSequence") == ()


def test_a_number_that_is_none_is_given_as_text(tmp_path: Path) -> None:
    data = encoded(a_data_set()) + short(0x0018, 0x0081, b"DS", b"98,5 ")
    attributes = Attributes(pydicom.dcmread(BytesIO(data), force=True))
    assert attributes.lookup("EchoTime") == ("98,5",)
    assert attributes.to_json()["00080060"]["Value"] == ["MR"]


def test_json_keeps_what_can_be_asked_for(mr_paths: list[Path]) -> None:
    attributes = read_attributes(mr_paths[0])
    restored = Attributes.from_json(attributes.to_json())
    for keyword in ("EchoTime", "PatientName", "ImageType", "PixelSpacing", "SeriesInstanceUID", "ScanOptions"):
        assert restored.lookup(keyword) == attributes.lookup(keyword)
    assert "7FE00010" not in attributes.to_json()


def test_json_leaves_out_what_is_large() -> None:
    ds = a_data_set()
    ds.add_new(0x00091010, "OB", b"x" * 2000)
    ds.add_new(0x00091011, "UT", "x" * 2000)
    ds.PerFrameFunctionalGroupsSequence = Sequence([a_data_set()] * 3)
    model = Attributes(ds).to_json()
    assert {"00091010", "00091011", "52009230"}.isdisjoint(model)
    assert "00080060" in model


def test_a_file_without_end_is_no_dicom_file(mr_paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(mr_paths[0].read_bytes()[:300])
    with pytest.raises(NotDicom, match=r"broken\.dcm"):
        read_attributes(broken)
    broken.write_bytes(b"not DICOM at all")
    with pytest.raises(NotDicom, match=r"broken\.dcm"):
        read_attributes(broken)


def test_dcmtk_and_header_agree(mr_paths: list[Path], tmp_path: Path) -> None:
    converted = tmp_path / "implicit.dcm"
    assert run("dcmconv", "+ti", mr_paths[0], converted).returncode == 0
    before, after = read_attributes(mr_paths[0]), read_attributes(converted)
    assert before.to_json() == after.to_json()


@pytest.mark.parametrize("name", ["SeriesDescription", "(0018,0081)", "(0019,10ab)"])
def test_names_of_attributes(name: str) -> None:
    assert resolve_attribute(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [("SeriesDescripton", "SeriesDescription"), ("0018,0081", "keyword"), ("SourceImageSequence", "sequence")],
)
def test_no_names_of_attributes(name: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        resolve_attribute(name)

"""Derived series: their marks, their place in the study, their values, their bytes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_files import Derive, as_enhanced, decoded, iod_complaints, run, source_of, written
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gateway.dicom.secondary_capture import Encoding, Marks, require_marks
from gateway.dicom.volume import SourceSeries, read_series
from gateway.errors import NotDicom, Unmarked

PLAIN = Encoding(label=False)


# what validators and other readers say


@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_validators_find_no_error_that_the_source_does_not_have(
    request: pytest.FixtureRequest, iod: str, modality: str, derive: Derive, tmp_path: Path
) -> None:
    sources: list[Path] = request.getfixturevalue(f"{modality.lower()}_paths")
    source: SourceSeries = request.getfixturevalue(f"{modality.lower()}_source")
    made_by: Marks = request.getfixturevalue("marks" if modality == "MR" else "ct_marks")
    paths = written(derive(source, source.volume, made_by, Encoding(iod=iod)), tmp_path)  # type: ignore[arg-type]
    assert iod_complaints(paths[0]) <= iod_complaints(sources[0]) == set()
    warnings = iod_complaints(paths[0], "Warning")
    assert all("99ATHANOR" in line or "Coding Scheme UID" in line for line in warnings), warnings
    assert run("dcentvfy", *sources, *paths).stderr == ""


def test_a_paired_body_part_without_laterality_stays_the_source_s_error(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    for ds in mr_sources:
        ds.BodyPartExamined = "KNEE"
    source, sources = source_of(mr_sources, tmp_path)
    paths = written(derive(source, source.volume, marks), tmp_path / "derived")
    errors = iod_complaints(paths[0])
    assert errors
    assert errors <= iod_complaints(sources[0])


@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
def test_simpleitk_reads_the_same_geometry(
    mr_paths: list[Path], mr_source: SourceSeries, marks: Marks, derive: Derive, tmp_path: Path, iod: str
) -> None:
    paths = written(derive(mr_source, mr_source.volume, marks, replace(PLAIN, iod=iod)), tmp_path)  # type: ignore[arg-type]
    by_position = sorted(mr_paths, key=lambda path: float(pydicom.dcmread(path).SliceLocation))
    expected = SimpleITK.ReadImage([str(path) for path in by_position])
    ordered = sorted(paths, key=lambda path: float(pydicom.dcmread(path).SliceLocation))
    found = SimpleITK.ReadImage([str(path) for path in ordered])
    assert found.GetSize() == expected.GetSize()
    for ask in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(found, ask)() == pytest.approx(getattr(expected, ask)())
    assert np.array_equal(SimpleITK.GetArrayFromImage(found), SimpleITK.GetArrayFromImage(expected))


def test_simpleitk_reads_the_same_hounsfield_units(
    ct_paths: list[Path], ct_source: SourceSeries, ct_marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    paths = written(derive(ct_source, ct_source.volume, ct_marks, PLAIN), tmp_path)
    pairs = {str(pydicom.dcmread(path).SliceLocation): path for path in ct_paths}
    for path in paths:
        original = pairs[str(pydicom.dcmread(path).SliceLocation)]
        found, expected = (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(one))) for one in (path, original))
        assert np.array_equal(found, expected)


# marks


def test_the_marks_of_a_secondary_capture(mr_ds: Dataset, mr_source: SourceSeries) -> None:
    assert mr_ds.SOPClassUID == SecondaryCaptureImageStorage
    assert (mr_ds.SyntheticData, mr_ds.ConversionType, mr_ds.ContentQualification) == ("YES", "SYN", "RESEARCH")
    assert list(mr_ds.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert mr_ds.SeriesDescription == "SYNTH-AI STIR <- T2 TSE SAG"
    assert mr_ds.DerivationDescription == (
        "NOT ACQUIRED. STIR synthesised by pix2pix conditional GAN, model t2-to-stir 1.2.3, "
        "weights SHA-256 0f0f0f0f0f0f"
    )
    (derivation,) = mr_ds.DerivationCodeSequence
    assert (derivation.CodeValue, derivation.CodingSchemeDesignator) == ("SYN-IMG", "99ATHANOR")
    assert mr_ds.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99ATHANOR"
    (image,) = mr_ds.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == mr_source.frames[0].sop_instance_uid
    assert image.SpatialLocationsPreserved == "YES"
    assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert "ReferencedFrameNumber" not in image
    (series,) = mr_ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == mr_source.frames[0].ds.SeriesInstanceUID
    assert "AI-generated (synthetic). Not acquired." in mr_ds.ImageComments


@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
def test_frames_of_an_enhanced_source_are_told_apart(
    mr_paths: list[Path], marks: Marks, derive: Derive, tmp_path: Path, iod: str
) -> None:
    enhanced = as_enhanced(mr_paths, tmp_path / "enhanced.dcm")
    source = read_series([enhanced])
    paths = written(derive(source, source.volume, marks, Encoding(iod=iod)), tmp_path / "derived")  # type: ignore[arg-type]
    images = [pydicom.dcmread(path) for path in paths]
    references = [ds.SourceImageSequence[0] for ds in images]
    assert {item.ReferencedSOPInstanceUID for item in references} == {"2.25.7"}
    assert {item.ReferencedFrameNumber for item in references} == {1, 2, 3, 4, 5}
    assert [ds.InstanceNumber for ds in images] == [1, 2, 3, 4, 5]
    assert len({str(ds.ImagePositionPatient) for ds in images}) == 5
    assert "NumberOfFrames" not in images[0]
    assert iod_complaints(paths[0]) == set()


def test_contributing_equipment_names_scanner_and_gateway(mr_ds: Dataset) -> None:
    scanner, gateway = mr_ds.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("Athanor phantom", "Spin echo simulator")
    assert gateway.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    assert (gateway.Manufacturer, gateway.ManufacturerModelName) == ("Athanor", "Athanor gateway")
    assert list(gateway.SoftwareVersions) == ["0.1.0", "t2-to-stir 1.2.3"]
    assert "0f" * 32 in gateway.ContributionDescription
    assert gateway.ContributionDateTime == "20260405060708+0000"
    assert (mr_ds.Manufacturer, mr_ds.DeviceSerialNumber) == ("Athanor", "17")


def test_contributing_equipment_of_the_source_is_kept(
    mr_sources: list[Dataset], marks: Marks, derive: Derive, tmp_path: Path
) -> None:
    earlier = Dataset()
    earlier.Manufacturer = "De-identifier"
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109104", "DCM", "De-identifying Equipment"
    earlier.PurposeOfReferenceCodeSequence = [purpose]
    earlier.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "private")
    for ds in mr_sources:
        ds.ContributingEquipmentSequence = [earlier]
        ds.Manufacturer = ""  # then there is no scanner to name: Manufacturer is type 1 in an item
    source, _ = source_of(mr_sources, tmp_path)
    items = decoded(derive(source, source.volume, marks)[0]).ContributingEquipmentSequence
    assert [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in items] == ["109104", "109100"]
    assert not [element for element in items[0] if element.tag.is_private]


@pytest.mark.parametrize(
    ("deployment", "source_says", "expected"),
    [
        ("RESEARCH", None, "RESEARCH"),
        ("PRODUCT", None, "PRODUCT"),
        ("PRODUCT", "PRODUCT", "PRODUCT"),
        ("PRODUCT", "RESEARCH", "RESEARCH"),
        ("PRODUCT", "SERVICE", "SERVICE"),
        ("SERVICE", "RESEARCH", "RESEARCH"),
        ("RESEARCH", "PRODUCT", "RESEARCH"),
    ],
)
def test_the_most_doubtful_qualification_wins(
    mr_sources: list[Dataset],
    marks: Marks,
    derive: Derive,
    tmp_path: Path,
    deployment: str,
    source_says: str | None,
    expected: str,
) -> None:
    if source_says:
        mr_sources[3].ContentQualification = source_says  # one instance is enough
    source, _ = source_of(mr_sources, tmp_path)
    encoding = Encoding(content_qualification=deployment)  # type: ignore[arg-type]
    assert decoded(derive(source, source.volume, marks, encoding)[0]).ContentQualification == expected


_ELSEWHERE = {
    "SyntheticData": "NO",
    "ConversionType": "WSD",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "ContentQualification": "MAYBE",
    "DerivationDescription": "sharpened",
    "BurnedInAnnotation": "PERHAPS",
    "ImageComments": "T2",
}
_OBLIGATORY = [
    *_ELSEWHERE,
    "DerivationCodeSequence",
    "SourceImageSequence",
    "ContributingEquipmentSequence",
    "SeriesDescription",
]


@pytest.mark.parametrize("keyword", _OBLIGATORY)
def test_no_file_without_each_of_its_marks(mr_ds: Dataset, tmp_path: Path, keyword: str) -> None:
    path = tmp_path / "derived.dcm"
    without = deepcopy(mr_ds)
    without.save_as(path, enforce_file_format=True)
    require_marks(path)
    del without[keyword]
    without.save_as(path, enforce_file_format=True)
    with pytest.raises(Unmarked, match=keyword):
        require_marks(path)
    if keyword in _ELSEWHERE:
        setattr(without, keyword, _ELSEWHERE[keyword])
        without.save_as(path, enforce_file_format=True)
        with pytest.raises(Unmarked, match=keyword):
            require_marks(path)


@pytest.mark.parametrize("sequence", ["SourceImageSequence", "ContributingEquipmentSequence"])
def test_a_sequence_without_its_code_is_no_mark(mr_ds: Dataset, tmp_path: Path, sequence: str) -> None:
    path = tmp_path / "derived.dcm"
    without = deepcopy(mr_ds)
    for item in without[sequence]:
        item.PurposeOfReferenceCodeSequence[0].CodeValue = "113037"
    without.save_as(path, enforce_file_format=True)
    with pytest.raises(Unmarked, match=sequence):
        require_marks(path)


def test_neither_an_acquired_nor_a_broken_file_has_marks(mr_paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Unmarked, match="SyntheticData"):
        require_marks(mr_paths[0])
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"nothing")
    with pytest.raises(NotDicom, match=r"broken\.dcm"):
        require_marks(broken)

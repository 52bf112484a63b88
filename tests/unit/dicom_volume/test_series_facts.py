"""What contracts learn from the headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage
from source_files import position, ramp, write_enhanced, write_series

from gateway.dicom.volume import read_series
from pipelines.spec import SeriesFacts


def facts_of(folder: Path, edit: Callable[[int, Dataset], None] | None = None) -> SeriesFacts:
    return read_series(write_series(folder, ramp(), edit=edit)).facts


def all_with(**values: Any) -> Callable[[int, Dataset], None]:
    def edit(index: int, ds: Dataset) -> None:
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    return edit


def test_a_plain_series(tmp_path):
    assert facts_of(tmp_path) == SeriesFacts(
        modality="MR",
        sop_class_uid=MRImageStorage,
        image_type=("ORIGINAL", "PRIMARY", "M", "SE"),
        plane="sagittal",
        spacing_mm=(4.0, 0.75, 0.8),
        shape=(4, 8, 10),
        tr_ms=3500.0,
        te_ms=100.0,
        ti_ms=None,
        scanning_sequence=("SE",),
        sequence_variant=("SK",),
        scan_options=(),
        body_part="LSPINE",
        series_description="T2 TSE SAG",
        contrast_agent=None,
        burned_in=None,
        synthetic=False,
        patient_age_years=45.0,
        slice_thickness_mm=3.6,
    )


def test_an_enhanced_series_says_the_same_in_other_words(tmp_path):
    facts = read_series([write_enhanced(tmp_path, ramp())]).facts
    assert facts.sop_class_uid == EnhancedMRImageStorage
    assert (facts.tr_ms, facts.te_ms, facts.ti_ms) == (3500.0, 100.0, None)
    assert (facts.scanning_sequence, facts.scan_options) == (("SE",), ())
    assert (facts.plane, facts.shape, facts.patient_age_years) == ("sagittal", (4, 8, 10), 45.0)
    assert not facts.inversion
    assert not facts.fat_suppression


def test_an_enhanced_stir(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        if index == -1:
            ds.InversionRecovery, ds.EchoPlanarPulseSequence = "YES", "YES"
            modifier = ds.SharedFunctionalGroupsSequence[0].MRModifierSequence[0]
            modifier.InversionTimes, modifier.SpectrallySelectedSuppression = [160.0], "FAT"

    facts = read_series([write_enhanced(tmp_path, ramp(), edit=edit)]).facts
    assert facts.ti_ms == 160.0
    assert facts.scanning_sequence == ("SE", "IR", "EP")
    assert facts.inversion
    assert facts.fat_suppression


@pytest.mark.parametrize(
    ("cosines", "plane"),
    [
        ([1, 0, 0, 0, 1, 0], "axial"),
        ([1, 0, 0, 0, 0, -1], "coronal"),
        ([0, -1, 0, 0, 0, 1], "sagittal"),
        ([np.sin(np.radians(19)), np.cos(np.radians(19)), 0, 0, 0, -1], "sagittal"),
        ([np.sin(np.radians(21)), np.cos(np.radians(21)), 0, 0, 0, -1], "oblique"),
        ([1, 0, 0, 0, np.cos(np.radians(45)), np.sin(np.radians(45))], "oblique"),
    ],
)
def test_the_plane_comes_from_the_orientation(tmp_path, cosines, plane):
    normal = np.cross(cosines[:3], cosines[3:])

    def edit(index: int, ds: Dataset) -> None:
        ds.ImageOrientationPatient = [float(f"{value:.6f}") for value in cosines]
        ds.ImagePositionPatient = [float(f"{value:.4f}") for value in index * 4.0 * normal]

    assert facts_of(tmp_path, edit).plane == plane


@pytest.mark.parametrize(
    ("age", "years"),
    [("045Y", 45.0), ("018M", 1.5), ("026W", 26 * 7 / 365.25), ("010D", 10 / 365.25), ("", None), ("45", None)],
)
def test_the_age(tmp_path, age, years):
    found = facts_of(tmp_path, all_with(PatientAge=age)).patient_age_years
    assert found == (None if years is None else pytest.approx(years))


def test_an_inversion_time_of_zero_is_no_inversion(tmp_path):
    facts = facts_of(tmp_path, all_with(InversionTime="0"))
    assert facts.ti_ms is None
    assert not facts.inversion


def test_times_may_be_absent(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        del ds.EchoTime
        ds.RepetitionTime = None

    facts = facts_of(tmp_path, edit)
    assert (facts.tr_ms, facts.te_ms) == (None, None)


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("ContrastBolusAgent", "Gadobutrol", True),
        ("ContrastBolusAgent", "NONE", False),
        ("ContrastBolusAgent", "", None),
        ("ContrastBolusAgentSequence", [Dataset()], True),
    ],
)
def test_contrast_agent(tmp_path, keyword, value, expected):
    assert facts_of(tmp_path, all_with(**{keyword: value})).contrast_agent is expected


@pytest.mark.parametrize(("value", "expected"), [("YES", True), ("NO", False), ("maybe", None)])
def test_burned_in(tmp_path, value, expected):
    assert facts_of(tmp_path, all_with(BurnedInAnnotation=value)).burned_in is expected


def test_one_derived_slice_makes_the_series_derived(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        if index == 2:
            ds.ImageType = ["DERIVED", "SECONDARY"]

    assert facts_of(tmp_path, edit).image_type == ("DERIVED", "SECONDARY")


def _synthesizing_equipment(ds: Dataset) -> None:
    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "109100", "DCM", "Synthesizing Equipment"
    item.Manufacturer, item.PurposeOfReferenceCodeSequence = "someone", [code]
    ds.ContributingEquipmentSequence = [item]


@pytest.mark.parametrize(
    "mark",
    [
        lambda ds: setattr(ds, "SyntheticData", "YES"),
        lambda ds: ds.add_new(0x0008001C, "UN", b"YES "),
        lambda ds: setattr(ds, "ConversionType", "SYN"),
        lambda ds: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]),
        _synthesizing_equipment,
    ],
    ids=["Synthetic Data", "Synthetic Data of unknown VR", "Conversion Type", "Image Type", "Contributing Equipment"],
)
def test_one_synthetic_slice_makes_the_series_synthetic(tmp_path, mark):
    assert facts_of(tmp_path, lambda index, ds: mark(ds) if index == 1 else None).synthetic


def test_a_frame_of_an_enhanced_series_keeps_its_characters(tmp_path):
    def edit(index: int, ds: Dataset) -> None:
        if index == -1:
            ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", "Łukasiewicz^Żaneta"

    frames = read_series([write_enhanced(tmp_path, ramp(), edit=edit)]).frames
    assert {str(frame.ds.PatientName) for frame in frames} == {"Łukasiewicz^Żaneta"}


def test_frames_of_several_multi_frame_instances_make_one_volume(tmp_path):
    stored = ramp(6)
    parts = []
    for number, part in enumerate((stored[3:], stored[:3])):
        folder = tmp_path / str(number) / "same"
        folder.mkdir(parents=True)
        parts.append(write_enhanced(folder, part, edit=_shifted(3 if number == 0 else 0)))
    source = read_series(parts)
    assert np.array_equal(source.volume.voxels, stored)
    assert [frame.path.parent.parent.name for frame in source.frames] == ["1"] * 3 + ["0"] * 3


def _shifted(first: int) -> Callable[[int, Dataset], None]:
    def edit(index: int, ds: Dataset) -> None:
        if index >= 0:
            ds.PlanePositionSequence[0].ImagePositionPatient = position(first + index)

    return edit

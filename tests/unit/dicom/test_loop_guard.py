"""What must not become a source again, by each of its marks alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from dicom_files import Derive, run, written
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gateway.dicom.header import Attributes, read_attributes
from gateway.dicom.loop_guard import OwnIdentity, find_marks, find_reconstruction_flags
from gateway.dicom.secondary_capture import Encoding, Marks
from gateway.dicom.volume import SourceSeries

OWN = OwnIdentity("1.2.3.4", "Athanor", "Athanor gateway", "SYNTH-AI")


def nothing_made(uid: str) -> bool:
    return False


def code(value: str, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "meaning"
    return item


def equipment(purpose: str, manufacturer: str, model_name: str) -> Dataset:
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = manufacturer, model_name
    item.PurposeOfReferenceCodeSequence = [code(purpose)]
    return item


def a_reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    return item


def set_derived(ds: Dataset, **values: str) -> None:
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    for keyword, value in values.items():
        setattr(ds, keyword, value)


Change = Callable[[Dataset], object]
MARKED: dict[str, Change] = {
    "SOPInstanceUID is below the UID root": lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3.4.99"),
    "SeriesInstanceUID is below the UID root": lambda ds: setattr(ds, "SeriesInstanceUID", "1.2.3.4.98"),
    "109100": lambda ds: setattr(ds, "ContributingEquipmentSequence", [equipment("109100", "Other", "Model")]),
    "names this gateway": lambda ds: setattr(
        ds, "ContributingEquipmentSequence", [equipment("109102", "Athanor", "Athanor gateway")]
    ),
    "Synthetic Data is YES": lambda ds: setattr(ds, "SyntheticData", "YES"),
    "Secondary Capture": lambda ds: setattr(ds, "SOPClassUID", SecondaryCaptureImageStorage),
    "Conversion Type is SYN": lambda ds: setattr(ds, "ConversionType", "SYN"),
    "Image Type is DERIVED": set_derived,
    "99ATHANOR": lambda ds: setattr(ds, "DerivationCodeSequence", [code("SYN-IMG", "99ATHANOR")]),
    "starts with SYNTH-AI": lambda ds: setattr(ds, "SeriesDescription", "SYNTH-AI STIR <- T2"),
    "Source Image refers": lambda ds: setattr(ds, "SourceImageSequence", [a_reference("1.2.3.4.5")]),
}  # fmt: skip
INNOCENT: dict[str, Change] = {
    "as it was acquired": lambda ds: None,
    "processed by another": lambda ds: setattr(
        ds, "ContributingEquipmentSequence", [equipment("109102", "Other", "Athanor gateway")]
    ),
    "synthetic data NO": lambda ds: setattr(ds, "SyntheticData", "NO"),
    "synthetic aperture in a description": lambda ds: setattr(ds, "SeriesDescription", "synthetic MRI QALAS"),
    "other references": lambda ds: setattr(ds, "SourceImageSequence", [a_reference("1.2.3.40")]),
    "reconstructed by a network": lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "M", "DRG", "DIS2D"]),
    "pydicom's root": lambda ds: setattr(ds, "SOPInstanceUID", "1.2.826.0.1.3680043.8.498.1"),
}  # fmt: skip


@pytest.fixture
def acquired(mr_paths: list[Path]) -> Dataset:
    return pydicom.dcmread(mr_paths[0])


@pytest.mark.parametrize("reason", MARKED)
def test_each_mark_alone_is_enough(acquired: Dataset, reason: str) -> None:
    MARKED[reason](acquired)
    found = find_marks(Attributes(acquired), OWN, nothing_made)
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("reason", MARKED)
def test_marks_survive_the_json_of_the_database(acquired: Dataset, reason: str) -> None:
    MARKED[reason](acquired)
    assert find_marks(Attributes.from_json(Attributes(acquired).to_json()), OWN, nothing_made) is not None


@pytest.mark.parametrize("story", INNOCENT)
def test_what_was_acquired_passes(acquired: Dataset, story: str) -> None:
    INNOCENT[story](acquired)
    assert find_marks(Attributes(acquired), OWN, nothing_made) is None


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID"])
def test_the_ledger_recognises_what_has_no_prefix(acquired: Dataset, keyword: str) -> None:
    made = {str(acquired[keyword].value)}
    own = replace(OWN, uid_root="")
    assert find_marks(Attributes(acquired), own, made.__contains__) == f"{keyword} was made by this gateway"


def test_the_ledger_recognises_a_derivation_of_ours(acquired: Dataset) -> None:
    acquired.SourceImageSequence = [a_reference("2.25.5")]
    assert find_marks(Attributes(acquired), OWN, {"2.25.5"}.__contains__) is not None


def test_a_rule_may_accept_derived_sources_but_no_synthetic_ones(acquired: Dataset) -> None:
    set_derived(acquired, SeriesDescription="ADC map")
    assert find_marks(Attributes(acquired), OWN, nothing_made, accept_derived=True) is None
    acquired.SyntheticData = "YES"
    assert find_marks(Attributes(acquired), OWN, nothing_made, accept_derived=True) is not None


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("DerivationDescription", "denoised by Deep-Learning"),
        ("SeriesDescription", "AI T2"),
        ("ManufacturerModelName", "Synthetic MR"),
        ("ImageComments", "made by a GAN"),
    ],
)
def test_words_of_other_makers_in_derived_images(acquired: Dataset, keyword: str, words: str) -> None:
    set_derived(acquired, **{keyword: words})
    found = find_marks(Attributes(acquired), OWN, nothing_made, accept_derived=True)
    assert found is not None
    assert keyword in found


@pytest.mark.parametrize("words", ["SAIL", "organ", "T2 SAG AIR", "main"])
def test_words_that_only_contain_them(acquired: Dataset, words: str) -> None:
    set_derived(acquired, SeriesDescription=words)
    assert find_marks(Attributes(acquired), OWN, nothing_made, accept_derived=True) is None


def test_reconstruction_by_a_network_is_reported_apart(acquired: Dataset) -> None:
    assert find_reconstruction_flags(Attributes(acquired)) == ()
    acquired.ImageType = ["ORIGINAL", "PRIMARY", "M", "DRG", "NORM", "DRS", "DIS2D"]
    acquired.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0xCA, "LO", ["0.75", "High"])
    assert find_reconstruction_flags(Attributes(acquired)) == ("DRG", "DRS", "(0043,10CA)")


def test_synthetic_data_survives_a_toolkit_that_does_not_know_it(acquired: Dataset, tmp_path: Path) -> None:
    """DCMTK of 2022 gives Synthetic Data the VR UN when it makes implicit VR explicit."""
    acquired.SyntheticData = "YES"
    acquired.save_as(tmp_path / "explicit.dcm", enforce_file_format=True)
    assert run("dcmconv", "+ti", tmp_path / "explicit.dcm", tmp_path / "implicit.dcm").returncode == 0
    assert run("dcmconv", "+te", tmp_path / "implicit.dcm", tmp_path / "back.dcm").returncode == 0
    assert find_marks(read_attributes(tmp_path / "back.dcm"), OWN, nothing_made) == "Synthetic Data is YES"


def test_synthetic_data_of_unknown_vr(acquired: Dataset) -> None:
    acquired.add_new("SyntheticData", "UN", b"YES ")
    assert find_marks(Attributes(acquired), OWN, nothing_made) == "Synthetic Data is YES"


@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
def test_our_own_results_are_stopped_by_every_kind_of_mark(
    mr_source: SourceSeries, marks: Marks, derive: Derive, tmp_path: Path, iod: str
) -> None:
    """A result loses its marks one after the other, the strongest first; each time the next one is found."""
    own = replace(OWN, uid_root="")
    instances = derive(mr_source, mr_source.volume, marks, Encoding(iod=iod))  # type: ignore[arg-type]
    (path, *_) = written(instances, tmp_path / iod)
    for step in ("+ti", "+te"):
        assert run("dcmconv", step, path, path).returncode == 0
    ds = pydicom.dcmread(path)
    for keyword, reason in (
        ("ContributingEquipmentSequence", "109100"),
        ("SyntheticData", "Synthetic Data"),
        ("SOPClassUID", "Secondary Capture"),
        ("ConversionType", "SYN"),
        ("ImageType", "DERIVED"),
        ("DerivationCodeSequence", "99ATHANOR"),
        ("SeriesDescription", "SYNTH-AI"),
    ):
        if iod == "source" and keyword in ("SOPClassUID", "ConversionType"):
            continue
        found = find_marks(Attributes(ds), own, nothing_made)
        assert found is not None
        assert reason in found
        del ds[keyword]

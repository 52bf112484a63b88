"""The phantom series: what scanners' software would find in it, and that nobody takes it for a patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import iod_complaints, run

from gateway.dicom.acquired import Acquisition, write_mr_series
from gateway.dicom.header import read_attributes
from gateway.dicom.loop_guard import OwnIdentity, find_marks
from gateway.dicom.volume import read_series
from pipelines.volume import Volume


def test_validators_find_no_error(mr_paths: list[Path]) -> None:
    assert iod_complaints(mr_paths[0]) == set()
    assert run("dcentvfy", *mr_paths).stderr == ""


def test_reads_back_on_the_same_grid(mr_paths: list[Path], sagittal_volume: Volume) -> None:
    volume = read_series(mr_paths).volume
    assert volume.spacing_mm == pytest.approx(sagittal_volume.spacing_mm)
    # the reader puts its slices along the normal of the image plane, the phantom may count against it
    ends = {volume.position_mm(0), volume.position_mm(4)}
    assert ends == {sagittal_volume.position_mm(0), sagittal_volume.position_mm(4)}
    stored = volume.voxels if volume.position_mm(0) == pytest.approx(sagittal_volume.origin_mm) else volume.voxels[::-1]
    scale = 3500 / sagittal_volume.voxels.max()
    assert np.abs(stored - sagittal_volume.voxels * scale).max() <= 0.51


def test_equal_arguments_give_equal_files(sagittal_volume: Volume, mr_paths: list[Path], tmp_path: Path) -> None:
    again = write_mr_series(sagittal_volume, tmp_path, seed=11)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in mr_paths]


def test_series_of_one_seed_share_the_study(sagittal_volume: Volume, mr_paths: list[Path], tmp_path: Path) -> None:
    stir = Acquisition(
        series_description="STIR TSE SAG", series_number=5, inversion_time_ms=160.0, scanning_sequence=("SE", "IR")
    )
    other = write_mr_series(sagittal_volume, tmp_path, seed=11, acquisition=stir)
    first, second = pydicom.dcmread(mr_paths[0]), pydicom.dcmread(other[0])
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert run("dcentvfy", *mr_paths, *other).stderr == ""


def test_cannot_be_mistaken_for_a_patient(mr_paths: list[Path]) -> None:
    ds = pydicom.dcmread(mr_paths[0])
    assert str(ds.PatientName).startswith("PHANTOM^")
    assert ds.PatientID == "ATHANOR-PHANTOM-11"
    assert "not a patient" in ds.ImageComments


@pytest.mark.parametrize("uid_root", ["", "1.2.3.4.5"])
def test_plays_the_part_of_an_acquired_series(mr_paths: list[Path], uid_root: str) -> None:
    own = OwnIdentity(uid_root, "Athanor", "Athanor gateway", "SYNTH-AI")
    assert find_marks(read_attributes(mr_paths[0]), own, lambda uid: False) is None


def test_a_volume_without_signal_is_refused(sagittal_volume: Volume, tmp_path: Path) -> None:
    dark = replace(sagittal_volume, voxels=np.zeros_like(sagittal_volume.voxels))
    with pytest.raises(ValueError, match="signal above zero"):
        write_mr_series(dark, tmp_path, seed=1)

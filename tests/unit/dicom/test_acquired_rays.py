"""CT series and radiographs of a virtual patient: valid, in the right units, and nobody's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import run

from gateway.commands.phantom import SERIES, Wanted
from gateway.dicom.header import read_attributes
from gateway.dicom.loop_guard import OwnIdentity, find_marks
from gateway.dicom.volume import read_series

SMALL = Wanted(slices=2, matrix=64)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Every series that the command can write of one patient."""
    return {name: write(tmp_path_factory.mktemp(name), 7, SMALL) for name, write in SERIES.items()}


@pytest.mark.parametrize("name", SERIES)
def test_validators_find_no_error(written: dict[str, list[Path]], name: str) -> None:
    paths = written[name]
    for path in paths:
        judged = run("dciodvfy", path)
        errors = [line for line in (judged.stderr + judged.stdout).splitlines() if line.startswith("Error")]
        assert errors == []
    assert run("dcentvfy", *paths).stderr == ""
    assert find_marks(read_attributes(paths[0]), OwnIdentity("", "A", "A gateway", "S"), lambda uid: False) is None
    assert pydicom.dcmread(paths[0]).PatientID == "ATHANOR-PHANTOM-7"


def test_all_mr_contrasts_of_one_seed_pair_up(written: dict[str, list[Path]]) -> None:
    series = [[pydicom.dcmread(path) for path in written[name]] for name in SERIES if pydicom.dcmread(
        written[name][0], stop_before_pixels=True).Modality == "MR"]  # fmt: skip
    assert len(series) == 6
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({str(one[keyword].value) for all_of_them in series for one in all_of_them}) == 1
    assert len({one[0].SeriesInstanceUID for one in series}) == len({one[0].SeriesNumber for one in series}) == 6
    assert len({tuple(tuple(ds.ImagePositionPatient) for ds in one) for one in series}) == 1


def test_ct_is_in_hounsfield_units_and_noisier_at_less_dose(written: dict[str, list[Path]], tmp_path: Path) -> None:
    full = read_series(written["ct"]).volume
    assert full.unit == "HU"
    assert float(full.voxels[:, :2, :2].mean()) == pytest.approx(-1000, abs=60)  # air in the corners
    low = read_series(SERIES["ct"](tmp_path / "low", 7, Wanted(slices=2, matrix=64, dose=0.05))).volume
    assert float(np.std(low.voxels - full.voxels)) > 5.0  # the same anatomy with another noise
    assert abs(float(np.mean(low.voxels - full.voxels))) < 5.0
    thin = read_series(SERIES["ct"](tmp_path / "thin", 7, Wanted(slices=2, matrix=64, thickness_mm=2.0)))
    assert thin.volume.spacing_mm[0] == pytest.approx(2.0)
    assert thin.facts.slice_thickness_mm == pytest.approx(2.0)


def test_spine_ct_shows_the_vertebrae_in_either_plane(written: dict[str, list[Path]], tmp_path: Path) -> None:
    axial = read_series(written["spine-ct"])
    SERIES["spine-ct"](tmp_path, 7, Wanted(slices=2, matrix=64, plane="sagittal"))
    sagittal = read_series(sorted(tmp_path.iterdir()))
    assert (axial.facts.plane, sagittal.facts.plane) == ("axial", "sagittal")
    assert sagittal.facts.image_type[0] == "DERIVED"  # no scanner acquires it so
    assert axial.facts.image_type[:2] == ("ORIGINAL", "PRIMARY")
    for one in (axial, sagittal):
        assert float(np.percentile(one.volume.voxels, 99)) > 200


def test_radiograph_has_a_view_and_no_place(written: dict[str, list[Path]]) -> None:
    (path,) = written["xray"]
    ds = pydicom.dcmread(path)
    assert (ds.Modality, ds.ViewPosition, list(ds.PatientOrientation)) == ("DX", "LL", ["P", "F"])
    assert "ImagePositionPatient" not in ds
    assert "FrameOfReferenceUID" not in ds
    assert float(ds.ImagerPixelSpacing[0]) == pytest.approx(330 / 64)

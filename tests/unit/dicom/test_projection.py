"""Radiographs through reader and writer: a grid, a view, and no position that nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import CREATED, Derive, decoded, run, written
from pydicom.uid import ComputedRadiographyImageStorage

from gateway.commands.phantom import SERIES, Wanted
from gateway.dicom.secondary_capture import Encoding, Marks
from gateway.dicom.volume import SourceSeries, read_series
from gateway.errors import UnsuitableSeries
from pipelines.volume import Volume


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (written_path,) = SERIES["xray"](tmp_path_factory.mktemp("xray"), 5, Wanted(matrix=64))
    return written_path


@pytest.fixture(scope="module")
def source(path: Path) -> SourceSeries:
    return read_series([path])


def changed(path: Path, folder: Path, **values: object) -> Path:
    """A copy of the file with other values; None takes an attribute away."""
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.save_as(folder / "changed.dcm")
    return folder / "changed.dcm"


def test_is_one_slice_on_the_grid_of_its_detector(path: Path, source: SourceSeries) -> None:
    ds = pydicom.dcmread(path)
    assert source.volume.shape == (1, 64, 64)
    assert source.volume.spacing_mm[1:] == pytest.approx(tuple(map(float, ds.ImagerPixelSpacing)))
    assert np.array_equal(source.volume.voxels[0], ds.pixel_array)
    assert source.is_projection
    assert source.facts.modality == "DX"


@pytest.mark.parametrize(
    ("values", "view"),
    [
        ({}, "lateral"),
        ({"ViewPosition": "RL", "PatientOrientation": ["A", "F"]}, "lateral"),
        ({"ViewPosition": None}, "lateral"),
        ({"ViewPosition": "", "PatientOrientation": ["L", "F"]}, "frontal"),
        ({"ViewPosition": "AP", "PatientOrientation": None}, "frontal"),
        ({"ViewPosition": "AP"}, "projection"),  # what it says twice is not the same
        ({"ViewPosition": "LLO", "PatientOrientation": None}, "projection"),
        ({"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"}, "lateral"),
    ],
)
def test_view_by_position_and_orientation(path: Path, tmp_path: Path, values: dict[str, object], view: str) -> None:
    assert read_series([changed(path, tmp_path, **values)]).facts.plane == view


def test_low_is_bright_in_monochrome1(path: Path, source: SourceSeries, tmp_path: Path) -> None:
    turned = read_series([changed(path, tmp_path, PhotometricInterpretation="MONOCHROME1")])
    assert np.array_equal(turned.volume.voxels, 4095 - source.volume.voxels)


@pytest.mark.parametrize("values", [{"ImagerPixelSpacing": None}, {"ImagerPixelSpacing": [0, 1]}])
def test_without_a_spacing_it_is_refused(path: Path, tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(UnsuitableSeries, match="ImagerPixelSpacing") as refused:
        read_series([changed(path, tmp_path, **values)])
    assert refused.value.check == "no-geometry"


def test_two_views_in_one_series_are_refused(path: Path, tmp_path: Path) -> None:
    other = changed(path, tmp_path, SOPInstanceUID="1.2.3.4")
    with pytest.raises(UnsuitableSeries, match="2 projection images"):
        read_series([path, other])


@pytest.mark.parametrize("iod", ["secondary-capture", "source"])
def test_result_is_a_secondary_capture_that_lies_nowhere(
    path: Path, source: SourceSeries, marks: Marks, derive: Derive, tmp_path: Path, iod: str
) -> None:
    """Also for destinations that want an MR Image: that one would need a plane."""
    result = source.volume.with_voxels(np.linspace(0, 4000, 64 * 64, dtype=np.float32).reshape(1, 64, 64))
    (instance,) = derive(source, result, marks, Encoding(iod=iod), created=CREATED)  # type: ignore[arg-type]
    ds = decoded(instance)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (ds.SyntheticData, ds.ConversionType, ds.Modality) == ("YES", "SYN", "MR")
    assert list(ds.PatientOrientation) == ["P", "F"]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceThickness"):
        assert keyword not in ds
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(path).SOPInstanceUID
    (file,) = written([instance], tmp_path)
    judged = run("dciodvfy", file)
    assert [line for line in (judged.stderr + judged.stdout).splitlines() if line.startswith("Error")] == []


def test_a_result_on_another_grid_is_refused(source: SourceSeries, marks: Marks, derive: Derive) -> None:
    fine = Volume(np.ones((1, 128, 128), np.float32), (1.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    with pytest.raises(ValueError, match="another grid"):
        derive(source, fine, marks)

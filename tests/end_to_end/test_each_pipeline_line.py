"""Pipelines that are no translation through the whole line, each by a rule of one gateway: DICOM in, DICOM out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from behaviour import QUICK, destination
from modality import TO_PACS, MakeGateway, sent_and_returned, switched_on
from small_series import write_ct_series

from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import Sandbox, SmallPacs
from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.degradation import degraded
from pipelines.phantoms.acquisition import Scanner
from pipelines.phantoms.ct import STANDARD, Grid
from pipelines.phantoms.ct_volume import scan_volume
from pipelines.phantoms.spine import T1W, T2W, Prescription, Tissue, acquire, truth, virtual_patient
from pipelines.phantoms.trunk_volume import trunk_volume

RULES = f"""
[[rules]]
name = "bone"
pipeline = "mr-to-ct"
destinations = ["pacs"]
when = {{ attribute = "SeriesDescription", contains = "T1" }}

[[rules]]
name = "finer"
pipeline = "t2-super-resolution"
destinations = ["pacs"]
when = {{ all = [{{ attribute = "Modality", equals = "MR" }}, {{ attribute = "Rows", equals = 128 }}] }}

[[rules]]
name = "imagined"
pipeline = "xray-to-t2"
destinations = ["pacs"]
when = {{ all = [{{ attribute = "Modality", equals = "DX" }}, {{ attribute = "ViewPosition", equals = "LL" }}] }}

[[rules]]
name = "thin"
pipeline = "ct-thin-slice"
destinations = ["pacs"]
when = {{ attribute = "Modality", equals = "CT" }}
{TO_PACS}"""
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def node(make_gateway: MakeGateway, pacs: SmallPacs, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A gateway in which those that ship disabled are enabled; its PACS prefers the SOP Class of the source."""
    return make_gateway(
        RULES,
        weights_dir=str(switched_on(tmp_path_factory.mktemp("models") / "all", "mr-to-ct", "xray-to-t2")),
        destinations={"pacs": destination(pacs.port, iod="source", label=False)},
        assemble=QUICK["assemble"],
    )


def hu_of(ds: pydicom.Dataset) -> np.ndarray:
    """The values of an image in HU."""
    return np.asarray(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept))


def test_a_t1w_series_comes_back_in_hu(node: Sandbox, pacs: SmallPacs, tmp_path: Path) -> None:
    patient, prescription = virtual_patient(9601), Prescription(slices=3, matrix=192, fov_mm=211.2)
    acquisition = Acquisition("T1 TSE SAG", repetition_time_ms=T1W.tr_ms, echo_time_ms=T1W.te_ms)
    paths = write_mr_series(acquire(patient, T1W, prescription), tmp_path, seed=9, acquisition=acquisition)
    arrived = sent_and_returned(node, paths, pacs)
    arrived.sort(key=lambda ds: float(ds.ImagePositionPatient[0]))
    assert len(arrived) == len(paths)
    for ds in arrived:
        assert (ds.SOPClassUID, ds.Modality, ds.RescaleType) == (CT_IMAGE, "CT", "HU")
        assert ds.SyntheticData == "YES"
        assert ds.SeriesDescription.startswith("SYNTH-AI")
        assert list(ds.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert (float(ds.WindowCenter), float(ds.WindowWidth)) == (40.0, 400.0)
    hu = np.stack([hu_of(ds) for ds in arrived])
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    tissues = truth(patient, prescription)
    air, fat, muscle, marrow = (
        float(np.median(hu[tissues == tissue]))
        for tissue in (Tissue.AIR, Tissue.SUBCUTANEOUS_FAT, Tissue.MUSCLE, Tissue.MARROW)
    )
    assert air < -900
    assert -200 < fat < -40
    assert fat < muscle < marrow


def test_a_coarse_series_comes_back_fine(node: Sandbox, pacs: SmallPacs, tmp_path: Path) -> None:
    slices, matrix = 3, 128
    volume = acquire(virtual_patient(9502), T2W, Prescription(slices=slices, matrix=matrix), Scanner(full_scale=900.0))
    paths = write_mr_series(volume, tmp_path, seed=9)
    sources = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, paths)}
    arrived = sent_and_returned(node, paths, pacs)
    assert len(arrived) == slices
    for ds in arrived:
        (image,) = ds.SourceImageSequence
        source = sources[str(image.ReferencedSOPInstanceUID)]
        assert (ds.SyntheticData, ds.Rows, ds.Columns) == ("YES", 4 * matrix, 4 * matrix)
        assert ds.InstanceNumber == source.InstanceNumber
        spacing = np.asarray(source.PixelSpacing, float)
        assert np.allclose(np.asarray(ds.PixelSpacing, float), spacing / 4)
        # the corner of the image, half a pixel before the centre of its first pixel
        row, column = np.asarray(source.ImageOrientationPatient, float).reshape(2, 3)
        shift = -1.5 * spacing[1] / 4 * row - 1.5 * spacing[0] / 4 * column
        position = np.asarray(source.ImagePositionPatient, float) + shift
        assert np.allclose(np.asarray(ds.ImagePositionPatient, float), position, atol=1e-4)
        coarse = degraded(ds.pixel_array.astype(np.float32), 4)
        difference = np.sqrt(np.mean((coarse - source.pixel_array) ** 2))
        assert difference < 0.01 * np.ptp(source.pixel_array)
        assert np.abs(np.diff(ds.pixel_array.astype(float))).max() > 0.2 * np.ptp(ds.pixel_array)  # and it is sharp


def test_a_radiograph_comes_back_without_a_position(node: Sandbox, pacs: SmallPacs, tmp_path: Path) -> None:
    paths = write_phantom(tmp_path, 31, "xray")
    source = pydicom.dcmread(paths[0])
    (ds,) = sent_and_returned(node, paths, pacs)
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"  # though the destination prefers an MR Image
    assert (ds.SyntheticData, ds.Modality, ds.Rows, ds.Columns) == ("YES", "MR", source.Rows, source.Columns)
    assert "CAUTION" in ds.ImageComments
    assert list(ds.PatientOrientation) == list(source.PatientOrientation)
    assert "ImagePositionPatient" not in ds
    assert "FrameOfReferenceUID" not in ds


def test_thick_slices_come_back_thin_and_keep_their_means(node: Sandbox, pacs: SmallPacs, tmp_path: Path) -> None:
    slices, size = 3, 224
    patient, rng = trunk_volume(9501, "abdomen"), np.random.default_rng(3)
    thick = scan_volume(patient, Grid(size, size, 0.9), slices, 1.0, STANDARD, 1.0, rng).thick()
    paths = write_ct_series(tmp_path, thick, 0.9, 5.0)
    sent = np.stack([hu_of(pydicom.dcmread(path)) for path in paths])
    arrived = sent_and_returned(node, paths, pacs)
    arrived.sort(key=lambda ds: -float(ds.ImagePositionPatient[2]))  # from the head on, as the source was written
    assert len(arrived) == 5 * slices
    assert {ds.SyntheticData for ds in arrived} == {"YES"}
    places = [float(ds.ImagePositionPatient[2]) for ds in arrived]
    assert np.allclose(places, 2.0 - np.arange(5 * slices), atol=1e-3)  # the first thick one is at 0
    assert {float(ds.SliceThickness) for ds in arrived} == {1.0}
    hu = np.stack([hu_of(ds) for ds in arrived]).reshape(slices, 5, size, size)
    assert np.abs(hu.mean(axis=1) - sent).max() < 1.0  # each voxel was rounded to a whole HU
    assert np.ptp(hu, axis=1).max() > 100  # and they differ

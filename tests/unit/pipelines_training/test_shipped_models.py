"""Every shipped model on the DICOM series of a virtual patient: taken, and what is not meant for it refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

from gateway.dicom.acquired import Acquisition, write_mr_series
from gateway.dicom.provenance import marks_of, require_fit
from gateway.dicom.secondary_capture import Encoding, Equipment, derive_series
from gateway.dicom.volume import SourceSeries, read_series
from gateway.dicom.volume_inputs import on_one_grid
from gateway.errors import UnsuitableSeries
from pipelines.catalog import Catalog
from pipelines.inference import load
from pipelines.phantoms.ct import SOFT, Grid, axial_body, scan
from pipelines.phantoms.ct_volume import scan_volume
from pipelines.phantoms.spine import T1W, T2W, Prescription, Sequence, acquire, virtual_patient
from pipelines.phantoms.trunk_volume import trunk_volume
from pipelines.result import Result
from pipelines.spec import PipelineSpec
from pipelines.training.thin_baselines import cubic
from pipelines.volume import Volume

CATALOG = Catalog.read(Path(__file__).parents[3] / "weights")
EQUIPMENT = Equipment("Athanor", "Athanor gateway", "0.1.0", station_name="ATHANOR", serial_number="17")
PRESCRIPTION = Prescription(slices=3)
LIMIT_MIB = 60  # of all weights together
SOURCES = {"T1W": T1W, "T2W": T2W}


def spine_series(folder: Path, sequence: Sequence) -> list[Path]:
    acquisition = Acquisition(
        series_description=f"{sequence.name[:2]} TSE SAG",
        repetition_time_ms=sequence.tr_ms,
        echo_time_ms=sequence.te_ms,
        inversion_time_ms=sequence.ti_ms,
        scanning_sequence=("SE",) if sequence.ti_ms is None else ("SE", "IR"),
    )
    return write_mr_series(acquire(virtual_patient(9), sequence, PRESCRIPTION), folder, seed=9, acquisition=acquisition)


def ct_series(folder: Path, noisy: np.ndarray, spacing_mm: float, thickness_mm: float = 3.0) -> list[Path]:
    """Axial slices in HU as a scanner stores them: signed, rescaled by -1024."""
    size = noisy.shape[1]
    voxels = np.ones((len(noisy), size, size), np.float32)
    half = 0.5 * (size - 1) * spacing_mm
    axial = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # slices to the head, rows to the back
    blank = Volume(voxels, (thickness_mm, spacing_mm, spacing_mm), (-half, -half, 0.0), axial)
    acquisition = Acquisition(slice_thickness_mm=thickness_mm)
    paths = write_mr_series(blank, folder, seed=9, acquisition=acquisition)
    for path, slice_hu in zip(paths, noisy, strict=True):
        ds = pydicom.dcmread(path)
        for keyword in [e.keyword for e in ds.group_dataset(0x0018) if e.keyword != "SliceThickness"]:
            del ds[keyword]
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.Modality, ds.ImageType, ds.KVP, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "120", "HFS"
        ds.BodyPartExamined, ds.SeriesDescription = "ABDOMEN", "ABD 3.0 B30"
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
        ds.PixelData = np.rint(np.clip(slice_hu, -1024, 3071) + 1024).astype("<i2").tobytes()
        ds.save_as(path, enforce_file_format=True)
    return paths


def through_the_gateway(
    spec: PipelineSpec, source: SourceSeries, beside: Mapping[str, SourceSeries] = MappingProxyType({})
) -> tuple[Result, np.ndarray]:
    """The result of the pipeline, and the values that a viewer gets from the files made of it.

    `source` gives the grid; `beside` are the further inputs by role.
    """
    sources = {spec.grid_role: source, **beside}
    for role, one in sources.items():
        require_fit(spec, one, role)
    result = load(spec)(on_one_grid(sources), lambda done, of: None)
    derived = derive_series(
        source, result.volume, marks_of(spec), Encoding(), EQUIPMENT, uid_root="2.25.7", revision=1,
        options_digest="", series_number=900, created=datetime(2026, 4, 5, tzinfo=UTC), others=list(beside.values()),
    )  # fmt: skip
    shown = []
    for instance in derived:
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(instance.part10))
        assert ds[0x0008001C].value == "YES"  # Synthetic Data
        shown.append(ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0)))
    return result, np.stack(shown)


def test_all_weights_fit_their_budget_and_digests() -> None:
    assert {"t2-to-stir", "t2-to-tirm", "ct-denoise"} <= set(CATALOG)
    for pipeline_id in CATALOG:
        CATALOG.verify(pipeline_id)
        folder = CATALOG[pipeline_id].path
        assert {"manifest.toml", "card.md", "metrics.json"} <= {path.name for path in folder.iterdir()}
    assert sum(path.stat().st_size for path in CATALOG["t2-to-stir"].path.parent.rglob("*")) < LIMIT_MIB * 2**20


@pytest.mark.parametrize("pipeline_id", [name for name in CATALOG if CATALOG[name].inputs[0].role in SOURCES
                                         and CATALOG[name].kind == "translate"])  # fmt: skip
def test_a_translation_takes_its_contrasts_and_no_other(pipeline_id: str, tmp_path: Path) -> None:
    spec = replace(CATALOG[pipeline_id], enabled=True)  # some ship disabled
    series = {name: read_series(spine_series(tmp_path / name, sequence)) for name, sequence in SOURCES.items()}
    source = series[spec.grid_role]
    beside = {one.role: series[one.role] for one in spec.inputs if one.role != spec.grid_role}
    result, shown = through_the_gateway(spec, source, beside)
    assert shown.shape == source.volume.shape
    assert any(check.name == "caution" and check.flagged for check in result.checks)
    low, high = spec.output.range
    assert result.volume.voxels.min() >= low
    assert result.volume.voxels.max() <= high
    if spec.output.unit == "1":
        assert result.volume.voxels.max() > 0.5 * high  # fluid or fat is there
    for contract in spec.inputs:
        (other,) = series.keys() - {contract.role}
        with pytest.raises(UnsuitableSeries):
            require_fit(spec, series[other], contract.role)


def test_a_denoised_ct_is_nearer_to_the_truth_and_stays_in_hu(tmp_path: Path) -> None:
    spec = CATALOG["ct-denoise"]
    body, grid = axial_body(9400, "abdomen"), Grid(320, 320, 0.8)
    clean, noisy = scan(body, grid, 0.1, np.random.default_rng(0)).seen(SOFT)
    source = read_series(ct_series(tmp_path, np.stack([noisy, noisy]), 0.8))
    assert source.volume.unit == "HU"
    result, shown = through_the_gateway(spec, source)
    assert result.volume.unit == "HU"
    assert {check.name: check.flagged for check in result.checks}["hu-shift"] is False
    body_mask = (clean > -200) & (clean < 300)
    before, after = (float(np.std((image - clean)[body_mask])) for image in (noisy, result.volume.voxels[0]))
    assert after < 0.5 * before
    assert abs(float(np.mean((result.volume.voxels[0] - clean)[body_mask]))) < 2.0
    assert np.abs(shown[0] - result.volume.voxels[0])[40:-40, 40:-40].max() <= 0.5 + 1e-3  # rounded to whole HU


def test_thick_slices_come_back_as_thin_ones_nearer_to_the_truth_than_interpolated(tmp_path: Path) -> None:
    spec = CATALOG["ct-thin-slice"]
    patient, rng = trunk_volume(9600, "abdomen"), np.random.default_rng(0)
    scanned = scan_volume(patient, Grid(224, 224, 0.9), 4, 1.0, SOFT, 1.0, rng)
    thick = np.rint(np.clip(scanned.thick(), -1024, 3071))
    source = read_series(ct_series(tmp_path, thick, 0.9, thickness_mm=5.0))
    assert source.facts.slice_thickness_mm == 5.0
    result, shown = through_the_gateway(spec, source)
    assert shown.shape == result.volume.shape == (20, 224, 224)
    assert result.volume.spacing_mm == (1.0, 0.9, 0.9)
    np.testing.assert_allclose(result.volume.voxels.reshape(4, 5, 224, 224).mean(axis=1), thick, atol=0.1)
    body = scanned.thin > -950
    errors = [
        float(np.sqrt(np.mean((volume - scanned.thin)[body] ** 2))) for volume in (result.volume.voxels, cubic(thick))
    ]
    assert errors[0] < 0.9 * errors[1]


def test_a_denoiser_does_not_take_mr(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableSeries):
        require_fit(CATALOG["ct-denoise"], read_series(spine_series(tmp_path, T2W)))

"""The small model, headers that it takes, and volumes to give it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import model_files
import numpy as np
import pytest
import torch

from pipelines.inference import Pipeline, load
from pipelines.spec import SeriesFacts, read_manifest
from pipelines.volume import Volume


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """`model_files.write_model` into a weights folder of this test's own."""
    return partial(model_files.write_model, tmp_path / "weights")


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The small model, loaded."""
    return load(read_manifest(model_files.write_model(tmp_path_factory.mktemp("weights"))))


@pytest.fixture
def facts() -> SeriesFacts:
    """A sagittal T2W of the lumbar spine, as the manifest above wants it."""
    return SeriesFacts(
        modality="MR",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        image_type=("ORIGINAL", "PRIMARY", "M", "SE"),
        plane="sagittal",
        spacing_mm=(4.4, 0.7, 0.7),
        shape=(15, 384, 384),
        tr_ms=3500.0,
        te_ms=100.0,
        ti_ms=None,
        scanning_sequence=("SE",),
        sequence_variant=("SK", "SP", "OSP"),
        scan_options=("PFP",),
        body_part="LSPINE",
        series_description="T2 TSE SAG",
        contrast_agent=None,
        burned_in=None,
        synthetic=False,
        patient_age_years=45.0,
    )


@pytest.fixture
def make_volume() -> Callable[..., Volume]:
    """Sagittal slices: a smooth body, a little brighter from slice to slice, with a little noise."""
    return _smooth_body


@pytest.fixture
def volume() -> Volume:
    """Six sagittal slices of 45 x 38 pixels of 1 mm."""
    return _smooth_body()


def _smooth_body(slices: int = 6, rows: int = 45, columns: int = 38, spacing_mm: float = 1.0) -> Volume:
    row, column = np.mgrid[:rows, :columns] * 6.0 / max(rows, columns)
    body = 1.0 + np.sin(row + 0.5) * np.cos(column * 1.3)
    gain = np.linspace(0.8, 1.2, slices)[:, None, None]
    voxels = 400.0 * body * gain + np.random.default_rng(3).normal(0.0, 8.0, (slices, rows, columns))
    direction = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).T
    spacing = (4.4, spacing_mm, spacing_mm)
    return Volume(voxels.astype(np.float32), spacing, (-10.0, -20.0, 30.0), direction)

"""Small acquired series and what derives results from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import CREATED, Derive, as_ct, decoded
from pydicom.dataset import Dataset

from gateway.dicom.acquired import write_mr_series
from gateway.dicom.secondary_capture import DerivedInstance, Encoding, Equipment, Marks, derive_series
from gateway.dicom.volume import SourceSeries, read_series
from pipelines.volume import Volume

_SAGITTAL = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]).T  # left, feet, posterior


@pytest.fixture(scope="session")
def sagittal_volume() -> Volume:
    """Five sagittal slices of 96 x 128 with an off-centre bright body and empty corners."""
    row, column = np.mgrid[:96, :128]
    body = np.exp(-((((row - 50) / 30) ** 2 + ((column - 60) / 25) ** 2) ** 2))
    noise = np.random.default_rng(3).random((5, 96, 128)) * 0.02
    voxels = (body * np.linspace(0.8, 1.0, 5)[:, None, None] + noise).astype(np.float32)
    return Volume(voxels, (4.4, 0.75, 0.8125), (-8.8, -60.0, 35.5), _SAGITTAL)


@pytest.fixture(scope="session")
def mr_paths(sagittal_volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An acquired MR series on disk; not to be changed."""
    return write_mr_series(sagittal_volume, tmp_path_factory.mktemp("mr"), seed=11)


@pytest.fixture(scope="session")
def mr_source(mr_paths: list[Path]) -> SourceSeries:
    """The acquired MR series as it is read."""
    return read_series(mr_paths)


@pytest.fixture(scope="session")
def ct_paths(mr_paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same grid as an acquired CT: signed, 13 bits, rescaled by -1024, with a window."""
    folder = tmp_path_factory.mktemp("ct")
    return [as_ct(path, folder / path.name) for path in mr_paths]


@pytest.fixture(scope="session")
def ct_source(ct_paths: list[Path]) -> SourceSeries:
    """The acquired CT series as it is read, in HU."""
    return read_series(ct_paths)


@pytest.fixture(scope="session")
def marks() -> Marks:
    """What a T2W to STIR generator says of its results."""
    return Marks("t2-to-stir", "1.2.3", "pix2pix conditional GAN", "STIR", "STIR", "0f" * 32, "MR", (0.0, 4095.0))


@pytest.fixture(scope="session")
def ct_marks(marks: Marks) -> Marks:
    """What a CT generator says of its results."""
    return replace(marks, contrast="CT", marker="CT", modality="CT", value_range=(-1024.0, 3071.0))


@pytest.fixture(scope="session")
def equipment() -> Equipment:
    """The gateway."""
    return Equipment("Athanor", "Athanor gateway", "0.1.0", station_name="ATHANOR", serial_number="17")


@pytest.fixture(scope="session")
def derive(equipment: Equipment) -> Derive:
    """`derive_series` with everything given but source, result and marks."""

    def call(
        source: SourceSeries, result: Volume, marks: Marks, encoding: Encoding | None = None, **given: object
    ) -> list[DerivedInstance]:
        arguments = {
            "uid_root": "", "revision": 1, "options_digest": "", "series_number": 401, "created": CREATED, **given
        }  # fmt: skip
        return list(derive_series(source, result, marks, encoding or Encoding(), equipment, **arguments))  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="session")
def mr_result(mr_source: SourceSeries) -> Volume:
    """What a generator might give: other values on the same grid, within its range."""
    voxels = mr_source.volume.voxels
    return mr_source.volume.with_voxels((3900 - voxels * 0.9).astype(np.float32))


@pytest.fixture(scope="session")
def mr_derived(mr_source: SourceSeries, mr_result: Volume, marks: Marks, derive: Derive) -> list[DerivedInstance]:
    return derive(mr_source, mr_result, marks)


@pytest.fixture(scope="session")
def mr_ds(mr_derived: list[DerivedInstance]) -> Dataset:
    return decoded(mr_derived[0])


@pytest.fixture
def mr_sources(mr_paths: list[Path]) -> list[Dataset]:
    """The source's data sets in the order of its slices, to be changed at will."""
    return [pydicom.dcmread(path) for path in mr_paths]

"""Small sagittal T2W series that the released generator takes, what a test wants to be wrong with them, and CT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.volume import Volume

Edit = Callable[[int, Dataset], None]
"""Changes the data set of slice 0, 1, 2 ... before it is written again."""

# sagittal: slices from the patient's right to the left, rows to the feet, columns to the back (LPS)
SAGITTAL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).T
AXIAL = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]).T


def write_small_series(
    folder: Path,
    seed: int,
    slices: int = 4,
    *,
    direction: np.ndarray = SAGITTAL,
    without: int | None = None,
    edit: Edit | None = None,
    **attributes: object,
) -> list[Path]:
    """The files of a series of 128 x 128 pixels of 1.2 mm, without the slice of that index.

    `attributes` are set in every instance, then `edit` changes it.
    """
    row, column = np.mgrid[:128, :128] / 20.0
    body = 1.0 + np.sin(row + seed) * np.cos(column * 1.3)
    noise = np.random.default_rng(seed).normal(0.0, 0.05, (slices, 128, 128))
    voxels = 400.0 * np.clip(body * np.linspace(0.8, 1.2, slices)[:, None, None] + noise, 0.0, None)
    volume = Volume(voxels.astype(np.float32), (4.4, 1.2, 1.2), (-10.0, -70.0, 80.0), direction)
    paths = write_mr_series(volume, folder, seed=seed)
    for index, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        # the scanner's sum that would name the total of a series: most tests send parts of one
        del ds.ImagesInAcquisition
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        if edit is not None:
            edit(index, ds)
        ds.save_as(path)
    return [path for index, path in enumerate(paths) if index != without]


def write_ct_series(folder: Path, hu: np.ndarray, spacing_mm: float, thickness_mm: float) -> list[Path]:
    """The files of axial slices of an abdomen in HU, signed, from the head on; `hu` has slices, rows, columns."""
    half = 0.5 * (hu.shape[1] - 1) * spacing_mm
    blank = Volume(np.ones(hu.shape, np.float32), (thickness_mm, spacing_mm, spacing_mm), (-half, -half, 0.0), AXIAL)
    acquisition = Acquisition(f"ABD {thickness_mm:.1f} B30", slice_thickness_mm=thickness_mm)
    paths = write_mr_series(blank, folder, seed=7, acquisition=acquisition)
    for path, slice_hu in zip(paths, hu, strict=True):
        ds = pydicom.dcmread(path)
        for keyword in [one.keyword for one in ds.group_dataset(0x0018) if one.keyword != "SliceThickness"]:
            del ds[keyword]
        del ds.ImagesInAcquisition, ds.WindowCenter, ds.WindowWidth
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.Modality, ds.ImageType, ds.KVP, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "120", "HFS"
        ds.BodyPartExamined = "ABDOMEN"
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
        ds.PixelData = np.rint(slice_hu.clip(-1024, 3071)).astype("<i2").tobytes()
        ds.save_as(path)
    return paths


def series_uid(paths: list[Path]) -> str:
    """Series Instance UID of the first file."""
    return str(pydicom.dcmread(paths[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def instance_uids(paths: list[Path]) -> list[str]:
    """SOP Instance UIDs in the order of the files."""
    return [str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in paths]

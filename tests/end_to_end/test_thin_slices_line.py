"""Thick CT slices through the whole line by a rule: five for each come back where they belong, their means kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from behaviour import QUICK, destination
from modality import TO_PACS, MakeGateway, sent_and_returned
from pydicom.uid import CTImageStorage
from small_series import AXIAL

from gateway.commands.sandbox import SmallPacs
from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.phantoms.ct import STANDARD, Grid
from pipelines.phantoms.ct_volume import scan_volume
from pipelines.phantoms.trunk_volume import trunk_volume
from pipelines.volume import Volume

RULES = f"""{TO_PACS}
[[rules]]
name = "thin"
pipeline = "ct-thin-slice"
destinations = ["pacs"]
when = {{ attribute = "Modality", equals = "CT" }}
"""
THICK_SLICES, SIZE = 3, 224


def write_thick_ct(folder: Path) -> tuple[list[Path], np.ndarray]:
    """(files of 5 mm slices of a virtual patient's abdomen, their HU)."""
    grid = Grid(SIZE, SIZE, 0.9)
    rng = np.random.default_rng(3)
    thick = scan_volume(trunk_volume(9501, "abdomen"), grid, THICK_SLICES, 1.0, STANDARD, 1.0, rng).thick()
    thick = np.rint(np.clip(thick, -1024, 3071))
    half = 0.5 * (SIZE - 1) * 0.9
    blank = Volume(np.ones(thick.shape, np.float32), (5.0, 0.9, 0.9), (-half, -half, 0.0), AXIAL)
    paths = write_mr_series(blank, folder, seed=9, acquisition=Acquisition("ABD 5.0 B30", slice_thickness_mm=5.0))
    for path, slice_hu in zip(paths, thick, strict=True):
        ds = pydicom.dcmread(path)
        for keyword in [one.keyword for one in ds.group_dataset(0x0018) if one.keyword != "SliceThickness"]:
            del ds[keyword]
        del ds.ImagesInAcquisition, ds.WindowCenter, ds.WindowWidth
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.Modality, ds.ImageType, ds.KVP, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "120", "HFS"
        ds.BodyPartExamined = "ABDOMEN"
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
        ds.PixelData = slice_hu.astype("<i2").tobytes()
        ds.save_as(path)
    return paths, thick


def test_thick_slices_come_back_thin(make_gateway: MakeGateway, pacs: SmallPacs, tmp_path: Path) -> None:
    node = make_gateway(
        RULES,
        destinations={"pacs": destination(pacs.port, iod="source", label=False)},
        assemble=QUICK["assemble"],
    )
    paths, thick = write_thick_ct(tmp_path)
    arrived = sent_and_returned(node, paths, pacs)
    arrived.sort(key=lambda ds: -float(ds.ImagePositionPatient[2]))  # from the head on, as the source was written
    assert len(arrived) == 5 * THICK_SLICES
    assert {ds.SyntheticData for ds in arrived} == {"YES"}
    places = [float(ds.ImagePositionPatient[2]) for ds in arrived]
    assert np.allclose(places, 2.0 - np.arange(5 * THICK_SLICES), atol=1e-3)  # the first thick one is at 0
    assert {float(ds.SliceThickness) for ds in arrived} == {1.0}
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in arrived])
    means = hu.reshape(THICK_SLICES, 5, SIZE, SIZE).mean(axis=1)
    assert np.abs(means - thick).max() < 1.0  # each voxel was rounded to a whole HU
    assert np.ptp(hu.reshape(THICK_SLICES, 5, SIZE, SIZE), axis=1).max() > 100  # and they differ

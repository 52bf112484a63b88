"""A coarse T2W series through the whole line by a rule: it comes back four times as fine, in the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from behaviour import QUICK, destination
from modality import MakeGateway, sent_and_returned

from gateway.commands.sandbox import SmallPacs
from gateway.dicom.acquired import write_mr_series
from pipelines.degradation import degraded
from pipelines.phantoms.acquisition import Prescription, Scanner, acquire
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.sequences import T2W

RULES = """
[[rules]]
name = "finer"
pipeline = "t2-super-resolution"
destinations = ["pacs"]
when = { attribute = "Modality", equals = "MR" }
"""
SLICES, MATRIX = 3, 128


def test_a_coarse_series_comes_back_fine(make_gateway: MakeGateway, pacs: SmallPacs, tmp_path: Path) -> None:
    node = make_gateway(
        RULES,
        destinations={"pacs": destination(pacs.port, iod="source", label=False)},
        assemble=QUICK["assemble"],
    )
    volume = acquire(virtual_patient(9502), T2W, Prescription(slices=SLICES, matrix=MATRIX), Scanner(full_scale=900.0))
    paths = write_mr_series(volume, tmp_path, seed=9)
    sources = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, paths)}
    arrived = sent_and_returned(node, paths, pacs)
    assert len(arrived) == SLICES
    for ds in arrived:
        (image,) = ds.SourceImageSequence
        source = sources[str(image.ReferencedSOPInstanceUID)]
        assert (ds.SyntheticData, ds.Rows, ds.Columns) == ("YES", 4 * MATRIX, 4 * MATRIX)
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

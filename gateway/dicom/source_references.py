"""Which images a derived instance was made from: Source Image Sequence and Referenced Series Sequence."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
from pydicom.dataset import Dataset

from gateway.dicom.marks import SOURCE_IMAGE_FOR_PROCESSING, code
from gateway.dicom.volume_source import SourceFrame, SourceSeries
from pipelines.resampling import same_grid
from pipelines.volume import Volume


def refer_to(ds: Dataset, frames: Sequence[SourceFrame], *, preserved: bool) -> None:
    """Add frames of one series to the sources of `ds`; `preserved`: their voxels lie where those of `ds` do."""
    images, references = [], []
    for frame in frames:
        reference = Dataset()
        reference.ReferencedSOPClassUID = frame.sop_class_uid
        reference.ReferencedSOPInstanceUID = frame.sop_instance_uid
        if frame.frame_number is not None:
            reference.ReferencedFrameNumber = frame.frame_number
        references.append(reference)
        image = deepcopy(reference)
        image.SpatialLocationsPreserved = "YES" if preserved else "NO"
        image.PurposeOfReferenceCodeSequence = [
            code(SOURCE_IMAGE_FOR_PROCESSING, "DCM", "Source image for image processing operation")
        ]
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID = frames[0].ds.SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    ds.SourceImageSequence = [*ds.get("SourceImageSequence", ()), *images]
    ds.ReferencedSeriesSequence = [*ds.get("ReferencedSeriesSequence", ()), series]


def add_references(ds: Dataset, grid: Volume, index: int, other: SourceSeries) -> None:
    """Add to the sources of slice `index` of `grid` those frames of `other` that were resampled into it."""
    preserved = same_grid(grid, other.volume)
    refer_to(ds, [other.frames[at] for at in _frames_at(grid, index, other.volume)], preserved=preserved)


def _frames_at(grid: Volume, index: int, volume: Volume) -> list[int]:
    """The slices of `volume` on both sides of the middle of a slice of `grid`; the nearest when it lies beyond."""
    _, rows, columns = grid.shape
    middle = np.array([index, (rows - 1) / 2, (columns - 1) / 2]) * grid.spacing_mm
    place = np.array(grid.origin_mm) + grid.direction @ middle - np.array(volume.origin_mm)
    at = float(place @ volume.direction[:, 0]) / volume.spacing_mm[0]
    last = volume.shape[0] - 1
    low, high = (int(np.clip(edge(round(at, 3)), 0, last)) for edge in (np.floor, np.ceil))
    return sorted({low, high})

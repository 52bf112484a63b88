"""`read_series`: the stored instances of one series as a `Volume`, or a refusal by name.

Headers come first: everything that can be refused is refused before a pixel is decoded. Then one frame at a
time is decoded into its slice, so that the peak is the volume and one instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.pixels import stored_frames
from gateway.dicom.projection import detector_grid, is_projection
from gateway.dicom.volume_facts import series_facts
from gateway.dicom.volume_frames import FrameHeader, read_frame_headers
from gateway.dicom.volume_grid import span_grid
from gateway.dicom.volume_source import SourceFrame, SourceSeries, StoredPixels
from gateway.dicom.volume_values import numbers_of, text_of, texts_of
from gateway.errors import UnsuitableSeries
from pipelines.volume import Volume

__all__ = ["LIMIT_BYTES", "SourceFrame", "SourceSeries", "StoredPixels", "read_series"]

LIMIT_BYTES = 2 * 2**30  # 1000 slices of 512 x 1024 as float32


def read_series(
    paths: Sequence[Path], *, limit_bytes: int = LIMIT_BYTES, decoder: DecoderProcess | None = None
) -> SourceSeries:
    """The series in the Part 10 files at `paths`, single-frame or enhanced multi-frame, in any order.

    A radiograph becomes one slice on the grid of its detector, which lies nowhere in the patient.

    Compressed frames are decoded by `decoder`, or by one that ends with this call.

    Slices are sorted by their positions along the normal; voxels are in the unit of the modality (HU for CT),
    high is bright. Raises NotDicom for a file that is none, and UnsuitableSeries whose `check` is one of
    no-pixel-data, too-large, pixel-format, colour, mixed-series, mixed-pixels, mixed-geometry,
    mixed-orientation, mixed-spacing, mixed-contrast, no-geometry, duplicate-positions, missing-slices,
    gantry-tilt, localizer, undecodable.
    """
    headers = read_frame_headers(paths, limit_bytes)
    _require_one(headers, "mixed-series", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPClassUID")
    _require_one(headers, "mixed-pixels", "BitsAllocated", "PixelRepresentation", "PhotometricInterpretation")
    unsorted = [header.ds for header in headers]
    grid = detector_grid(unsorted) if is_projection(unsorted[0]) else span_grid(unsorted)
    in_order = [headers[index] for index in grid.order]
    datasets = [header.ds for header in in_order]
    facts = series_facts(datasets, grid)
    stored = _stored_pixels(datasets)
    unit = "HU" if facts.modality == "CT" and stored.rescale_type in ("HU", "") else "1"
    return SourceSeries(
        volume=Volume(_voxels(in_order, stored, decoder), grid.spacing_mm, grid.origin_mm, grid.direction, unit),
        frames=tuple(_source_frame(header, index) for index, header in enumerate(in_order)),
        facts=facts,
        stored=stored,
    )


def _require_one(headers: Sequence[FrameHeader], check: str, *keywords: str) -> None:
    for keyword in keywords:
        values = {text_of(header.ds, keyword) for header in headers}
        if len(values) > 1:
            raise UnsuitableSeries(check, f"{len(values)} values of {keyword}", "one in the whole series")


def _stored_pixels(frames: Sequence[Dataset]) -> StoredPixels:
    first = frames[0]
    bits_stored = max(int(ds.BitsStored) for ds in frames)
    rescales = [_rescale(ds) for ds in frames]
    lossy = [ds for ds in frames if text_of(ds, "LossyImageCompression") == "01"]
    return StoredPixels(
        bits_allocated=int(first.BitsAllocated),
        bits_stored=bits_stored,
        high_bit=bits_stored - 1,
        signed=first.PixelRepresentation == 1,
        slope=rescales[0][0],
        intercept=rescales[0][1],
        rescale_type=text_of(first, "RescaleType"),
        photometric=str(first.PhotometricInterpretation),
        uniform_rescale=len(set(rescales)) == 1,
        lossy=bool(lossy),
        lossy_ratios=numbers_of(lossy[0], "LossyImageCompressionRatio") if lossy else (),
        lossy_methods=texts_of(lossy[0], "LossyImageCompressionMethod") if lossy else (),
    )


def _rescale(ds: Dataset) -> tuple[float, float]:
    """(slope, intercept) of the Modality LUT (PS3.3 C.11.1); the identity where there is none."""
    slope, intercept = (numbers_of(ds, keyword) or (None,) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope[0] == 0:
        raise UnsuitableSeries("pixel-format", "Rescale Slope 0", "another slope", "all voxels would be alike")
    return (1.0 if slope[0] is None else slope[0], intercept[0] or 0.0)


def _voxels(
    in_order: Sequence[FrameHeader], stored: StoredPixels, decoder: DecoderProcess | None
) -> NDArray[np.float32]:
    """float32 (slices, rows, columns) in the order of the grid, each instance decoded once."""
    first = in_order[0].ds
    voxels = np.empty((len(in_order), first.Rows, first.Columns), np.float32)
    by_instance = sorted(enumerate(in_order), key=lambda entry: (entry[1].path, entry[1].frame_number or 0))
    with nullcontext(decoder) if decoder else DecoderProcess() as apart:
        for path, entries in groupby(by_instance, key=lambda entry: entry[1].path):
            slices = list(entries)
            frames = stored_frames(path, slices[0][1].number_of_frames, apart)
            for (index, header), frame in zip(slices, frames, strict=True):
                bright = stored.inverted(frame) if stored.photometric == "MONOCHROME1" else frame
                slope, intercept = _rescale(header.ds)
                voxels[index] = bright * slope + intercept  # in float64, rounded once
    return voxels


def _source_frame(header: FrameHeader, index: int) -> SourceFrame:
    number = numbers_of(header.ds, "InstanceNumber")
    return SourceFrame(
        path=header.path,
        sop_class_uid=text_of(header.ds, "SOPClassUID"),
        sop_instance_uid=text_of(header.ds, "SOPInstanceUID"),
        instance_number=int(number[0]) if number else index + 1,
        frame_number=header.frame_number,
        ds=header.ds,
    )

"""The grid that the planes of a series span, or the word for why they span none (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gateway.dicom.volume_values import numbers_of, positive_of, text_of, texts_of
from gateway.errors import UnsuitableSeries

_SAME_COSINE = 1e-3  # cosines are written with 4 to 6 decimals; 1e-3 is 0.06 degrees
_SAME_SPACING = 1e-3  # fraction of the pixel spacing
_SAME_POSITION_MM = 0.01
# fraction of the slice spacing by which a slice may stand off the regular grid: no slice is interpolated
_REGULAR = 0.05
_MISSING = 1.5  # a step this many times the usual one has room for another slice
_SHIFT = 0.5  # fraction of a pixel by which slices may stand off the normal

# what differs between frames that lie in one place
_BESIDES_PLACE = (
    *("EchoTime", "EffectiveEchoTime", "EchoNumbers", "InversionTime", "FlipAngle", "TriggerTime"),
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "StackID"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "ImageType", "FrameType"),
)

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """`order` sorts the frames along the normal; the other fields are those of `pipelines.volume.Volume`."""

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: Vector


def span_grid(frames: Sequence[Dataset]) -> Grid:
    """The grid of `frames`, whatever order they come in and whatever their Instance Numbers say.

    Raises UnsuitableSeries: no-geometry, mixed-geometry, mixed-orientation, mixed-spacing,
    duplicate-positions, missing-slices, gantry-tilt.
    """
    first = frames[0]
    _require_same(frames, "mixed-geometry", "Rows", "Columns", "FrameOfReferenceUID")
    cosines = np.array([_numbers(ds, "ImageOrientationPatient", 6) for ds in frames])
    _require_close(cosines, _SAME_COSINE, "mixed-orientation", "Image Orientation (Patient)")
    in_plane = np.array([_numbers(ds, "PixelSpacing", 2) for ds in frames])
    if in_plane.min() <= 0:
        raise UnsuitableSeries("no-geometry", f"Pixel Spacing {in_plane.min():g}", "a positive spacing")
    _require_close(in_plane, _SAME_SPACING * in_plane.min(), "mixed-spacing", "Pixel Spacing")
    # means of sorted numbers: a different order of the files must not change the last bit
    direction = _direction(np.sort(cosines, axis=0).mean(axis=0))
    positions = np.array([_numbers(ds, "ImagePositionPatient", 3) for ds in frames])
    along = positions @ direction[:, 0]
    order = np.argsort(along, kind="stable")
    row_spacing, column_spacing = np.sort(in_plane, axis=0).mean(axis=0).tolist()
    if len(frames) == 1:
        slice_spacing = _declared_spacing(first)
    else:
        slice_spacing = _slice_spacing(along[order], [frames[index] for index in order])
        _require_no_tilt(positions[order], direction[:, 0], min(row_spacing, column_spacing))
    x, y, z = positions[order[0]].tolist()
    return Grid(tuple(order.tolist()), (slice_spacing, row_spacing, column_spacing), (x, y, z), direction)


def _numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    numbers = numbers_of(ds, keyword)
    if len(numbers) != count:
        advice = "the pipelines need the patient's space"
        raise UnsuitableSeries("no-geometry", f"no usable {keyword}", f"{count} numbers in every frame", advice)
    return numbers


def _require_same(frames: Sequence[Dataset], check: str, *keywords: str) -> None:
    for keyword in keywords:
        values = {text_of(ds, keyword) or "none" for ds in frames}
        if len(values) > 1:
            shown = "different values" if len(values) > 3 or keyword.endswith("UID") else ", ".join(sorted(values))
            raise UnsuitableSeries(
                check, f"{keyword} {shown}", "one value in the series", "send the parts as series of their own"
            )


def _require_close(values: Vector, tolerance: float, check: str, name: str) -> None:
    spread = float(np.ptp(values, axis=0).max())
    if spread > tolerance:
        raise UnsuitableSeries(
            check,
            f"{name} that differ by {spread:.4g}",
            f"at most {tolerance:.2g}",
            "send the parts as series of their own",
        )


def _direction(cosines: Vector) -> Vector:
    """Unit columns (normal, down a column, along a row) from the cosines; normal = row x column."""
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if any(abs(length - 1) > 10 * _SAME_COSINE for length in lengths) or abs(row @ column) > 10 * _SAME_COSINE:
        raise UnsuitableSeries(
            "no-geometry", "Image Orientation (Patient) that is not orthonormal", "two orthogonal unit vectors"
        )
    row = row / lengths[0]
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.stack((np.cross(row, column), column, row), axis=1)


def _declared_spacing(ds: Dataset) -> float:
    """Distance between slices of a series of one slice, as its header says."""
    spacing = positive_of(ds, "SpacingBetweenSlices", "SliceThickness")
    if spacing is None:
        expected = "Slice Thickness or Spacing Between Slices"
        raise UnsuitableSeries("no-geometry", "one slice without a thickness", expected)
    return spacing


def _slice_spacing(along: Vector, frames: Sequence[Dataset]) -> float:
    """Mean step of positions sorted along the normal, which must be regular."""
    steps = np.diff(along)
    twins = np.flatnonzero(steps < _SAME_POSITION_MM)
    if twins.size:
        raise UnsuitableSeries(
            "duplicate-positions",
            f"{twins.size} frames in the place of another" + _differences(frames, int(twins[0])),
            "one frame in each place",
            "several echoes, times, diffusion weightings or copies; send each as a series of its own",
        )
    usual = float(np.median(steps[steps < _MISSING * steps.min()]))
    declared = positive_of(frames[0], "SpacingBetweenSlices")
    thickness = positive_of(frames[0], "SliceThickness")
    # some devices write the gap in place of the distance between centres; a gap is less than the thickness
    if declared is not None and declared >= (thickness or 0) and usual > _MISSING * declared:
        _refuse_missing(usual, declared)
    if steps.max() > _MISSING * usual:
        _refuse_missing(float(steps.max()), usual)
    spacing = float(along[-1] - along[0]) / len(steps)
    off = float(np.abs(along - along[0] - spacing * np.arange(len(along))).max())
    if off > max(_REGULAR * spacing, _SAME_POSITION_MM):
        raise UnsuitableSeries(
            "mixed-spacing",
            f"slices {off:.2f} mm off a regular grid of {spacing:.2f} mm",
            f"at most {_REGULAR:.0%} off",
        )
    return spacing


def _refuse_missing(found: float, expected: float) -> NoReturn:
    raise UnsuitableSeries(
        "missing-slices",
        f"a step of {found:.2f} mm",
        f"{expected:.2f} mm between all slices",
        "send the whole series again",
    )


def _differences(frames: Sequence[Dataset], index: int) -> str:
    """What distinguishes two frames in one place, for people."""
    one, other = frames[index], frames[index + 1]
    differing = [word for word in _BESIDES_PLACE if texts_of(one, word) != texts_of(other, word)]
    return f" (they differ in {', '.join(differing)})" if differing else ""


def _require_no_tilt(positions: Vector, normal: Vector, pixel_mm: float) -> None:
    """Raise UnsuitableSeries when slices are shifted within their planes: a sheared stack is no Volume."""
    offsets = positions - positions[0]
    within = offsets - np.outer(offsets @ normal, normal)
    shift = float(np.linalg.norm(within, axis=1).max())
    if shift > _SHIFT * pixel_mm:
        raise UnsuitableSeries(
            "gantry-tilt",
            f"slices shifted by up to {shift:.2f} mm within their planes",
            f"at most {_SHIFT * pixel_mm:.2f} mm",
        )

"""Where each slice of a result lies, and which slices of its source it was made from, on whatever grid it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.dicom.encoding import decimal
from gateway.dicom.volume_source import SourceFrame, SourceSeries
from pipelines.resampling import same_grid
from pipelines.volume import Volume

_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-4


@dataclass(frozen=True, slots=True)
class ResultSlice:
    """One slice of a result.

    frames  those of the source that it lies at or between, the nearest first
    number  Instance Number
    name    what tells it from the other slices of the series
    plane   its own Image Plane attributes by keyword; empty where it lies on the grid of its source. None: leave out
    """

    frames: tuple[SourceFrame, ...]
    number: int
    name: str
    plane: Mapping[str, str | list[str] | None] = field(default_factory=dict)


def place_slices(source: SourceSeries, result: Volume) -> list[ResultSlice]:
    """The slices of `result` in its order.

    They may be finer or more than those of `source`, in its extent and orientation. Raises ValueError for any other
    result.
    """
    grid, numbers = source.volume, _instance_numbers(source)
    if same_grid(grid, result):
        return [
            ResultSlice((frame,), number, _name(frame)) for frame, number in zip(source.frames, numbers, strict=True)
        ]
    if source.is_projection:
        raise ValueError(
            "result: found another grid, expected that of the radiograph, which has no place to compute with"
        )
    offset_mm = _offset_mm(grid, result)
    step, row_mm, column_mm = result.spacing_mm
    in_plane: dict[str, str | list[str] | None] = {"PixelSpacing": [decimal(row_mm), decimal(column_mm)]}
    slices = []
    if _same_stack(grid, result, float(offset_mm[0])):
        shift = grid.direction[:, 1:] @ offset_mm[1:]
        for frame, number in zip(source.frames, numbers, strict=True):
            position = _decimals(np.asarray(frame.ds.ImagePositionPatient, np.float64) + shift)
            slices.append(_slice(result, (frame,), number, {**in_plane, "ImagePositionPatient": position}))
        return slices
    # as thick as they are far apart; Slice Location has no defined origin, so that it cannot be computed
    stack = {**in_plane, "SliceThickness": decimal(step), "SpacingBetweenSlices": decimal(step), "SliceLocation": None}
    count = result.shape[0]
    rising = range(1, count + 1)
    for index, number in enumerate(rising if numbers[0] <= numbers[-1] else reversed(rising)):
        frames = _frames_at(source, (float(offset_mm[0]) + index * step) / grid.spacing_mm[0])
        position = _decimals(np.asarray(result.position_mm(index)))
        slices.append(_slice(result, frames, number, {**stack, "ImagePositionPatient": position}))
    return slices


def _offset_mm(grid: Volume, result: Volume) -> NDArray[np.float64]:
    """From the first voxel of `grid` to that of `result` along its axes; raises ValueError for another extent."""
    if not np.allclose(grid.direction, result.direction, atol=_SAME_DIRECTION):
        raise ValueError("result: found another orientation, expected the source's")
    offset = grid.direction.T @ (np.asarray(result.origin_mm) - np.asarray(grid.origin_mm))
    fine, coarse = np.asarray(result.spacing_mm), np.asarray(grid.spacing_mm)
    before = (offset - 0.5 * fine) + 0.5 * coarse
    behind = (np.asarray(grid.shape) - 0.5) * coarse - (offset + (np.asarray(result.shape) - 0.5) * fine)
    # its outermost voxels lie within the source's: edge on edge, or centre on centre
    inside = np.minimum(before, behind).min() >= -_SAME_PLACE_MM
    if not inside or np.any(np.maximum(before, behind) > 0.5 * coarse + _SAME_PLACE_MM):
        raise ValueError(
            f"result: found shape {result.shape} of {result.spacing_mm} mm, expected the extent of its source, "
            f"{grid.shape} of {grid.spacing_mm} mm"
        )
    return np.asarray(offset, np.float64)


def _same_stack(grid: Volume, result: Volume, offset_mm: float) -> bool:
    """Whether each slice of `result` lies in the plane of one of `grid`."""
    same_step = abs(result.spacing_mm[0] - grid.spacing_mm[0]) * grid.shape[0] < _SAME_PLACE_MM
    return result.shape[0] == grid.shape[0] and same_step and abs(offset_mm) < _SAME_PLACE_MM


def _frames_at(source: SourceSeries, at: float) -> tuple[SourceFrame, ...]:
    """The frames on both sides of `at`, in slices from the first; the outermost one beyond the ends."""
    at = float(np.clip(round(at, 3), 0, len(source.frames) - 1))
    around = {int(np.floor(at)), int(np.ceil(at))}
    return tuple(source.frames[index] for index in sorted(around, key=lambda index: (abs(index - at), index)))


def _slice(
    result: Volume, frames: tuple[SourceFrame, ...], number: int, plane: dict[str, str | list[str] | None]
) -> ResultSlice:
    return ResultSlice(frames, number, f"{result.shape[1:]} {sorted(plane.items())}", plane)


def _name(frame: SourceFrame) -> str:
    return f"{frame.sop_instance_uid} {frame.frame_number}"


def _decimals(numbers: NDArray[np.float64]) -> list[str]:
    return [decimal(number) for number in numbers]


def _instance_numbers(source: SourceSeries) -> list[int]:
    """The source's Instance Numbers where they tell the slices apart, otherwise 1, 2, 3 ..."""
    numbers = [frame.instance_number for frame in source.frames]
    if any(frame.frame_number is not None for frame in source.frames) or len(set(numbers)) < len(numbers):
        return list(range(1, len(numbers) + 1))
    return numbers

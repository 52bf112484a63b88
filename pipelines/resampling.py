"""One volume on the grid of another, by position in the patient coordinate system."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import Unsuitable
from pipelines.volume import Volume, Voxels

_MOST_DEGREES = 5.0  # between the normals, and between the rows, of two acquisitions that were planned alike
_LEAST_SLICES = 0.8  # of the grid, of which the volume has to show half

Floats = NDArray[np.float64]


def on_grid(role: str, volume: Volume, grid: Volume) -> Volume:
    """`volume` with linear interpolation on the grid of `grid`; itself when it lies there already.

    Where it shows nothing its lowest value stands. Raises Unsuitable, with `role` in the words, when the planes are not
    parallel, or when it shows too little of the grid.
    """
    if same_grid(volume, grid):
        return volume
    _require_parallel(role, volume, grid)
    matrix, start = _indices(volume, grid)
    voxels = np.full(grid.shape, volume.voxels.min(), np.float32)
    _, rows, columns = grid.shape
    row, column = np.meshgrid(np.arange(rows, dtype=np.float64), np.arange(columns, dtype=np.float64), indexing="ij")
    shown = 0
    for index in range(grid.shape[0]):
        # (3, rows, columns): where the voxels of this slice lie, in indices of the volume
        at = (start + index * matrix[:, 0])[:, None, None] + matrix[:, 1, None, None] * row
        at += matrix[:, 2, None, None] * column
        ends = np.array(volume.shape, np.float64)[:, None, None] - 0.5
        inside = ((at >= -0.5) & (at <= ends)).all(axis=0)
        shown += bool(inside.mean() >= 0.5)
        voxels[index][inside] = _interpolated(volume.voxels, at[:, inside])
    if shown < _LEAST_SLICES * grid.shape[0]:
        found = f"{role} that shows {shown} of {grid.shape[0]} slices"
        raise Unsuitable("overlap", found, f"at least {_LEAST_SLICES:.0%}", "acquire both over the same field of view")
    return Volume(voxels, grid.spacing_mm, grid.origin_mm, grid.direction, volume.unit)


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether voxels of both lie in the same places, to a hundredth of a millimetre."""
    return one.shape == other.shape and all(
        np.allclose(a, b, atol=atol)
        for a, b, atol in (
            (one.spacing_mm, other.spacing_mm, 1e-3),
            (one.origin_mm, other.origin_mm, 1e-2),
            (one.direction, other.direction, 1e-4),
        )
    )


def _require_parallel(role: str, volume: Volume, grid: Volume) -> None:
    """Axes may point the other way, and rows may be columns, as long as slices are slices."""
    cosine = min(1.0, abs(float(volume.direction[:, 0] @ grid.direction[:, 0])))
    degrees = float(np.degrees(np.arccos(cosine)))
    if degrees > _MOST_DEGREES:
        raise Unsuitable(
            "planes", f"{role} tilted by {degrees:.1f} degrees", f"at most {_MOST_DEGREES:g}",
            "acquire both with the same planes",
        )  # fmt: skip


def _indices(volume: Volume, grid: Volume) -> tuple[Floats, Floats]:
    """(3, 3) and (3,): an index of `grid` is ``start + matrix @ index`` in indices of `volume`."""
    to_index = volume.direction.T / np.array(volume.spacing_mm)[:, None]
    matrix = to_index @ (grid.direction * np.array(grid.spacing_mm))
    start = to_index @ (np.array(grid.origin_mm) - np.array(volume.origin_mm))
    return matrix, start


def _interpolated(voxels: Voxels, at: Floats) -> Voxels:
    """Linear between the eight neighbours of each of (3, n) points; at the edge the last voxel continues."""
    last = np.array(voxels.shape)[:, None] - 1
    at = np.clip(at, 0.0, last)
    low = np.minimum(at.astype(np.intp), np.maximum(last - 1, 0))
    high = np.minimum(low + 1, last)
    share = at - low
    found = np.zeros(at.shape[1])
    for corner in range(8):
        upper = [bool(corner >> axis & 1) for axis in range(3)]
        place = tuple(high[axis] if upper[axis] else low[axis] for axis in range(3))
        weight = np.prod([share[axis] if upper[axis] else 1.0 - share[axis] for axis in range(3)], axis=0)
        found += weight * voxels[place]
    return found.astype(np.float32)

"""Grey values of a series to the [-1, 1] of the generators, and back. Training and inference both come through here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IntensityMap:
    """The linear map that takes `low` to -1 and `high` to 1.

    Raises ValueError when low is not below high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"intensity map: found low {self.low} and high {self.high}, expected finite and low < high"
            )

    def to_unit(self, voxels: Array) -> Array:
        """`voxels` in [-1, 1]; what lies outside [low, high] is clipped, NaN becomes -1 (no signal)."""
        finite = np.nan_to_num(voxels, nan=self.low, posinf=self.high, neginf=self.low)
        scaled = (finite - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return np.asarray(np.clip(scaled, -1.0, 1.0), dtype=np.float32)

    def from_unit(self, unit: Array) -> Array:
        """The inverse of `to_unit` on [low, high]."""
        return np.asarray((unit + 1.0) * (0.5 * (self.high - self.low)) + self.low, dtype=np.float32)


def fit(voxels: Array, percentiles: tuple[float, float] = (0.5, 99.5)) -> IntensityMap:
    """The map that spans `percentiles` of the finite voxels of one series, so that a few spikes do not set the scale.

    Raises ValueError when the series holds no finite voxel or a single grey value.
    """
    finite = voxels[np.isfinite(voxels)]
    if finite.size == 0:
        raise ValueError("series intensity: found no finite voxel, expected an image")
    low, high = (float(value) for value in np.percentile(finite, percentiles))
    if low >= high:
        raise ValueError(f"series intensity: found the single value {low}, expected an image with contrast")
    return IntensityMap(low, high)

"""`Volume`: the one image type that every pipeline takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Voxels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A stack of parallel slices in the patient coordinate system (LPS, PS3.3 C.7.6.2).

    voxels      float32 (slices, rows, columns), in `unit`
    spacing_mm  (between slice centres, between rows, between columns)
    origin_mm   centre of voxel [0, 0, 0]: the first slice's Image Position (Patient)
    direction   (3, 3): column k is the unit vector along array axis k (slice, row, column)
    unit        "HU", "ms" or "1" (arbitrary signal intensity)

    Raises ValueError when a shape, a spacing or a direction does not fit.
    """

    voxels: Voxels
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    unit: str = "1"

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or 0 in self.voxels.shape:
            raise ValueError(f"voxels: found shape {self.voxels.shape}, expected (slices, rows, columns), none empty")
        if self.voxels.dtype != np.float32:
            raise ValueError(f"voxels: found {self.voxels.dtype}, expected float32")
        if len(self.spacing_mm) != 3 or min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm: found {self.spacing_mm}, expected three positive lengths")
        if self.direction.shape != (3, 3) or not np.allclose(self.direction.T @ self.direction, np.eye(3), atol=1e-3):
            raise ValueError(f"direction: found {self.direction.tolist()}, expected three orthogonal unit columns")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    def with_voxels(self, voxels: Voxels, unit: str | None = None) -> Volume:
        """The same grid with other values; `voxels` must have this volume's shape."""
        if voxels.shape != self.voxels.shape:
            raise ValueError(f"voxels: found shape {voxels.shape}, expected {self.voxels.shape}")
        return replace(self, voxels=voxels.astype(np.float32, copy=False), unit=self.unit if unit is None else unit)

    def position_mm(self, index: int) -> tuple[float, float, float]:
        """Image Position (Patient) of slice `index`."""
        x, y, z = np.asarray(self.origin_mm) + index * self.spacing_mm[0] * self.direction[:, 0]
        return float(x), float(y), float(z)

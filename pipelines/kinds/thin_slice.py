"""Thin slices from a CT series of thick ones: five for each, in HU, and their mean is the thick slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.errors import WeightsError
from pipelines.intensity import IntensityMap
from pipelines.kinds.hounsfield import hounsfield_volume
from pipelines.kinds.one_volume import mirrored
from pipelines.result import Check, Progress, Result, timed
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume, Voxels

TILE = 256  # pixels along each axis


class ThinSlice:
    """One CT volume in HU -> the same body in slices a fifth as thick and a fifth as far apart.

    The network sees values clipped to the manifest's scale; a voxel outside it (padding, metal) stays in all five
    slices as it is. Memory beyond input and output is that of one thick slice with its neighbours and one tile.
    """

    def __init__(self, spec: PipelineSpec, generator: nn.Module, device: str = "cpu") -> None:
        halo, stack = getattr(generator, "halo", None), getattr(generator, "stack", None)
        if not isinstance(halo, int) or not isinstance(stack, tuple):
            raise WeightsError(
                f"{spec.id}: architecture: found {spec.generator.architecture!r}, "
                "expected one that takes and gives a stack of slices and whose tiles are exact"
            )
        self.spec = spec
        self._generator = generator
        self._context, self._fold = stack
        self._halo = halo + halo % spec.geometry.multiple
        self._device = torch.device(device)
        self._scale = IntensityMap(*spec.intensity.hu)

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        """The result for the one volume; raises Unsuitable when it is not in HU or shows nothing."""
        seconds: dict[str, float] = {}
        with timed(seconds, "checks"):
            taken = hounsfield_volume(volumes, self.spec)
        thick, shows = taken.voxels, taken.shows
        thin = np.repeat(thick, self._fold, axis=0)
        indices = [int(index) for index in np.flatnonzero(shows)]
        for done, index in enumerate(indices, start=1):
            with timed(seconds, "generator"):
                around = thick[neighbours(index, shows, self._context)]
                thin[index * self._fold : (index + 1) * self._fold] += self._detail(around)
            progress(done, len(indices))
        checks = (*self._notes(taken.volume), *taken.notes())
        return Result(self._finer(taken.volume, thin), checks, seconds)

    def warm_up(self) -> float:
        """Make the thin slices of one empty tile, so that the first series does not pay for it; seconds taken."""
        started = perf_counter()
        self._detail(np.zeros((self._context, TILE, TILE), dtype=np.float32))
        return perf_counter() - started

    def _finer(self, volume: Volume, thin: Voxels) -> Volume:
        """`thin` where it lies: the first thin slice is at the near end of the first thick one."""
        step, rows, columns = volume.spacing_mm[0] / self._fold, *volume.spacing_mm[1:]
        back_mm = 0.5 * (self._fold - 1) * step
        origin = np.asarray(volume.origin_mm) - back_mm * volume.direction[:, 0]
        return replace(
            volume,
            voxels=thin,
            spacing_mm=(step, rows, columns),
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
            unit=self.spec.output.unit,
        )

    @torch.inference_mode()
    def _detail(self, around: Voxels) -> Voxels:
        """HU of each thin slice less those of the thick one: (context, rows, columns) -> (fold, rows, columns)."""
        middle = around[self._context // 2]
        rows, columns = middle.shape
        halo, scale = self._halo, np.float32(0.5 * (self._scale.high - self._scale.low))
        unit = torch.from_numpy(self._scale.to_unit(around)).to(self._device)
        multiple = self.spec.geometry.multiple
        for axis, length in enumerate((rows, columns), start=1):
            unit = unit.index_select(axis, mirrored(length, -(-length // multiple) * multiple, halo, self._device))
        detail = np.empty((self._fold, rows, columns), dtype=np.float32)
        for top in range(0, rows, TILE):
            for left in range(0, columns, TILE):
                tile = unit[:, top : top + TILE + 2 * halo, left : left + TILE + 2 * halo]
                part = detail[:, top : top + TILE, left : left + TILE]
                part[:] = self._generated(tile, halo)[:, : part.shape[1], : part.shape[2]]
        detail *= scale
        detail[:, (middle < self._scale.low) | (middle > self._scale.high)] = 0.0
        return detail

    def _generated(self, tile: Tensor, halo: int) -> Voxels:
        thin: Tensor = self._generator(tile[None])[0].float()
        if not torch.isfinite(thin).all():
            raise WeightsError(f"{self.spec.id}: the generator gave values that are no numbers; install it again")
        detail = (thin - tile[self._context // 2])[:, halo:-halo, halo:-halo]
        return np.asarray(detail.cpu().numpy(), dtype=np.float32)

    def _notes(self, volume: Volume) -> Iterator[Check]:
        if self.spec.caution:
            yield Check("caution", True, self.spec.caution)
        before, after = volume.spacing_mm[0], volume.spacing_mm[0] / self._fold
        slices = volume.shape[0]
        detail = f"{slices} slices of {before:g} mm became {slices * self._fold} of {after:g} mm; their means were kept"
        yield Check("thin-slices", False, detail)


def neighbours(index: int, shows: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """The `count` slices around `index`; beyond the ends, and for a slice that shows nothing, the nearest that does."""
    found = np.full(count, index, dtype=np.intp)
    for side in (-1, 1):
        nearest = index
        for step in range(1, count // 2 + 1):
            there = index + side * step
            if 0 <= there < len(shows) and shows[there]:
                nearest = there
            found[count // 2 + side * step] = nearest
    return found

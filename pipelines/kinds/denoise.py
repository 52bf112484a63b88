"""Noise taken off a CT series, slice by slice and tile by tile; what comes out is HU as what went in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from time import perf_counter
from typing import Any

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

TILE = 512  # pixels along each axis; the usual slice is one tile
BLOCK = 16  # side of the squares whose mean has to stay
KEPT_HU = 2.0  # how far that mean may move
_KEPT_HU = 1.95  # how far it does; the rest is for the rounding to whole HU
_BODY_HU = (-300.0, 300.0)  # means of blocks within the body, lungs and bone apart
_SCATTER = 0.01  # share of the blocks that the network may want to move further than their noise explains


class Denoise:
    """One CT volume in HU -> the same with less noise.

    The network sees values clipped to the manifest's scale, and only what it takes for noise is subtracted; a pixel
    outside the scale (padding, metal) stays as it is. No block of 16 x 16 pixels within the scale is left with a mean
    more than 2 HU from that of the scan. Memory beyond input and output is that of one tile.
    """

    def __init__(self, spec: PipelineSpec, generator: nn.Module, device: str = "cpu") -> None:
        halo = getattr(generator, "halo", None)
        if not isinstance(halo, int):
            raise WeightsError(
                f"{spec.id}: architecture: found {spec.generator.architecture!r}, expected one whose tiles are exact"
            )
        self.spec = spec
        self._generator = generator
        self._halo = halo + halo % spec.geometry.multiple
        self._device = torch.device(device)
        self._scale = IntensityMap(*spec.intensity.hu)

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        """The result for the one volume; raises Unsuitable when it is not in HU or shows nothing."""
        seconds: dict[str, float] = {}
        with timed(seconds, "checks"):
            taken = hounsfield_volume(volumes, self.spec)
        denoised = taken.voxels.copy()
        shifts: list[NDArray[np.float32]] = []
        indices = np.flatnonzero(taken.shows)
        for done, index in enumerate(indices, start=1):
            noisy = taken.voxels[index]
            with timed(seconds, "generator"):
                cleaned = self._denoised(noisy)
            with timed(seconds, "checks"):
                shifts.append(block_shifts(noisy, cleaned))
                denoised[index] = means_kept(noisy, cleaned, (self._scale.low, self._scale.high))
            progress(done, len(indices))
        checks = (*self._notes(np.concatenate(shifts, axis=1)), *taken.notes())
        return Result(taken.volume.with_voxels(denoised, self.spec.output.unit), checks, seconds)

    def warm_up(self) -> float:
        """Denoise one empty tile, so that the first series does not pay for it; seconds taken."""
        started = perf_counter()
        self._denoised(np.zeros((TILE, TILE), dtype=np.float32))
        return perf_counter() - started

    @torch.inference_mode()
    def _denoised(self, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        """One slice in HU, (rows, columns)."""
        rows, columns = noisy.shape
        halo, scale = self._halo, np.float32(0.5 * (self._scale.high - self._scale.low))
        unit = torch.from_numpy(self._scale.to_unit(noisy)).to(self._device)
        size = [-(-length // self.spec.geometry.multiple) * self.spec.geometry.multiple for length in (rows, columns)]
        for axis, length in enumerate(size):
            unit = unit.index_select(axis, mirrored(noisy.shape[axis], length, halo, self._device))
        result = noisy.copy()
        for top in range(0, rows, TILE):
            for left in range(0, columns, TILE):
                tile = unit[top : top + TILE + 2 * halo, left : left + TILE + 2 * halo]
                noise = (tile - self._generated(tile))[halo:-halo, halo:-halo].cpu().numpy()
                part = result[top : top + TILE, left : left + TILE]
                part -= scale * noise[: part.shape[0], : part.shape[1]]
        outside = (noisy < self._scale.low) | (noisy > self._scale.high)
        return np.where(outside, noisy, result)

    def _generated(self, tile: Tensor) -> Tensor:
        clean: Tensor = self._generator(tile[None, None])[0, 0].float()
        if not torch.isfinite(clean).all():
            raise WeightsError(f"{self.spec.id}: the generator gave values that are no numbers; install it again")
        return clean

    def _notes(self, shifts: Voxels) -> Iterator[Check]:
        if self.spec.caution:
            yield Check("caution", True, self.spec.caution)
        if shifts.size:
            moved = float(np.mean(np.abs(shifts[0]) > shifts[1]))
            median, most = np.percentile(np.abs(shifts[0]), (50, 99))
            detail = (
                f"{shifts.shape[1]} blocks of {BLOCK} x {BLOCK} pixels: the network moved the mean of half of them by "
                f"more than {median:.2f} HU, of 1 in 100 by more than {most:.2f} HU, of {moved:.1%} further than their "
                f"noise explains; none without padding or metal was left more than {KEPT_HU:g} HU from the scan"
            )
            yield Check("hu-shift", moved > _SCATTER, detail)


def block_shifts(noisy: NDArray[np.float32], denoised: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, n): by how many HU the mean of each block within the body moved, and how far it may.

    The mean of a block carries noise of its own, which a denoiser rightly takes off: at most the SD of what was taken
    off over the side of the block, as for white noise. Three of that are allowed beside the KEPT_HU.
    """
    before, removed = _blocks(noisy).mean(axis=(1, 3)), _blocks(noisy - denoised)
    body = (before > _BODY_HU[0]) & (before < _BODY_HU[1])
    allowed = KEPT_HU + 3.0 * removed.std(axis=(1, 3)) / BLOCK
    return np.stack([-removed.mean(axis=(1, 3))[body], allowed[body]]).astype(np.float32)


def means_kept(noisy: Voxels, denoised: Voxels, scale_hu: tuple[float, float]) -> Voxels:
    """`denoised` (rows, columns) with the mean of each block within KEPT_HU of that in `noisy`.

    What a block moved too far is given back by a surface that is linear between the centres of the blocks, so that no
    border shows, and whose mean over each block is what is to be given back there. Pixels outside `scale_hu`, and the
    blocks that hold one, are left alone; so is an image smaller than a block.
    """
    if min(noisy.shape) < BLOCK:
        return denoised
    inside = (noisy >= scale_hu[0]) & (noisy <= scale_hu[1])
    moved = np.where(_blocks(inside).all(axis=(1, 3)), _blocks(denoised - noisy).mean(axis=(1, 3)), 0.0)
    too_far = (moved - np.clip(moved, -_KEPT_HU, _KEPT_HU)).astype(np.float32)
    down, across = (_surface(length) for length in noisy.shape)
    return np.where(inside, denoised - down @ too_far @ across.T, denoised)


@lru_cache
def _surface(length: int) -> Voxels:
    """(length, blocks): the line through all pixels of an axis whose mean over one block is 1 and over the others 0."""
    count = length // BLOCK
    place = np.clip((np.arange(length) + 0.5) / BLOCK - 0.5, 0, count - 1)
    linear = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(count)))
    means = linear[: count * BLOCK].reshape(count, BLOCK, count).mean(axis=1)
    return np.asarray(linear @ np.linalg.inv(means), dtype=np.float32)


def _blocks(image: NDArray[Any]) -> NDArray[Any]:
    """(block rows, BLOCK, block columns, BLOCK)."""
    rows, columns = (length // BLOCK for length in image.shape)
    return image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)

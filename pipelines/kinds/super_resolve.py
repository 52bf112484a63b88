"""Finer rows and columns of an MR series, slice by slice, whose coarse image is exactly what was acquired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from torch import nn

from pipelines import intensity
from pipelines.degradation import back_projected, degraded
from pipelines.errors import Unsuitable, WeightsError
from pipelines.intensity import Array, IntensityMap
from pipelines.kinds.one_volume import mirrored, only_volume
from pipelines.networks.edsr import FACTOR, linear
from pipelines.result import Check, Progress, Result, timed
from pipelines.safety.pixels import SliceQuality, inspect_slices
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume, Voxels

TILE = 128  # coarse pixels along each axis; the matrix of the paper is one tile
PASSES = 4  # one is enough where no value leaves the range
LEFT_OVER = 0.01  # of the range: how far the result, made coarse again, may lie from what came in (RMS)


class SuperResolve:
    """One MR volume -> the same slices with four times the rows and columns, in the same grey values.

    The network sees values on the scale of the series and adds detail to the linear interpolation. Then the image is
    moved to the nearest one that, made coarse as in training, is the acquired slice.
    """

    def __init__(self, spec: PipelineSpec, generator: nn.Module, device: str = "cpu") -> None:
        halo = getattr(generator, "halo", None)
        if not isinstance(halo, int) or spec.generator.architecture != "edsr":
            raise WeightsError(f"{spec.id}: architecture: found {spec.generator.architecture!r}, expected 'edsr'")
        self.spec = spec
        self._generator = generator
        self._halo = halo
        self._device = torch.device(device)

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        """The result for the one volume; raises Unsuitable when it shows nothing that can be scaled."""
        seconds: dict[str, float] = {}
        with timed(seconds, "checks"):
            volume = only_volume(volumes, self.spec)
            quality = inspect_slices(self.spec.inputs[0].role, volume.voxels)
        with timed(seconds, "intensity"):
            scale = self._scale(volume.voxels, quality)
            stored, factor = self._in_range(volume.voxels)
            scale = IntensityMap(scale.low * factor, scale.high * factor)
        slices, rows, columns = stored.shape
        fine = np.zeros((slices, FACTOR * rows, FACTOR * columns), dtype=np.float32)
        left_over: list[float] = []
        indices = np.flatnonzero(quality.shows)
        for done, index in enumerate(indices, start=1):
            with timed(seconds, "generator"):
                detailed = self._detailed(stored[index], scale)
            with timed(seconds, "back-projection"):
                fine[index] = self._consistent(detailed, stored[index])
                left_over.append(float(np.sqrt(np.mean((degraded(fine[index], FACTOR) - stored[index]) ** 2))))
            progress(done, len(indices))
        checks = (*self._notes(max(left_over) / (scale.high - scale.low), factor), *quality.checks)
        return Result(self._finer(volume, fine), checks, seconds)

    def warm_up(self) -> float:
        """Make one empty tile finer, so that the first series does not pay for it; seconds taken."""
        started = perf_counter()
        self._detailed(np.zeros((TILE, TILE), dtype=np.float32), IntensityMap(0.0, 1.0))
        return perf_counter() - started

    def _scale(self, voxels: Voxels, quality: SliceQuality) -> IntensityMap:
        try:
            return intensity.fit(voxels[quality.sets_scale], self.spec.intensity.percentiles)
        except ValueError as error:  # a few pixels that differ are contrast, but no image
            role = self.spec.inputs[0].role
            raise Unsuitable("constant", f"{role}: hardly any contrast", "an image", str(error)) from error

    def _in_range(self, voxels: Voxels) -> tuple[Voxels, float]:
        """The magnitudes as they can be stored, and by what they were multiplied: 1 where they fit as they are."""
        low, high = self.spec.output.range
        finite = np.clip(np.nan_to_num(voxels, nan=low, posinf=low, neginf=low), low, None)
        factor = min(1.0, high / float(finite.max()))
        return (finite if factor == 1.0 else finite * np.float32(factor)), factor

    def _finer(self, volume: Volume, fine: Voxels) -> Volume:
        """`fine` where it lies: its edges are those of `volume`."""
        step, *in_plane = volume.spacing_mm
        row, column = (spacing / FACTOR for spacing in in_plane)
        back_mm = np.array([0.0, row, column]) * (0.5 * (FACTOR - 1))
        x, y, z = np.asarray(volume.origin_mm) - volume.direction @ back_mm
        return replace(
            volume,
            voxels=fine,
            spacing_mm=(step, row, column),
            origin_mm=(float(x), float(y), float(z)),
            unit=self.spec.output.unit,
        )

    @torch.inference_mode()
    def _detailed(self, coarse: Array, scale: IntensityMap) -> Array:
        """The linear interpolation of a slice with the detail of the network added, tile by tile."""
        rows, columns = coarse.shape
        halo, rim = self._halo, self._halo * FACTOR
        padded = torch.from_numpy(coarse).to(self._device)
        size = [-(-length // TILE) * TILE if length > TILE else length for length in coarse.shape]
        for axis, length in enumerate(size):
            padded = padded.index_select(axis, mirrored(coarse.shape[axis], length, halo, self._device))
        unit = torch.from_numpy(scale.to_unit(padded.cpu().numpy())).to(self._device)
        fine = np.empty((FACTOR * rows, FACTOR * columns), dtype=np.float32)
        span = 0.5 * (scale.high - scale.low)
        for top in range(0, rows, TILE):
            for left in range(0, columns, TILE):
                here = np.s_[top : top + TILE + 2 * halo, left : left + TILE + 2 * halo]
                seen = unit[here][None, None]
                out = linear(padded[here][None, None]) + span * (self._generator(seen).float() - linear(seen))
                part = fine[FACTOR * top : FACTOR * (top + TILE), FACTOR * left : FACTOR * (left + TILE)]
                part[:] = out[0, 0, rim:-rim, rim:-rim].cpu().numpy()[: part.shape[0], : part.shape[1]]
        if not np.isfinite(fine).all():
            raise WeightsError(f"{self.spec.id}: the generator gave values that are no numbers; install it again")
        return fine

    def _consistent(self, fine: Array, coarse: Array) -> Array:
        """`fine` within the range of the result, moved until it degrades to `coarse`: projections in turn."""
        for _ in range(PASSES):
            fine = np.clip(back_projected(fine, coarse, FACTOR), *self.spec.output.range)
        return fine

    def _notes(self, left_over: float, factor: float) -> Iterator[Check]:
        if self.spec.caution:
            yield Check("caution", True, self.spec.caution)
        detail = f"made coarse again, the slice that differs most differs by {left_over:.2%} of the range (RMS)"
        yield Check("consistency", left_over > LEFT_OVER, detail)
        if factor != 1.0:
            yield Check("rescaled", False, f"grey values multiplied by {factor:.4g} to fit the range of the result")

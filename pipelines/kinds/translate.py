"""Slice-wise translation of one contrast into another by a conditional generator (Isola et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines import intensity
from pipelines.errors import Unsuitable, WeightsError
from pipelines.geometry import InPlane
from pipelines.intensity import IntensityMap
from pipelines.resampling import same_grid
from pipelines.result import Check, Progress, Result, timed
from pipelines.safety.pixels import SliceQuality, inspect_slices
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume, Voxels

# Measured with the U-Net of ngf 16 at 256 x 256. One thread: as fast one by one as in batches of 2 or 4, slower in
# batches of 8. Two threads on two busy cores: 57 ms a slice in batches of 4, 99 one by one.
BATCH = 4
_WARM_UP_SIDE = 256  # pixels; the usual matrix


class Translate:
    """One volume of each of the manifest's roles, on one grid -> the synthesised volume on that grid."""

    def __init__(self, spec: PipelineSpec, generator: nn.Module, device: str = "cpu") -> None:
        self.spec = spec
        self._generator = generator
        self._device = torch.device(device)
        self._scale_out = IntensityMap(*spec.output.range)

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        """The result for `volumes` by role.

        Raises Unsuitable when a role is missing, grids differ, or a volume shows nothing that can be
        translated.
        """
        seconds: dict[str, float] = {}
        with timed(seconds, "checks"):
            inputs = self._inputs(volumes)
            quality = [inspect_slices(role, volume.voxels) for role, volume in inputs.items()]
            shows = np.logical_and.reduce([each.shows for each in quality])
        with timed(seconds, "intensity"):
            real_a = self._to_unit(inputs, quality)  # (slices, roles, rows, columns)
        grid = next(iter(inputs.values()))
        _, rows, columns = grid.shape
        plan = InPlane.plan((rows, columns), grid.spacing_mm[1:], self.spec.geometry)
        with timed(seconds, "generator"):
            fake_b = self._translated(real_a, np.flatnonzero(shows), plan, progress)
        with timed(seconds, "intensity"):
            voxels = self._scale_out.from_unit(fake_b)
        checks = (*self._notes(plan), *(check for each in quality for check in each.checks))
        return Result(grid.with_voxels(voxels, self.spec.output.unit), checks, seconds)

    def warm_up(self) -> float:
        """Run one batch of the usual size, so that the first series does not pay for it; seconds taken."""
        started = perf_counter()
        multiple = self.spec.geometry.multiple
        side = -(-_WARM_UP_SIDE // multiple) * multiple
        with torch.inference_mode():
            self._generator(torch.zeros(BATCH, len(self.spec.inputs), side, side, device=self._device))
        return perf_counter() - started

    def _inputs(self, volumes: Mapping[str, Volume]) -> dict[str, Volume]:
        """The volumes in the order of the generator's channels."""
        roles = [contract.role for contract in self.spec.inputs]
        if set(roles) != volumes.keys():
            raise Unsuitable("roles", ", ".join(sorted(volumes)) or "none", ", ".join(roles))
        inputs = {role: volumes[role] for role in roles}
        first = inputs[roles[0]]
        for role, volume in inputs.items():
            if not same_grid(first, volume):
                found, expected = f"{role} on another grid", f"the grid of {roles[0]}"
                raise Unsuitable("grid", found, expected, "send series of one geometry")
        return inputs

    def _to_unit(self, inputs: Mapping[str, Volume], quality: Sequence[SliceQuality]) -> Voxels:
        """(slices, roles, rows, columns) in [-1, 1], each role on the scale of those slices that may set it."""
        window = self.spec.intensity.window
        if window is not None:
            return np.stack([IntensityMap(*window).to_unit(volume.voxels) for volume in inputs.values()], axis=1)
        scaled = []
        for (role, volume), each in zip(inputs.items(), quality, strict=True):
            try:
                scale = intensity.fit(volume.voxels[each.sets_scale], self.spec.intensity.percentiles)
            except ValueError as error:  # a few pixels that differ are contrast, but no image
                raise Unsuitable("constant", f"{role}: hardly any contrast", "an image", str(error)) from error
            scaled.append(scale.to_unit(volume.voxels))
        return np.stack(scaled, axis=1)

    @torch.inference_mode()
    def _translated(self, real_a: Voxels, indices: NDArray[np.intp], plan: InPlane, progress: Progress) -> Voxels:
        """(slices, roles, rows, columns) in [-1, 1] -> (slices, rows, columns) in [-1, 1]; -1 where not asked for."""
        fake_b = np.full((real_a.shape[0], *real_a.shape[2:]), -1.0, np.float32)
        for start in range(0, len(indices), BATCH):
            chosen = indices[start : start + BATCH]
            slices = plan.to_trained(torch.from_numpy(real_a[chosen]).to(self._device))  # (n, roles, padded)
            out = plan.to_source(self._generated(slices))  # (n, 1, rows, columns)
            fake_b[chosen] = out[:, 0].cpu().numpy()
            progress(min(start + BATCH, len(indices)), len(indices))
        if not np.isfinite(fake_b).all():
            raise WeightsError(f"{self.spec.id}: the generator gave values that are no numbers; install it again")
        return fake_b

    def _generated(self, slices: Tensor) -> Tensor:
        """The generator on a batch that is always BATCH long.

        Another length would choose other kernels: slower, since each shape is prepared anew, and with other
        last bits, so that a slice would depend on how many came with it.
        """
        filler = slices.new_zeros(BATCH - len(slices), *slices.shape[1:])
        fake_b: Tensor = self._generator(torch.cat((slices, filler)))
        return fake_b[: len(slices)].float().clamp(-1.0, 1.0)

    def _notes(self, plan: InPlane) -> Iterator[Check]:
        """What holds for every result of this model, and what was done to this one."""
        if self.spec.caution:
            yield Check("caution", True, self.spec.caution)
        if plan.resamples:
            (rows, columns), spacing = plan.trained, self.spec.geometry.pixel_spacing_mm
            yield Check("resampled", False, f"in-plane to {rows} x {columns} pixels of {spacing:g} mm and back")

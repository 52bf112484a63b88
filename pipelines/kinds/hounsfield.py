"""What every kind that works in Hounsfield units asks of its volume, and how it continues a slice beyond its rim."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import Unsuitable
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume

AIR_HU = -1024.0
_PLAUSIBLE_HU = (-4096.0, 32767.0)  # what scanners store, padding and metal on an extended scale included


def hounsfield_volume(volumes: Mapping[str, Volume], spec: PipelineSpec) -> Volume:
    """The one volume that `spec` takes; raises Unsuitable when it is another or not in HU."""
    (contract,) = spec.inputs
    if volumes.keys() != {contract.role}:
        raise Unsuitable("roles", ", ".join(sorted(volumes)) or "none", contract.role)
    volume = volumes[contract.role]
    if volume.unit != "HU":
        raise Unsuitable("unit", f"values in {volume.unit!r}", "HU", "the series needs Rescale Type HU")
    low, high = float(np.fmin.reduce(volume.voxels, axis=None)), float(np.fmax.reduce(volume.voxels, axis=None))
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1] or high < -500.0:
        raise Unsuitable("hounsfield", f"{low:.0f} to {high:.0f} HU", "the HU of a body", "check the rescaling")
    return volume


def mirrored(length: int, padded: int, halo: int, device: torch.device) -> Tensor:
    """Indices of `length` pixels continued to `padded` and by `halo` on both sides, as mirror images."""
    index = torch.arange(-halo, padded + halo, device=device)
    folded = index.remainder(2 * length)
    return torch.minimum(folded, 2 * length - 1 - folded)

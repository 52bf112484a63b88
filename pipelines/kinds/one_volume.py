"""What every kind that takes one volume asks of it, and how it continues a slice beyond its rim."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipelines.errors import Unsuitable
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume


def only_volume(volumes: Mapping[str, Volume], spec: PipelineSpec) -> Volume:
    """The one volume that `spec` takes; raises Unsuitable when there is another or none."""
    (contract,) = spec.inputs
    if volumes.keys() != {contract.role}:
        raise Unsuitable("roles", ", ".join(sorted(volumes)) or "none", contract.role)
    return volumes[contract.role]


def mirrored(length: int, padded: int, halo: int, device: torch.device) -> Tensor:
    """Indices of `length` pixels continued to `padded` and by `halo` on both sides, as mirror images."""
    index = torch.arange(-halo, padded + halo, device=device)
    folded = index.remainder(2 * length)
    return torch.minimum(folded, 2 * length - 1 - folded)

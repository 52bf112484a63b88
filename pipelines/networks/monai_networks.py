"""Networks of MONAI that a bundle may name: few, two-dimensional, made of literal arguments only.

MONAI is imported when one is asked for; it is no part of the default installation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pipelines.networks.conventions import Conventions

# by architecture: class of MONAI, and the arguments that a bundle may give
_SHARED = frozenset({"spatial_dims", "in_channels", "out_channels", "act", "norm"})
NETWORKS: Mapping[str, tuple[str, frozenset[str]]] = {
    "monai-unet": (
        "UNet",
        _SHARED
        | {"channels", "strides", "kernel_size", "up_kernel_size", "num_res_units", "dropout", "bias", "adn_ordering"},
    ),
    "monai-basic-unet": ("BasicUNet", _SHARED | {"features", "bias", "dropout", "upsample"}),
    "monai-segresnet": (
        "SegResNet",
        _SHARED | {"init_filters", "dropout_prob", "use_conv_final", "blocks_down", "blocks_up", "upsample_mode"},
    ),
}


class MonaiNetwork(nn.Module):
    """(N, in_channels, H, W) in [-1, 1] -> (N, 1, H, W): the network as bundles run it, without dropout.

    architecture   a key of NETWORKS
    arguments      those of the class, as JSON
    input_range    what the network takes, ``-1..1`` or ``0..1``
    output_range   what it gives, of the same two
    """

    def __init__(
        self, architecture: str, arguments: str, input_range: str = "-1..1", output_range: str = "-1..1"
    ) -> None:
        super().__init__()
        name, _ = NETWORKS[architecture]
        given = require_arguments(architecture, json.loads(arguments))
        self._conventions = Conventions(given["in_channels"], given["out_channels"], input_range, output_range)
        try:
            from monai.networks import nets
        except ImportError as error:
            raise ValueError("MONAI is not installed; pip install athanor[monai]") from error
        self.model: nn.Module = getattr(nets, name)(**given)

    def forward(self, slices: Tensor) -> Tensor:
        return self._conventions.from_network(self.model(self._conventions.to_network(slices)))


def require_arguments(architecture: str, arguments: Any) -> dict[str, Any]:
    """`arguments` if they are those of a two-dimensional network; raises ValueError or TypeError naming what is not."""
    name, allowed = NETWORKS[architecture]
    if not isinstance(arguments, dict):
        raise TypeError(f"{name}: arguments: found {type(arguments).__name__}, expected names with values")
    unknown = sorted(arguments.keys() - allowed)
    if unknown:
        raise ValueError(f"{name}: {unknown[0]}: found an argument that is not known here, expected some of "
                         f"{', '.join(sorted(allowed))}")  # fmt: skip
    if arguments.get("spatial_dims") != 2:
        raise ValueError(f"{name}: spatial_dims: found {arguments.get('spatial_dims')!r}, expected 2: slices are "
                         "translated one by one")  # fmt: skip
    for key in ("in_channels", "out_channels"):
        if type(arguments.get(key)) is not int:
            raise ValueError(f"{name}: {key}: found {arguments.get(key)!r}, expected a whole number")
    return arguments

"""EDSR: four times the rows and columns of a slice, by residual blocks without any norm (Lim et al. 2017).

Sized for a CPU, with two changes: the channels are halved with each doubling of the matrix, since convolutions there
cost the most; and what is learnt is added to the linear interpolation. Without norms a tile gives what the whole slice
gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

FACTOR = 4


class EDSR(nn.Module):
    """(N, 1, H, W) in [-1, 1] -> (N, 1, 4 H, 4 W).

    width, blocks  channels and number of the residual blocks of two 3 x 3 convolutions, all at the coarse matrix
    """

    multiple = 1
    factor = FACTOR

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        if width < 4 or width % 4 or blocks < 1:
            raise ValueError(f"edsr: found width {width}, blocks {blocks}, expected a multiple of 4 and at least 1")
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.tail = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(width // 4, 1, 3, padding=1),
        )  # fmt: skip
        self.halo = 2 * blocks + 4  # coarse pixels: how far away one may lie and still matter

    def forward(self, coarse: Tensor) -> Tensor:
        return linear(coarse) + self.detail(coarse)

    def detail(self, coarse: Tensor) -> Tensor:
        """What the linear interpolation lacks."""
        features = first = self.head(coarse)
        for block in self.blocks:
            features = features + block(features)
        out: Tensor = self.tail(features + first)
        return out


def linear(coarse: Tensor) -> Tensor:
    """(N, 1, H, W) -> (N, 1, 4 H, 4 W), the edges of the image kept."""
    fine: Tensor = interpolate(coarse, scale_factor=FACTOR, mode="bilinear", align_corners=False)
    return fine


def draw_weights(network: EDSR) -> None:
    """Begins near the linear interpolation; the three steps of a doubling start alike, so that no grid shows.

    Sub-pixel weights drawn one by one start as a checkerboard (Aitken et al. 2017).
    """
    *inner, last = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in (*inner, last):
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    for block in network.blocks:
        assert isinstance(block, nn.Sequential)
        closing = block[2]
        assert isinstance(closing, nn.Conv2d)
        with torch.no_grad():
            closing.weight.mul_(0.1)
    for convolution in inner[-2:]:
        with torch.no_grad():
            convolution.weight.copy_(convolution.weight[::4].repeat_interleave(4, dim=0))
    nn.init.normal_(last.weight, 0.0, 0.001)

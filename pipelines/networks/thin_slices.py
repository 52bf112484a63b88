"""ThinSlices: five thin slices for each thick one, whose mean is that thick slice.

After Kudo et al. 2019 and Li et al. 2017 a residual network refines an interpolation along z. Here slices are channels
and convolutions run in the plane only: the five thick slices around a place go in, the five thin slices in the middle
one come out. That is many times cheaper on a CPU than convolutions in three dimensions. There are no norms, so that a
tile in the plane gives what the whole slice gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GAIN, WATER = 8.0, -0.5  # on the scale of [-1, 1] water lies at -0.5 and soft tissues some hundredths apart
CONTEXT, FOLD = 5, 5  # thick slices that go in, thin slices that come out


class ThinSlices(nn.Module):
    """(N, CONTEXT, H, W) thick slices in [-1, 1] -> (N, FOLD, H, W) thin slices of the middle one; H and W even.

    width, blocks  channels and number of the residual blocks of two 3 x 3 convolutions, at half resolution
    """

    multiple = 2
    stack = (CONTEXT, FOLD)  # channels in and out: slices of one series

    def __init__(self, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        if width < 1 or blocks < 1:
            raise ValueError(f"thin slices: found width {width}, blocks {blocks}, expected at least 1")
        self.head = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * CONTEXT, width, 3, padding=1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.tail = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 4 * FOLD, 3, padding=1), nn.PixelShuffle(2))
        # how far away a pixel may lie and still matter; even, so that a tile starts where the folding does
        self.halo = 2 * (2 * blocks + 2) + 2

    def forward(self, thick: Tensor) -> Tensor:
        features = self.head(GAIN * (thick - WATER))
        for block in self.blocks:
            features = features + block(features)
        thin = cubic(thick) + self.tail(features) / GAIN
        # back-projection along z: what the five have too much or too little together is taken off each
        middle = thick[:, CONTEXT // 2 : CONTEXT // 2 + 1]
        kept: Tensor = thin + (middle - thin.mean(dim=1, keepdim=True))
        return kept


def cubic(thick: Tensor) -> Tensor:
    """(N, CONTEXT, H, W) -> (N, FOLD, H, W): the cubic convolution along z (Keys 1981, a = -1/2)."""
    middles = (torch.arange(FOLD, device=thick.device) - (FOLD - 1) / 2) / FOLD
    places = torch.arange(CONTEXT, device=thick.device) - CONTEXT // 2
    d = (middles[:, None] - places[None, :]).abs()
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1.0, -0.5 * d**3 + 2.5 * d**2 - 4.0 * d + 2.0
    weight = torch.where(d < 1.0, near, torch.where(d < 2.0, far, torch.zeros_like(d))).to(thick.dtype)
    thin: Tensor = torch.einsum("fc,nchw->nfhw", weight, thick)
    return thin

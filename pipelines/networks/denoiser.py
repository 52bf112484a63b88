"""A denoiser for CT: plain convolutions that estimate the noise, without any norm, so that tiles are exact.

After the eight-layer generator of Yang et al. 2018 (WGAN-VGG), with three changes: 2 x 2 pixels are folded into
channels, since convolutions at full resolution cost the most; the noise is estimated and taken off, not the image made
anew; and what was estimated is high-passed, so that the mean of a region stays what the scanner measured. Filtered
back-projection leaves hardly any noise at such low frequencies, so nothing is lost by it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

GAIN, WATER = 8.0, -0.5  # on the scale of [-1, 1] water lies at -0.5 and the noise is some thousandths


class Denoiser(nn.Module):
    """(N, 1, H, W) in [-1, 1] -> the same with less noise; H and W even.

    width, depth  channels and number of the 3 x 3 convolutions at half resolution
    window        side in pixels of the square whose mean is kept; odd
    """

    multiple = 2

    def __init__(self, width: int = 48, depth: int = 10, window: int = 17) -> None:
        super().__init__()
        if depth < 2 or window < 3 or window % 2 == 0:
            raise ValueError(f"denoiser: found depth {depth}, window {window}, expected 2 or more and an odd number")
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(4, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, 4, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)
        self.window = window
        # how far away a pixel may lie and still matter; even, so that a tile starts where the folding does
        self.halo = 2 * (depth + 1) + (window - 1)

    def forward(self, noisy: Tensor) -> Tensor:
        noise = self.layers(GAIN * (noisy - WATER)) / GAIN  # (N, 1, H, W)
        denoised: Tensor = noisy - (noise - self._smooth(self._smooth(noise)))
        return denoised

    def _smooth(self, x: Tensor) -> Tensor:
        """The mean over a square of half the window's width around each pixel; at the rim, over what there is of it."""
        reach = self.window // 4
        for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
            x = avg_pool2d(x, kernel, stride=1, padding=padding, count_include_pad=False)
        return x


class Critic(nn.Module):
    """A score for each slice (N, 1, H, W): high where it looks like a scan without noise. No norm, as WGAN-GP asks."""

    def __init__(self, ndf: int = 32) -> None:
        super().__init__()
        widths = (1, ndf, ndf, 2 * ndf, 2 * ndf, 4 * ndf, 4 * ndf)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=1 + index % 2, padding=1), nn.LeakyReLU(0.2))
            for index, (narrow, wide) in enumerate(pairwise(widths))
        )
        self.score = nn.Linear(4 * ndf, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(scores (N,), the features after each halving)."""
        features = []
        x = GAIN * (x - WATER)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index % 2:
                features.append(x)
        score: Tensor = self.score(torch.mean(x, dim=(2, 3)))
        return score[:, 0], features

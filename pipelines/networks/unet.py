"""The pix2pix U-Net generator: strided 4x4 convolutions down, bilinear upsampling back, a skip at every level.

After Isola et al. 2017 ("Image-to-Image Translation with Conditional Adversarial Networks", section 6.1.1), with three
changes for medical slices: InstanceNorm, so that a slice is treated the same alone and in a batch; upsampling followed
by a convolution, so that no chequerboard appears (Odena et al. 2016); no dropout, so that the same slice always gives
the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

MAXIMUM_WIDTH = 8  # the widest level holds 8 x ngf channels, as in pix2pix
FINE_WIDTH = 8  # channels at full resolution, where each costs the most


class _Down(nn.Module):
    """(N, in, H, W) -> (N, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.convolution(x))
        return nn.functional.leaky_relu(normed, 0.2)


class _Up(nn.Module):
    """(N, in, H, W) -> (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        larger = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return nn.functional.relu(self.norm(self.convolution(larger)))


class UNet(nn.Module):
    """A generator from (N, in_channels, H, W) in [-1, 1] to (N, out_channels, H, W) in [-1, 1].

    ngf    channels of the first level; they double at each level up to 8 x ngf
    downs  number of halvings; H and W must be multiples of 2 ** downs
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, ngf: int = 16, downs: int = 6) -> None:
        super().__init__()
        if downs < 3:
            raise ValueError(f"downs: found {downs}, expected at least 3")
        widths = [ngf * min(2**level, MAXIMUM_WIDTH) for level in range(downs)]
        self.multiple = 2**downs
        # folding 2 x 2 pixels into channels loses nothing and spares the convolutions at full resolution,
        # which would cost more than all the others; without a norm, since the absolute grey value tells fat from marrow
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, ngf, kernel_size=3, padding=1), nn.LeakyReLU(0.2)
        )
        self.down = nn.ModuleList(
            _Down(narrow, wide, norm=level < downs - 2)  # the innermost level may be one pixel: nothing to norm
            for level, (narrow, wide) in enumerate(pairwise(widths))
        )
        self.up = nn.ModuleList(
            _Up(widths[level] * (1 if level == downs - 1 else 2), widths[level - 1])
            for level in reversed(range(1, downs))
        )
        self.narrow = nn.Sequential(nn.Conv2d(2 * ngf, FINE_WIDTH, kernel_size=3, padding=1), nn.LeakyReLU(0.2))
        self.head = nn.Sequential(
            nn.Conv2d(FINE_WIDTH + in_channels, FINE_WIDTH, kernel_size=3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(FINE_WIDTH, out_channels, kernel_size=3, padding=1),
        )

    def forward(self, real_a: Tensor) -> Tensor:
        height, width = real_a.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"slice: found {height} x {width}, expected multiples of {self.multiple}")
        signal = real_a + 1.0  # air becomes 0, which is also what the convolutions see beyond the edge
        skips = [self.stem(signal)]  # (N, ngf, H/2, W/2)
        for down in self.down:
            skips.append(down(skips[-1]))  # (N, width, H/2^k, W/2^k)
        x = skips.pop()
        for up in self.up:
            x = torch.cat((up(x), skips.pop()), dim=1)  # (N, 2 width, 2H', 2W')
        narrow = self.narrow(x)  # (N, 8, H/2, W/2)
        fine = nn.functional.interpolate(narrow, scale_factor=2, mode="bilinear", align_corners=False)  # (N, 8, H, W)
        fake_b: Tensor = self.head(torch.cat((fine, signal), dim=1))  # (N, out_channels, H, W)
        return torch.tanh(fake_b)


def with_sources_before(state: Mapping[str, Tensor], more: int) -> dict[str, Tensor]:
    """The weights of a U-Net for `more` sources in front of those of `state`; at first they have no say."""
    stem, head = state["stem.1.weight"], state["head.0.weight"]
    fine, signal = head[:, :FINE_WIDTH], head[:, FINE_WIDTH:]
    return {
        **state,
        "stem.1.weight": torch.cat((stem.new_zeros(stem.shape[0], 4 * more, *stem.shape[2:]), stem), dim=1),
        "head.0.weight": torch.cat((fine, head.new_zeros(head.shape[0], more, *head.shape[2:]), signal), dim=1),
    }

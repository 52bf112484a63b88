"""The generator of CycleGAN: a ResNet between two strided convolutions down and two steps up (Zhu et al. 2017, 7.2).

Two departures. Steps up are bilinear with a convolution, since transposed convolutions leave a chequerboard where
nothing but their own evenness prevents it. The first convolution has no norm, since an absolute grey value is what
tells fat from muscle, and instance norms would take it away before anything has looked at it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu


class _Residual(nn.Module):
    """(N, width, H, W) -> the same shape: two 3 x 3 convolutions around which the input is led."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(x)
        return x + change


class _Up(nn.Module):
    """(N, in, H, W) -> (N, out, 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(in_channels, out_channels, 3), nn.InstanceNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        larger = interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return relu(self.layers(larger))


class ResNet(nn.Module):
    """A generator from (N, in_channels, H, W) in [-1, 1] to (N, out_channels, H, W) in [-1, 1].

    ngf     channels of the first convolution; they double at each of the two steps down
    blocks  residual blocks; 6 for images of 128 pixels in the paper
    H and W must be multiples of 4.
    """

    multiple = 4

    def __init__(self, in_channels: int = 1, out_channels: int = 1, ngf: int = 24, blocks: int = 6) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(in_channels, ngf, 7), nn.ReLU())
        self.down = nn.Sequential(
            nn.Conv2d(ngf, 2 * ngf, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * ngf), nn.ReLU(),
            nn.Conv2d(2 * ngf, 4 * ngf, 3, stride=2, padding=1), nn.InstanceNorm2d(4 * ngf), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(*(_Residual(4 * ngf) for _ in range(blocks)))
        self.up = nn.Sequential(_Up(4 * ngf, 2 * ngf), _Up(2 * ngf, ngf))
        self.last = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(ngf, out_channels, 7))

    def forward(self, real_a: Tensor) -> Tensor:
        height, width = real_a.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"slice: found {height} x {width}, expected multiples of {self.multiple}")
        x = self.first(real_a)  # (N, ngf, H, W)
        x = self.blocks(self.down(x))  # (N, 4 ngf, H/4, W/4)
        fake_b: Tensor = self.last(self.up(x))  # (N, out_channels, H, W)
        return torch.tanh(fake_b)

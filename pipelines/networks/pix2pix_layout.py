"""Generators whose tensors bear the names of the code base pytorch-CycleGAN-and-pix2pix, so that its weights fit.

U-Net (Isola et al. 2017, section 6.1.1) and ResNet generator (Johnson et al. 2016, as in Zhu et al. 2017) with its
norms and its dropout. That code base tests in training mode with batches of one slice; what that means is done here
with batches of any size: a batch norm takes the statistics of each slice, and dropout stays on. The pattern of what
is dropped comes from a seed and is the same for every slice, so that the same input gives the same voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import instance_norm

from pipelines.networks.conventions import Conventions

NORMS = ("batch", "instance", "none")
NORM_MODES = ("batch", "running")  # statistics of each slice, or those kept from training
WIDEST = 8  # the widest level holds 8 x ngf channels
FEWEST_DOWNS = 5
_KEPT = 0.5  # share of the values that dropout keeps


class _NormOfEach(nn.BatchNorm2d):
    """What batch norm in training mode does to a batch of one slice, for each slice of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


class _Dropout(nn.Module):
    """Half of the values set to zero and the rest doubled: the draws that torch makes for a batch of one slice."""

    def __init__(self, draws: torch.Generator) -> None:
        super().__init__()
        self._draws = draws

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:
            return x
        kept = torch.empty(1, *x.shape[1:], device="cpu").bernoulli_(_KEPT, generator=self._draws).div_(_KEPT)
        return x * kept.to(x.device)


def _norm(norm: str, norm_mode: str, channels: int) -> nn.Module:
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm_mode == "running" else _NormOfEach(channels)


class _Layout(nn.Module):
    """What both generators share: channels, norms and the seed of the dropout."""

    multiple = 1
    model: nn.Module

    def __init__(self, in_channels: int, out_channels: int, norm: str, norm_mode: str, seed: int) -> None:
        super().__init__()
        if norm not in NORMS or norm_mode not in NORM_MODES:
            raise ValueError(f"norm: found {norm!r}, {norm_mode!r}, expected one of {NORMS} and one of {NORM_MODES}")
        self._conventions = Conventions(in_channels, out_channels)
        self._seed = seed
        self._draws = torch.Generator(device="cpu")

    def forward(self, real_a: Tensor) -> Tensor:
        height, width = real_a.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise ValueError(f"slice: found {height} x {width}, expected multiples of {self.multiple}")
        self._draws.manual_seed(self._seed)
        fake_b: Tensor = self.model(self._conventions.to_network(real_a))
        return self._conventions.from_network(fake_b)


class _Level(nn.Module):
    """One level of the U-Net: what leads down, the levels below, what leads up; a skip joins input and result."""

    def __init__(self, layers: list[nn.Module], skip: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self._skip = skip

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return torch.cat((x, result), dim=1) if self._skip else result


class Pix2PixUNet(_Layout):
    """(N, in_channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 2 ** downs.

    ngf        channels of the first level; they double at each level up to 8 x ngf
    norm       batch, instance (without parameters) or none
    norm_mode  for batch norms: statistics of each slice, or running, those kept from training
    dropout    whether dropout acts, in the levels between the innermost and the four outermost
    seed       of the dropout
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        ngf: int = 64,
        downs: int = 8,
        norm: str = "batch",
        norm_mode: str = "batch",
        dropout: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, norm, norm_mode, seed)
        if downs < FEWEST_DOWNS:
            raise ValueError(f"downs: found {downs}, expected at least {FEWEST_DOWNS}")
        self.multiple = 2**downs
        bias = norm == "instance"
        widths = [ngf * min(2**level, WIDEST) for level in range(downs)]
        inner: list[nn.Module] = []
        for level in reversed(range(1, downs)):
            outer_width, width = widths[level - 1], widths[level]
            down: list[nn.Module] = [nn.LeakyReLU(0.2), nn.Conv2d(outer_width, width, 4, 2, 1, bias=bias)]
            if inner:
                down.append(_norm(norm, norm_mode, width))
            joined = width * (2 if inner else 1)
            up = [
                nn.ReLU(),
                nn.ConvTranspose2d(joined, outer_width, 4, 2, 1, bias=bias),
                _norm(norm, norm_mode, outer_width),
            ]
            if dropout and 4 <= level <= downs - 2:
                up.append(_Dropout(self._draws))
            inner = [_Level([*down, *inner, *up], skip=True)]
        first = nn.Conv2d(in_channels, ngf, 4, 2, 1, bias=bias)
        last = nn.ConvTranspose2d(2 * ngf, out_channels, 4, 2, 1)
        self.model = _Level([first, *inner, nn.ReLU(), last, nn.Tanh()], skip=False)


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a skip; a layer of dropout between them where the checkpoint has one."""

    def __init__(self, width: int, bias: bool, norm: tuple[str, str], between: list[nn.Module]) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), _norm(*norm, width), nn.ReLU(), *between,
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), _norm(*norm, width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv_block(x)
        return x + change


class Pix2PixResNet(_Layout):
    """(N, in_channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 4.

    ngf             channels after the first convolution; twice doubled before the blocks
    blocks          residual blocks: 6 or 9 in the papers
    norm, norm_mode as in Pix2PixUNet
    dropout_layers  whether the blocks were built with dropout, which shifts the names of what follows
    dropout         whether it acts
    seed            of the dropout
    """

    multiple = 4

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        ngf: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        norm_mode: str = "batch",
        dropout_layers: bool = False,
        dropout: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, norm, norm_mode, seed)
        bias, how = norm == "instance", (norm, norm_mode)
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, ngf, 7, bias=bias)]
        layers += [_norm(*how, ngf), nn.ReLU()]
        for width in (ngf, 2 * ngf):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=bias), _norm(*how, 2 * width), nn.ReLU()]
        acting: nn.Module = _Dropout(self._draws) if dropout else nn.Identity()
        layers += [_Block(4 * ngf, bias, how, [acting] if dropout_layers else []) for _ in range(blocks)]
        for width in (4 * ngf, 2 * ngf):
            layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1, bias=bias)]
            layers += [_norm(*how, width // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

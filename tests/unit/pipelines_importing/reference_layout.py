"""Checkpoints in the layout of pytorch-CycleGAN-and-pix2pix, and what that code makes of a slice, written as functions.

The generators of pipelines.networks are modules; here every tensor is fetched by the name it has in a checkpoint, so
that neither is made of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@dataclass
class Checkpoint:
    """Random tensors under the names of that code."""

    norm: str
    state: State

    def convolution(self, name: str, *shape: int, last: bool = False, transposed: bool = False) -> None:
        self.state[f"{name}.weight"] = torch.randn(shape) / (shape[1] * shape[2]) ** 0.5
        if last or self.norm == "instance":
            self.state[f"{name}.bias"] = torch.randn(shape[1] if transposed else shape[0]) / 4

    def normed(self, name: str, channels: int) -> None:
        if self.norm == "batch":
            self.state[f"{name}.weight"] = 1 + torch.randn(channels) / 4
            self.state[f"{name}.bias"] = torch.randn(channels) / 4
            self.state[f"{name}.running_mean"] = torch.randn(channels) / 4
            self.state[f"{name}.running_var"] = 0.5 + torch.rand(channels)
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def unet_checkpoint(
    norm: str = "batch", downs: int = 6, ngf: int = 2, in_channels: int = 1, out_channels: int = 1
) -> State:
    torch.manual_seed(3)
    made = Checkpoint(norm, {})
    made.convolution("model.model.0", ngf, in_channels, 4, 4)
    made.convolution("model.model.3", 2 * ngf, out_channels, 4, 4, last=True, transposed=True)
    prefix, outer = "model.model.1", ngf
    for level in range(1, downs):
        innermost, inner = level == downs - 1, ngf * min(8, 2**level)
        made.convolution(f"{prefix}.model.1", inner, outer, 4, 4)
        up = 3 if innermost else 5
        if not innermost:
            made.normed(f"{prefix}.model.2", inner)
        made.convolution(f"{prefix}.model.{up}", inner * (1 if innermost else 2), outer, 4, 4, transposed=True)
        made.normed(f"{prefix}.model.{up + 1}", outer)
        prefix, outer = f"{prefix}.model.3", inner
    return made.state


def resnet_checkpoint(
    norm: str = "instance", blocks: int = 2, ngf: int = 4, channels: int = 1, dropout: bool = False
) -> State:
    torch.manual_seed(4)
    made = Checkpoint(norm, {})
    made.convolution("model.1", ngf, channels, 7, 7)
    made.normed("model.2", ngf)
    for index, width in ((4, ngf), (7, 2 * ngf)):
        made.convolution(f"model.{index}", 2 * width, width, 3, 3)
        made.normed(f"model.{index + 1}", 2 * width)
    second = 6 if dropout else 5
    for block in range(10, 10 + blocks):
        for place in (1, second):
            made.convolution(f"model.{block}.conv_block.{place}", 4 * ngf, 4 * ngf, 3, 3)
            made.normed(f"model.{block}.conv_block.{place + 1}", 4 * ngf)
    for index, width in ((10 + blocks, 4 * ngf), (13 + blocks, 2 * ngf)):
        made.convolution(f"model.{index}", width, width // 2, 3, 3, transposed=True)
        made.normed(f"model.{index + 1}", width // 2)
    made.convolution(f"model.{17 + blocks}", channels, ngf, 7, 7, last=True)
    return made.state


@dataclass
class Reference:
    """That code on one slice: `running` as with --eval, otherwise training mode; `drops` as without --eval."""

    state: State
    norm: str
    running: bool = False
    drops: bool = False

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, padding)

    def up(self, name: str, x: Tensor, output_padding: int = 0) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return functional.conv_transpose2d(x, weight, bias, 2, 1, output_padding)

    def normed(self, name: str, x: Tensor) -> Tensor:
        if self.norm == "none":
            return x
        if self.norm == "instance":
            return functional.instance_norm(x)
        mean, variance, weight, bias = (
            self.state[f"{name}.{one}"] for one in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean.clone(), variance.clone(), weight, bias, training=not self.running)

    def unet(self, x: Tensor, downs: int) -> Tensor:
        return torch.tanh(
            self.up("model.model.3", functional.relu(self._level(self.conv("model.model.0", x, 2, 1), 1, downs)))
        )

    def _level(self, x: Tensor, level: int, downs: int) -> Tensor:
        prefix = "model.model.1" + ".model.3" * (level - 1) + ".model"
        innermost = level == downs - 1
        y = self.conv(f"{prefix}.1", functional.leaky_relu(x, 0.2), 2, 1)
        if not innermost:
            y = self._level(self.normed(f"{prefix}.2", y), level + 1, downs)
        place = 3 if innermost else 5
        y = self.normed(f"{prefix}.{place + 1}", self.up(f"{prefix}.{place}", functional.relu(y)))
        if 4 <= level < downs - 1:
            y = functional.dropout(y, 0.5, training=self.drops)
        return torch.cat((x, y), 1)

    def resnet(self, x: Tensor, blocks: int, dropout: bool) -> Tensor:
        x = functional.relu(self.normed("model.2", self.conv("model.1", functional.pad(x, [3] * 4, mode="reflect"))))
        for index in (4, 7):
            x = functional.relu(self.normed(f"model.{index + 1}", self.conv(f"model.{index}", x, 2, 1)))
        second = 6 if dropout else 5
        for block in range(10, 10 + blocks):
            name = f"model.{block}.conv_block"
            y = functional.relu(
                self.normed(f"{name}.2", self.conv(f"{name}.1", functional.pad(x, [1] * 4, mode="reflect")))
            )
            if dropout:
                y = functional.dropout(y, 0.5, training=self.drops)
            y = self.conv(f"{name}.{second}", functional.pad(y, [1] * 4, mode="reflect"))
            x = x + self.normed(f"{name}.{second + 1}", y)
        for index in (10 + blocks, 13 + blocks):
            x = functional.relu(self.normed(f"model.{index + 1}", self.up(f"model.{index}", x, output_padding=1)))
        return torch.tanh(self.conv(f"model.{17 + blocks}", functional.pad(x, [3] * 4, mode="reflect")))

"""Generators and discriminators, and the names by which a manifest asks for a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from pipelines.networks.denoiser import Critic, Denoiser
from pipelines.networks.patchgan import PatchGAN
from pipelines.networks.unet import UNet

GENERATORS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType({"unet": UNet, "denoiser": Denoiser})

__all__ = ["GENERATORS", "Critic", "Denoiser", "PatchGAN", "UNet"]

"""Generators and discriminators, and the names by which a manifest asks for a generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import nn

from pipelines.networks.denoiser import Critic, Denoiser
from pipelines.networks.edsr import EDSR
from pipelines.networks.monai_networks import NETWORKS, MonaiNetwork
from pipelines.networks.patchgan import PatchGAN
from pipelines.networks.pix2pix_layout import Pix2PixResNet, Pix2PixUNet
from pipelines.networks.resnet import ResNet
from pipelines.networks.thin_slices import ThinSlices
from pipelines.networks.unet import UNet

GENERATORS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "unet": UNet,
        "resnet": ResNet,
        "denoiser": Denoiser,
        "edsr": EDSR,
        "thin-slices": ThinSlices,
        "pix2pix-unet": Pix2PixUNet,
        "pix2pix-resnet": Pix2PixResNet,
        **{name: partial(MonaiNetwork, name) for name in NETWORKS},
    }
)

__all__ = ["EDSR", "GENERATORS", "Critic", "Denoiser", "PatchGAN", "ResNet", "ThinSlices", "UNet"]

"""A small released model of each kind in a folder, as somebody who trained one would leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomlkit
import torch
from safetensors.torch import save_file

from pipelines.networks import EDSR, GENERATORS
from pipelines.networks.edsr import draw_weights

Change = Callable[[Any], None]  # edits the manifest before it is written
Tensors = dict[str, torch.Tensor]

MANIFEST = """
schema = 1
id = "t2-to-stir"
version = "1.0.0"
kind = "translate"
title = "Sagittal T2W spine to STIR"
summary = "A model of a few thousand parameters."
method = "pix2pix conditional GAN"
licence = "MIT"
intended_use = "Tests."
enabled = true

[[inputs]]
role = "T2W"
modality = "MR"
sop_classes = ["1.2.840.10008.5.1.4.1.1.4"]
planes = ["sagittal"]
body_parts = ["SPINE", "LSPINE"]
refused_image_types = ["PHASE MAP"]
scanning_sequences = ["SE", "RM"]
inversion = "refused"
fat_suppression = "refused"
contrast_agent = "refused"
may_be_missing = ["age_years"]

[inputs.ranges]
tr_ms = [1800, 12000]
te_ms = [70, 160]
slices = [1, 64]
matrix = [16, 1024]
pixel_spacing_mm = [0.3, 1.6]
slice_spacing_mm = [1.0, 8.0]
field_of_view_mm = [20, 500]
age_years = [18, 120]

[inputs.description]
confirms = ["T2"]
contradicts = ["STIR", "TIRM", "FLAIR", "FS"]
contradicts_unless_confirmed = ["T1", "PD"]

[geometry]
pixel_spacing_mm = 1.0
tolerance = 0.1
multiple = 8

[intensity]
percentiles = [0.5, 99.5]

[output]
contrast = "STIR"
modality = "MR"
unit = "1"
marker = "STIR"
range = [0, 4095]

[generator]
architecture = "unet"
file = "generator.safetensors"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[generator.parameters]
in_channels = 1
out_channels = 1
ngf = 8
downs = 3
"""


def seeded_weights(**parameters: int) -> Tensors:
    """Half precision weights of a U-Net, the same every time."""
    torch.manual_seed(5)
    return {name: value.half() for name, value in GENERATORS["unet"](**parameters).state_dict().items()}


def write_model(
    weights: Path, change: Change | None = None, tensors: Tensors | None = None, name: str = "t2-to-stir"
) -> Path:
    """The folder `name` under `weights`, with a manifest and the digest of its weights."""
    folder = weights / name
    folder.mkdir(parents=True, exist_ok=True)
    manifest = tomlkit.parse(MANIFEST)
    path = folder / "generator.safetensors"
    save_file(seeded_weights(**manifest["generator"]["parameters"]) if tensors is None else tensors, path)
    manifest["generator"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if change is not None:
        change(manifest)
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    return folder


def write_denoiser(weights: Path) -> Path:
    """A released ct-denoise with random weights that change little."""
    return _write_ct(weights, "denoise", "DENOISED", "denoiser", {"width": 8, "depth": 3})


def write_thin_slices(weights: Path) -> Path:
    """A released ct-thin-slice with random weights."""
    return _write_ct(weights, "thin-slice", "CT THIN SLICES", "thin-slices", {"width": 8, "blocks": 1})


def write_super_resolution(weights: Path) -> Path:
    """A released t2-super-resolution with random weights."""
    torch.manual_seed(3)
    network = EDSR(width=8, blocks=1)
    draw_weights(network)
    with torch.no_grad():
        next(reversed(list(network.tail.children()))).weight *= 30.0  # so that it has something to say

    def change(manifest: Any) -> None:
        manifest["id"], manifest["kind"] = "t2-super-resolution", "super-resolve"
        manifest["geometry"] = {"pixel_spacing_mm": 2.2, "tolerance": 1.0, "multiple": 1}
        manifest["generator"] |= {"architecture": "edsr", "parameters": {"width": 8, "blocks": 1}}

    return write_model(weights, change, network.state_dict(), "t2-super-resolution")


def _write_ct(weights: Path, kind: str, marker: str, architecture: str, parameters: dict[str, int]) -> Path:
    torch.manual_seed(3)
    network = GENERATORS[architecture](**parameters)
    with torch.no_grad():
        for parameter in list(network.parameters())[-2:]:
            parameter *= 0.1
    hu = [-1024.0, 3071.0]

    def change(manifest: Any) -> None:
        manifest["id"], manifest["kind"] = f"ct-{kind}", kind
        (contract,) = manifest["inputs"]
        contract["role"], contract["modality"] = "CT", "CT"
        manifest["intensity"] = {"hu": hu}
        manifest["geometry"] = {"pixel_spacing_mm": 0.8, "tolerance": 1.0, "multiple": 2}
        manifest["output"] = {"contrast": "CT", "modality": "CT", "unit": "HU", "marker": marker, "range": hu}
        manifest["generator"] |= {"architecture": architecture, "parameters": parameters}

    return write_model(weights, change, network.state_dict(), f"ct-{kind}")

"""A small released model in a folder, as somebody who trained one would leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomlkit
import torch
from safetensors.torch import save_file

from pipelines.networks import GENERATORS

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


def write_model(weights: Path, change: Change | None = None, tensors: Tensors | None = None) -> Path:
    """The folder t2-to-stir under `weights`, with a manifest and the digest of its weights."""
    folder = weights / "t2-to-stir"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = tomlkit.parse(MANIFEST)
    path = folder / "generator.safetensors"
    save_file(seeded_weights(**manifest["generator"]["parameters"]) if tensors is None else tensors, path)
    manifest["generator"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if change is not None:
        change(manifest)
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    return folder

"""Turns a finished run into the weights folder that the gateway reads."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import tomlkit
import torch
from safetensors.torch import load_file
from torch import nn

from pipelines.training.card import with_measurements
from pipelines.training.recipe import Recipe
from pipelines.training.trainer import BEST, generator_parameters, make_generator, save_generator, translate
from pipelines.training.visits import visit

log = logging.getLogger("pipelines.training")
WEIGHTS = "generator.safetensors"
METRICS = "metrics.json"
HALF_PRECISION_LIMIT = 0.01  # largest change of any pixel, of a range of 2


def load_generator(recipe: Recipe, path: Path) -> nn.Module:
    """The generator of `recipe` with the weights in `path`, in single precision and ready to be used."""
    generator = make_generator(recipe)
    generator.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return generator.eval()


def release(recipe: Recipe, run: Path, weights: Path) -> None:
    """Writes `weights`/generator.safetensors in half precision and states it in the manifest that lies there.

    The prose of manifest and card is written by people; version, digest, sizes and intensity scales come from the
    recipe, the tables of the card from the metrics, which are copied, if the run has been evaluated. Raises ValueError
    when half precision changes the images.
    """
    generator = load_generator(recipe, run / BEST)
    save_generator(generator, weights / WEIGHTS, torch.float16)
    released = load_generator(recipe, weights / WEIGHTS)
    slices = visit(recipe.phantoms.validation_first_seed, recipe.intensity, slices=5).real_a
    change = max(float(np.abs(translate(generator, one) - translate(released, one)).max()) for one in slices)
    if change > HALF_PRECISION_LIMIT:
        raise ValueError(f"half precision: found a change of {change:.4f}, expected at most {HALF_PRECISION_LIMIT}")
    path = weights / "manifest.toml"
    manifest = tomlkit.parse(path.read_text(encoding="utf-8"))
    digest = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    manifest["version"] = recipe.version
    manifest["intensity"] = {"percentiles": list(recipe.intensity.percentiles)}
    manifest["output"]["range"] = [0.0, recipe.intensity.full_scale]
    manifest["generator"] = {
        "architecture": recipe.networks.architecture,
        "file": WEIGHTS,
        "sha256": digest,
        "parameters": generator_parameters(recipe),
    }
    path.write_text(tomlkit.dumps(manifest), encoding="utf-8")
    if (run / METRICS).exists():
        shutil.copyfile(run / METRICS, weights / METRICS)
        card = weights / "card.md"
        measured = json.loads((run / METRICS).read_text(encoding="utf-8"))
        card.write_text(with_measurements(card.read_text(encoding="utf-8"), measured), encoding="utf-8")
    log.info("released %s, sha256 %s, half precision changes at most %.5f", weights / WEIGHTS, digest, change)

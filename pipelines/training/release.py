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
from torch import nn

from pipelines.training.card import with_measurements
from pipelines.training.recipe import Recipe
from pipelines.training.tasks import task_of
from pipelines.training.trainer import BEST, WEIGHTS, read_generator, save_generator, translate

log = logging.getLogger("pipelines.training")
METRICS = "metrics.json"
CHECKED = 5  # validation slices


def load_generator(recipe: Recipe, path: Path) -> nn.Module:
    """The generator of `recipe` with the weights in `path`, in single precision and ready to be used."""
    generator = task_of(recipe).network(recipe)
    generator.load_state_dict(read_generator(path))
    return generator.eval()


def release(recipe: Recipe, run: Path, weights: Path) -> None:
    """Writes `weights`/generator.safetensors in half precision and states it in the manifest that lies there.

    The prose of manifest and card is written by people; version, digest, sizes and intensity scales come from the
    recipe, the tables of the card from the metrics, which are copied, if the run has been evaluated. Raises ValueError
    when half precision changes the images.
    """
    task = task_of(recipe)
    generator = load_generator(recipe, run / BEST)
    save_generator(generator, weights / WEIGHTS, torch.float16)
    released = load_generator(recipe, weights / WEIGHTS)
    slices = [real_a for real_a, _ in task.validation(recipe)[:CHECKED]]
    change = max(float(np.abs(translate(generator, one) - translate(released, one)).max()) for one in slices)
    if change > task.half_precision_limit:
        raise ValueError(
            f"half precision: found a change of {change:.5f}, expected at most {task.half_precision_limit}"
        )
    path = weights / "manifest.toml"
    manifest = tomlkit.parse(path.read_text(encoding="utf-8"))
    digest = hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
    manifest["version"] = recipe.version
    manifest["intensity"], manifest["output"]["range"] = task.scales(recipe)
    manifest["generator"] = {
        "architecture": recipe.networks.architecture,
        "file": WEIGHTS,
        "sha256": digest,
        "parameters": task.parameters(recipe),
    }
    path.write_text(tomlkit.dumps(manifest), encoding="utf-8")
    if (run / METRICS).exists():
        shutil.copyfile(run / METRICS, weights / METRICS)
        card = weights / "card.md"
        measured = json.loads((run / METRICS).read_text(encoding="utf-8"))
        card.write_text(with_measurements(card.read_text(encoding="utf-8"), measured), encoding="utf-8")
    log.info("released %s, sha256 %s, half precision changes at most %.5f", weights / WEIGHTS, digest, change)

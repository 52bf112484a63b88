"""A training recipe: one TOML file per pipeline that names every number of its training."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class NetworkSizes:
    """The generator's registered name and its sizes, and the discriminator's."""

    architecture: str
    ngf: int
    downs: int
    ndf: int
    layers: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Optimiser and duration; from step `decay_from` the learning rate falls on a line to zero at `steps`."""

    steps: int
    decay_from: int
    batch: int
    learning_rate: float
    betas: tuple[float, float]
    gan_weight: float
    l1_weight: float
    ema: float
    validate_every: int


@dataclass(frozen=True, slots=True)
class PhantomSets:
    """Seeds of the virtual patients: training, validation and test never share one."""

    train_first_seed: int
    train_patients: int
    train_slices: int  # from each patient
    validation_first_seed: int
    validation_patients: int
    test_first_seed: int
    test_patients: int
    lesion_rate: float  # in training; 1 in the other sets
    crop: int  # pixels, a multiple of 2 ** downs


@dataclass(frozen=True, slots=True)
class IntensityScales:
    """Percentiles that scale a source series, and the brightness of CSF and of full scale in the result."""

    percentiles: tuple[float, float]
    csf_intensity: float
    full_scale: float
    jitter: float  # relative SD of the source scale in training


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a training run depends on."""

    id: str
    version: str
    seed: int
    networks: NetworkSizes
    schedule: Schedule
    phantoms: PhantomSets
    intensity: IntensityScales


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`; raises ValueError that names a missing or unknown key."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    parts: dict[str, Any] = {
        "networks": NetworkSizes,
        "schedule": Schedule,
        "phantoms": PhantomSets,
        "intensity": IntensityScales,
    }
    values = {
        name: _build(parts[name], value, f"{path.name}: {name}.") if name in parts else value
        for name, value in table.items()
    }
    recipe: Recipe = _build(Recipe, values, f"{path.name}: ")
    return recipe


def _build(kind: Any, table: dict[str, Any], where: str) -> Any:
    expected = {field.name for field in fields(kind)}
    for name in sorted(expected ^ table.keys()):
        raise ValueError(
            f"{where}{name}: {'missing' if name in expected else 'unknown key'}, expected {sorted(expected)}"
        )
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})

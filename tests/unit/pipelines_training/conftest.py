"""A recipe small enough to train in seconds, and pairs that need no phantom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipelines.training.recipe import (
    Contrasts,
    IntensityScales,
    NetworkSizes,
    PhantomSets,
    TranslationRecipe,
    TranslationSchedule,
)
from pipelines.training.trainer import Pair

SIDE = 32


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_recipe() -> TranslationRecipe:
    return TranslationRecipe(
        id="t2-to-stir",
        version="0.0.1",
        kind="translate",
        seed=7,
        contrasts=Contrasts(("T2W",), "STIR"),
        networks=NetworkSizes("unet", ngf=8, downs=3, ndf=4, layers=1, start=""),
        schedule=TranslationSchedule(
            steps=60,
            decay_from=40,
            batch=2,
            learning_rate=2e-3,
            betas=(0.5, 0.999),
            ema=0.9,
            validate_every=10,
            gan_weight=1.0,
            l1_weight=100.0,
            lesion_weight=1.0,
        ),
        phantoms=PhantomSets(
            train_first_seed=1,
            train_patients=2,
            validation_first_seed=11,
            validation_patients=1,
            test_first_seed=21,
            test_patients=2,
            train_slices=1,
            lesion_rate=1.0,
            crop=64,
        ),
        intensity=IntensityScales((0.5, 99.5), 1000.0, 1250.0, 0.1),
    )


@pytest.fixture
def draw() -> Callable[[np.random.Generator], Pair]:
    return _draw_block


@pytest.fixture
def blocks() -> list[Pair]:
    """Held-out pairs of the task that `draw` draws from."""
    rng = np.random.default_rng(99)
    return [_draw_block(rng) for _ in range(4)]


def _draw_block(rng: np.random.Generator) -> Pair:
    """A bright square on a dark ground, and the same with its grey values exchanged."""
    real_a = np.full((SIDE, SIDE), -0.5, dtype=np.float32)
    top, left = rng.integers(2, 18, 2)
    real_a[top : top + 12, left : left + 12] = 0.5
    return real_a[None], -real_a

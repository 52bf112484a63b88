"""Trains the thin slices: pairs alone at first, then also against a discriminator that sees thick and thin together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import l1_loss

from pipelines.networks import PatchGAN
from pipelines.networks.thin_slices import CONTEXT, FOLD, GAIN
from pipelines.training.late_adversary import LateAdversary, make_residual
from pipelines.training.recipe import ThinSliceRecipe
from pipelines.training.trainer import Pair


class ThroughPlane(LateAdversary):
    """A run of `recipe`; along the rim of a slice the generator lacks the mirrored pixels that it has in use."""

    rim = 12

    def __init__(
        self,
        recipe: ThinSliceRecipe,
        draw: Callable[[np.random.Generator], Pair],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.margin = recipe, recipe.phantoms.margin
        generator, judge = make_residual(recipe), PatchGAN(CONTEXT + FOLD, recipe.networks.ndf, layers=2)
        *inner, last = [module for module in generator.modules() if isinstance(module, nn.Conv2d)]
        for convolution in inner:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            convolution.weight.data *= 0.5  # blocks add up, and no norm holds them
        nn.init.normal_(last.weight, 0.0, 0.001)  # begins near the cubic interpolation
        super().__init__(generator, judge, recipe.schedule, recipe.seed, draw, validation, device)

    def one_step(self) -> None:
        """One update of the generator, after one of the discriminator once its time has come."""
        schedule = self.recipe.schedule
        thick, real = self._pairs()
        real = real[:, 0]
        with self._precision():
            thin = self.generator(thick)
        thick, real, thin = (self._inner(stack.float()) for stack in (thick, real, thin))
        distance = l1_loss(thin, real)
        along_z = l1_loss(thin.diff(dim=1), real.diff(dim=1))
        loss = GAIN * (schedule.pixel_weight * distance + schedule.edge_weight * along_z)
        self._learn(thick, real, thin, loss, distance)

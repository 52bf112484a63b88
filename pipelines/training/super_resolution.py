"""Trains super-resolution: pixels and edges alone at first, then also against a discriminator that sees both images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from pipelines.degradation import back_projected, degradation, restoration
from pipelines.intensity import Array
from pipelines.networks import EDSR, PatchGAN
from pipelines.networks.edsr import FACTOR, draw_weights, linear
from pipelines.training.late_adversary import LateAdversary, make_residual
from pipelines.training.recipe import SuperResolutionRecipe
from pipelines.training.trainer import Pair, translate
from pipelines.training.wgan import edge_distance


class SuperResolution(LateAdversary):
    """A run of `recipe`. Losses look at the image after back-projection, as it will be delivered."""

    def __init__(
        self,
        recipe: SuperResolutionRecipe,
        draw: Callable[[np.random.Generator], Pair],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.margin = recipe, recipe.phantoms.margin
        generator, judge = make_residual(recipe), PatchGAN(2, recipe.networks.ndf, layers=2)
        assert isinstance(generator, EDSR)
        draw_weights(generator)
        length = recipe.phantoms.patch // FACTOR
        self.down = torch.from_numpy(degradation(length, FACTOR)).to(device)
        self.up = torch.from_numpy(restoration(length, FACTOR)).to(device)
        super().__init__(generator, judge, recipe.schedule, recipe.seed, draw, validation, device)

    def one_step(self) -> None:
        """One update of the generator, after one of the discriminator once its time has come."""
        schedule = self.recipe.schedule
        coarse, real = self._pairs()
        with self._precision():
            fine = self.generator(coarse)
        fine = self._inner(self._back_projected(fine.float(), coarse))
        shown, real = self._inner(linear(coarse)), self._inner(real)
        distance = l1_loss(fine, real)
        loss = schedule.pixel_weight * distance + schedule.edge_weight * edge_distance(fine, real)
        self._learn(shown, real, fine, loss, distance)

    def delivered(self, generator: nn.Module, real_a: Array) -> Array:
        return back_projected(translate(generator, real_a, self.device), real_a[0], FACTOR)

    def _back_projected(self, fine: Tensor, coarse: Tensor) -> Tensor:
        missing = coarse - self.down @ fine @ self.down.T
        return fine + self.up @ missing @ self.up.T

"""Trains the CT denoiser: supervised first, then against a Wasserstein critic with gradient penalty.

After Yang et al. 2018 (WGAN-VGG) with Gulrajani et al. 2017. The features of the critic itself and the differences of
neighbouring pixels stand in for those of a VGG net that was trained on photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from pipelines.networks import GENERATORS, Critic
from pipelines.networks.denoiser import GAIN
from pipelines.training.recipe import DenoiseRecipe
from pipelines.training.trainer import Pair, Trainer


class WassersteinDenoiser(Trainer):
    """A run of `recipe`; along the rim of a slice the denoiser lacks the mirrored pixels that it has in use."""

    rim = 12

    def __init__(
        self,
        recipe: DenoiseRecipe,
        draw: Callable[[np.random.Generator], Pair],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.margin = recipe, recipe.phantoms.margin
        generator, critic = make_denoiser(recipe), Critic(recipe.networks.ndf)
        *inner, last = [module for module in generator.modules() if isinstance(module, nn.Conv2d)]
        for convolution in inner:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.normal_(last.weight, 0.0, 0.01)  # begins near the identity
        super().__init__(generator, critic, recipe.schedule, recipe.seed, draw, validation, device)

    def one_step(self) -> None:
        """One update of the denoiser, after those of the critic once its time has come."""
        schedule = self.recipe.schedule
        adversarial = self.step >= schedule.adversarial_from
        on_critic = 0.0
        if adversarial:
            for _ in range(schedule.critic_steps):
                on_critic += self._teach_critic() / schedule.critic_steps
        noisy, clean = self._pairs()
        with self._precision():
            denoised = self.generator(noisy).float()
        denoised, clean = self._inner(denoised), self._inner(clean)
        distance = l1_loss(denoised, clean)
        loss = GAIN * (schedule.pixel_weight * distance + schedule.edge_weight * edge_distance(denoised, clean))
        if adversarial:
            self.judge.requires_grad_(False)
            with self._precision():
                score, features = self.judge(denoised)
                with torch.no_grad():
                    _, wanted = self.judge(clean)
            apart = sum((l1_loss(one, other) for one, other in zip(features, wanted, strict=True)), loss.new_zeros(()))
            loss = loss + schedule.feature_weight * apart - schedule.gan_weight * score.mean()
        self._update(0, loss)
        self.judge.requires_grad_(True)
        self._count(on_critic, loss.item(), distance.item())

    def _teach_critic(self) -> float:
        """One update of the critic; returns its loss, the negative distance between the two distributions."""
        noisy, clean = self._pairs()
        with torch.no_grad(), self._precision():
            denoised = self.generator(noisy).float()
        denoised, clean = self._inner(denoised), self._inner(clean)
        apart = self.judge(denoised)[0].mean() - self.judge(clean)[0].mean()
        between = torch.rand(len(clean), 1, 1, 1)
        mixed = (between * clean + (1.0 - between) * denoised).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.judge(mixed)[0].sum(), mixed, create_graph=True)
        # the norm is taken of the slope per pixel of the scale that the critic sees, whatever the size of the patch
        steepness = slope.flatten(1).norm(dim=1) / GAIN
        penalty = ((steepness - 1.0) ** 2).mean()
        self._update(1, apart + self.recipe.schedule.gradient_penalty * penalty)
        return float(apart.item())


def edge_distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of the differences between neighbouring pixels, along rows plus along columns."""
    return l1_loss(one.diff(dim=-1), other.diff(dim=-1)) + l1_loss(one.diff(dim=-2), other.diff(dim=-2))


def make_denoiser(recipe: DenoiseRecipe) -> nn.Module:
    """The untrained denoiser of `recipe`."""
    return GENERATORS[recipe.networks.architecture](**denoiser_parameters(recipe))


def denoiser_parameters(recipe: DenoiseRecipe) -> dict[str, int]:
    """The arguments of the denoiser's constructor, as the manifest states them."""
    return {"width": recipe.networks.width, "depth": recipe.networks.depth}

"""Trains a translation as pix2pix does (Isola et al. 2017): a U-Net against a PatchGAN, cross entropy and L1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pipelines.networks import GENERATORS, PatchGAN
from pipelines.networks.unet import with_sources_before
from pipelines.training.losses import adversarial_loss, discriminator_loss, lesion_l1
from pipelines.training.recipe import RELEASED, TranslationRecipe
from pipelines.training.trainer import WEIGHTS, Drawn, Pair, Progress, Trainer, read_generator


class Pix2Pix(Trainer):
    """A run of `recipe`."""

    def __init__(
        self,
        recipe: TranslationRecipe,
        draw: Callable[[np.random.Generator], Drawn],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        sizes = recipe.networks
        generator = make_generator(recipe)
        judge = PatchGAN(len(recipe.contrasts.sources) + 1, sizes.ndf, sizes.layers)
        for network in (generator, judge):
            network.apply(initialise)
        if sizes.start:
            released = read_generator(RELEASED / sizes.start / WEIGHTS)
            generator.load_state_dict(with_sources_before(released, len(recipe.contrasts.sources) - 1))
        super().__init__(generator, judge, recipe.schedule, recipe.seed, draw, validation, device)

    def one_step(self) -> None:
        """One update of the discriminator and one of the generator, on one batch."""
        schedule = self.recipe.schedule
        real_a, real_b, lesions = self._pairs()
        with self._precision():
            fake_b = self.generator(real_a).float()
        l1 = lesion_l1(fake_b, real_b, lesions, schedule.lesion_weight)
        loss_g, on_judge = schedule.l1_weight * l1, 0.0
        if schedule.gan_weight > 0.0:  # otherwise nobody would listen to the discriminator
            with self._precision():
                on_real, on_fake = self.judge(real_a, real_b), self.judge(real_a, fake_b.detach())
            loss_d = discriminator_loss(on_real.float(), on_fake.float())
            self._update(1, loss_d)
            on_judge = loss_d.item()
            self.judge.requires_grad_(False)
            with self._precision():
                judged = self.judge(real_a, fake_b)
            loss_g = schedule.gan_weight * adversarial_loss(judged.float()) + loss_g
        self._update(0, loss_g)
        self.judge.requires_grad_(True)
        self._count(on_judge, loss_g.item(), l1.item())

    def _is_better(self, line: Progress) -> bool:
        """The last one is, where lesions weigh more: plain L1 of whole slices hardly sees what the loss was told to."""
        return self.recipe.schedule.lesion_weight != 1.0 or super()._is_better(line)


def make_generator(recipe: TranslationRecipe) -> nn.Module:
    """The untrained generator of `recipe`."""
    return GENERATORS[recipe.networks.architecture](**generator_parameters(recipe))


def generator_parameters(recipe: TranslationRecipe) -> dict[str, int]:
    """The arguments of the generator's constructor, as the manifest states them."""
    sizes = recipe.networks
    return {"in_channels": len(recipe.contrasts.sources), "out_channels": 1, "ngf": sizes.ngf, "downs": sizes.downs}


def initialise(module: nn.Module) -> None:
    """Weights N(0, 0.02) as pix2pix starts them."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

"""Trains a translation without pairs, as CycleGAN does (Zhu et al. 2017), or with pairs for a share of the steps.

To the losses of the paper comes the gradient consistency of Hiasa et al. 2018, which keeps edges where they are. A
supervised step, L1 and the discriminator of the target domain alone, is drawn for `paired_share` of all steps: 0 is
CycleGAN, 1 is its generator trained on pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from pipelines.networks import GENERATORS, PatchGAN
from pipelines.training.pix2pix import initialise
from pipelines.training.recipe import RELEASED, CycleRecipe
from pipelines.training.trainer import WEIGHTS, Pair, Trainer, read_generator

POOL = 50  # images, Shrivastava et al. 2017


class ImagePool:
    """Up to POOL synthesised images; a discriminator sees half of them only later, and so does not forget."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def exchange(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """A batch as large as `images`, some of them swapped for older ones; (N, C, H, W), detached."""
        chosen = []
        for image in images.detach():
            if len(self.images) < POOL:
                self.images.append(image)
            elif rng.random() < 0.5:
                place = int(rng.integers(POOL))
                image, self.images[place] = self.images[place], image
            chosen.append(image)
        return torch.stack(chosen)


class CycleGan(Trainer):
    """A run of `recipe`; `unpaired` draws images of different patients, `paired` of one.

    `generator` leads from A to B and is what ships; `back` leads from B to A.
    """

    def __init__(
        self,
        recipe: CycleRecipe,
        unpaired: Callable[[np.random.Generator], Pair],
        paired: Callable[[np.random.Generator], Pair],
        validation: Sequence[Pair],
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.paired = recipe, paired
        sizes = recipe.networks
        generator, back = make_translator(recipe), make_translator(recipe)
        judges = nn.ModuleDict({domain: PatchGAN(1, sizes.ndf, sizes.layers) for domain in "ab"})
        for network in (generator, back, judges):
            network.apply(initialise)
        if sizes.start:
            generator.load_state_dict(read_generator(RELEASED / sizes.start / WEIGHTS))
        super().__init__(generator, judges, recipe.schedule, recipe.seed, unpaired, validation, device)
        self.back = back.to(device)
        schedule = recipe.schedule
        self.optimiser_back = torch.optim.Adam(back.parameters(), lr=schedule.learning_rate, betas=schedule.betas)
        self.pools = {"a": ImagePool(), "b": ImagePool()}

    def one_step(self) -> None:
        """One update of each network that has a part in this step."""
        if self.rng.random() < self.recipe.schedule.paired_share:
            self._supervised()
        else:
            self._around()

    def _supervised(self) -> None:
        """A pair: L1 and L2 between what was made of A and its B, and the discriminator of B.

        L2, since a line one pixel thin whose place is not sure has no part in the median that L1 asks for.
        """
        schedule = self.recipe.schedule
        real_a, real_b = self._pairs(self.paired)
        with self._precision():
            fake_b = self.generator(real_a).float()
        l1 = l1_loss(fake_b, real_b)
        loss = schedule.l1_weight * l1 + schedule.l2_weight * mse_loss(fake_b, real_b)
        loss = loss + schedule.gan_weight * self._fooled("b", fake_b)
        self._update(0, loss)
        loss_d = self._teach({"b": (real_b, fake_b)})
        self._count(loss_d, loss.item(), l1.item())

    def _around(self) -> None:
        """Images of two patients: there and back again, both ways."""
        schedule = self.recipe.schedule
        real_a, real_b = self._pairs()
        with self._precision():
            fake_b, fake_a = self.generator(real_a).float(), self.back(real_b).float()
            again_a, again_b = self.back(fake_b).float(), self.generator(fake_a).float()
            same_a, same_b = self.back(real_a).float(), self.generator(real_b).float()
        cycle = l1_loss(again_a, real_a) + l1_loss(again_b, real_b)
        identity = l1_loss(same_a, real_a) + l1_loss(same_b, real_b)
        structure = edges_apart(real_a, fake_b) + edges_apart(real_b, fake_a)
        loss = schedule.cycle_weight * (cycle + schedule.identity_share * identity)
        loss = loss + schedule.structure_weight * structure
        loss = loss + schedule.gan_weight * (self._fooled("a", fake_a) + self._fooled("b", fake_b))
        for group in self.optimiser_back.param_groups:  # it sits out supervised steps, and its rate falls all the same
            group["lr"] = schedule.learning_rate * self._decay(self.step)
        self.optimiser_back.zero_grad(set_to_none=True)
        self._update(0, loss)
        self.optimiser_back.step()
        loss_d = self._teach({"a": (real_a, fake_a), "b": (real_b, fake_b)})
        self._count(loss_d, loss.item(), 0.5 * cycle.item())

    def _fooled(self, domain: str, fake: Tensor) -> Tensor:
        """The least-squares loss of a generator whose image the discriminator of `domain` looks at."""
        self.judge.requires_grad_(False)
        with self._precision():
            score = self.judge[domain](fake).float()
        self.judge.requires_grad_(True)
        return mse_loss(score, torch.ones_like(score))

    def _teach(self, seen: dict[str, tuple[Tensor, Tensor]]) -> float:
        """One update of the discriminators, from real images and from the pools; their mean loss."""
        loss = torch.zeros((), device=self.device)
        for domain, (real, fake) in seen.items():
            old = self.pools[domain].exchange(fake, self.rng)
            with self._precision():
                on_real, on_fake = (self.judge[domain](image).float() for image in (real, old))
            loss = loss + 0.5 * (mse_loss(on_real, torch.ones_like(on_real)) + mse_loss(on_fake, on_fake * 0.0))
        self._update(1, loss)
        return loss.item() / len(seen)

    def more_state(self) -> dict[str, object]:
        """The way back and the pools."""
        return {
            "back": self.back.state_dict(),
            "optimiser_back": self.optimiser_back.state_dict(),
            "pools": {domain: list(pool.images) for domain, pool in self.pools.items()},
        }

    def take_up(self, more: dict[str, object]) -> None:
        """What `more_state` gave."""
        self.back.load_state_dict(more["back"])  # type: ignore[arg-type]
        self.optimiser_back.load_state_dict(more["optimiser_back"])  # type: ignore[arg-type]
        for domain, images in more["pools"].items():  # type: ignore[attr-defined]
            self.pools[domain].images = images


def edges_apart(one: Tensor, other: Tensor) -> Tensor:
    """1 less the correlation of the sizes of the gradients, mean over both axes and the batch: 0 where edges agree.

    Sizes, where Hiasa et al. take the gradients with their signs: bone is dark in MR and bright in CT.
    """
    total = one.new_zeros(())
    for axis in (-1, -2):
        p, q = (image.diff(dim=axis).abs().flatten(1) for image in (one, other))
        p, q = p - p.mean(dim=1, keepdim=True), q - q.mean(dim=1, keepdim=True)
        total = total + ((p * q).sum(dim=1) / (p.norm(dim=1) * q.norm(dim=1) + 1e-6)).mean()
    return 1.0 - 0.5 * total


def make_translator(recipe: CycleRecipe) -> nn.Module:
    """The untrained generator of `recipe`."""
    return GENERATORS[recipe.networks.architecture](**translator_parameters(recipe))


def translator_parameters(recipe: CycleRecipe) -> dict[str, int]:
    """The arguments of the generator's constructor, as the manifest states them."""
    sizes = recipe.networks
    depth = "blocks" if sizes.architecture == "resnet" else "downs"
    return {"in_channels": 1, "out_channels": 1, "ngf": sizes.ngf, depth: sizes.depth}

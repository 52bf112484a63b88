"""A step that super-resolution and thin slices end alike: against a discriminator, once its time has come."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines.networks import GENERATORS
from pipelines.training.losses import adversarial_loss, discriminator_loss
from pipelines.training.recipe import SuperResolutionRecipe, ThinSliceRecipe
from pipelines.training.trainer import Trainer


class LateAdversary(Trainer):
    """A run of `recipe` whose generator learns alone until `adversarial_from`."""

    recipe: SuperResolutionRecipe | ThinSliceRecipe

    def _learn(self, shown: Tensor, real: Tensor, fake: Tensor, loss: Tensor, distance: Tensor) -> None:
        """One update of the generator by `loss`, after one of the discriminator once its time has come.

        The discriminator sees `shown` beside `real` and beside `fake`, each (N, channels, H, W); `distance` is L1.
        """
        schedule, on_judge = self.recipe.schedule, 0.0
        if self.step >= schedule.adversarial_from:
            judged = discriminator_loss(self.judge(shown, real), self.judge(shown, fake.detach()))
            self._update(1, judged)
            on_judge = judged.item()
            self.judge.requires_grad_(False)
            loss = loss + schedule.gan_weight * adversarial_loss(self.judge(shown, fake))
        self._update(0, loss)
        self.judge.requires_grad_(True)
        self._count(on_judge, loss.item(), distance.item())


def make_residual(recipe: SuperResolutionRecipe | ThinSliceRecipe) -> nn.Module:
    """The untrained generator of `recipe`."""
    return GENERATORS[recipe.networks.architecture](**residual_parameters(recipe))


def residual_parameters(recipe: SuperResolutionRecipe | ThinSliceRecipe) -> dict[str, int]:
    """The arguments of the generator's constructor, as the manifest states them."""
    return {"width": recipe.networks.width, "blocks": recipe.networks.blocks}

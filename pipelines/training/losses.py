"""The two terms of pix2pix: the conditional GAN with cross entropy, and L1 (Isola et al. 2017, equations 1 to 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss


def discriminator_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Half the sum of the cross entropies, which slows D relative to G as pix2pix does; takes logits."""
    real = binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
    fake = binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
    return 0.5 * (real + fake)


def generator_loss(
    on_fake: Tensor, fake_b: Tensor, real_b: Tensor, gan_weight: float, l1_weight: float
) -> tuple[Tensor, Tensor]:
    """(what the generator minimises, its L1 part before weighting); the GAN term does not saturate: -log D(a, G(a))."""
    adversarial = binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))
    distance = l1_loss(fake_b, real_b)
    return gan_weight * adversarial + l1_weight * distance, distance

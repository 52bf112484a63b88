"""The two terms of pix2pix: the conditional GAN with cross entropy, and L1 (Isola et al. 2017, equations 1 to 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def discriminator_loss(on_real: Tensor, on_fake: Tensor) -> Tensor:
    """Half the sum of the cross entropies, which slows D relative to G as pix2pix does; takes logits."""
    real = binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
    fake = binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
    return 0.5 * (real + fake)


def adversarial_loss(on_fake: Tensor) -> Tensor:
    """What the generator minimises beside L1: -log D(a, G(a)), which does not saturate."""
    return binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake))


def lesion_l1(fake_b: Tensor, real_b: Tensor, lesions: Tensor, lesion_weight: float) -> Tensor:
    """L1 in which a pixel where `lesions` is 1 counts `lesion_weight` times, one where it is 0 once.

    Lesions are a thousandth of the pixels: a generator that leaves them out loses next to nothing by plain L1.
    """
    return torch.mean(torch.abs(fake_b - real_b) * (1.0 + (lesion_weight - 1.0) * lesions))

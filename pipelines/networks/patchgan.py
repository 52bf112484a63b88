"""The PatchGAN discriminator of pix2pix: is this 70 x 70 patch of the pair acquired or synthesised?"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchGAN(nn.Module):
    """Logits (N, 1, H', W') for pairs of real_a (N, a, H, W) and B (N, b, H, W), or for B alone, one per patch.

    in_channels  channels of real_a plus channels of B, or those of B alone
    layers       strided layers; 3 gives the 70 x 70 patch of Isola et al. 2017, section 6.1.2
    """

    def __init__(self, in_channels: int = 2, ndf: int = 32, layers: int = 3) -> None:
        super().__init__()
        widths = [ndf * min(2**level, 8) for level in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, layers + 1):
            stride = 2 if level < layers else 1
            blocks += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=stride, padding=1),
                nn.InstanceNorm2d(widths[level], affine=True),
                nn.LeakyReLU(0.2),
            ]
        blocks.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.blocks = nn.Sequential(*blocks)

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the patch behind one logit."""
        side = 1
        for block in reversed(self.blocks):
            if isinstance(block, nn.Conv2d):
                side = side * block.stride[0] + block.kernel_size[0] - block.stride[0]
        return side

    def forward(self, *images: Tensor) -> Tensor:
        logits: Tensor = self.blocks(torch.cat(images, dim=1))
        return logits

"""The networks: shapes, the 70 x 70 patch, and that a slice does not depend on its companions."""

import pytest
import torch

from pipelines.networks import GENERATORS, PatchGAN, UNet


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (64, 192)])
def test_a_slice_keeps_its_shape_and_range(size: tuple[int, int]) -> None:
    fake_b = UNet(1, 1, ngf=4, downs=6)(torch.randn(2, 1, *size))
    assert fake_b.shape == (2, 1, *size)
    assert fake_b.abs().max().item() <= 1.0


def test_channels_are_as_asked() -> None:
    assert GENERATORS["unet"](in_channels=2, out_channels=3, ngf=8, downs=3)(torch.zeros(1, 2, 16, 16)).shape[1] == 3


def test_a_size_that_does_not_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        UNet(1, 1, ngf=4, downs=6)(torch.zeros(1, 1, 96, 64))


def test_a_slice_is_translated_alike_alone_and_in_company() -> None:
    generator = UNet(1, 1, ngf=4, downs=4).train()  # no state hangs on train or eval
    slices = torch.randn(3, 1, 32, 32)
    alone = torch.cat([generator(one[None]) for one in slices])
    torch.testing.assert_close(generator(slices), alone, rtol=1e-4, atol=1e-5)


def test_a_fine_detail_reaches_the_result() -> None:
    torch.manual_seed(0)
    generator = UNet(1, 1, ngf=4, downs=4)
    real_a = torch.zeros(1, 1, 32, 32, requires_grad=True)
    generator(real_a)[0, 0, 16, 16].backward()
    assert real_a.grad is not None
    assert float(real_a.grad[0, 0, 16, 16].abs()) > 0


def test_the_discriminator_judges_patches_of_70_pixels() -> None:
    discriminator = PatchGAN(2, ndf=4, layers=3)
    assert discriminator.receptive_field == 70
    assert PatchGAN(2, ndf=4, layers=4).receptive_field == 142
    # measured, on a copy without norms, which look at the whole slice
    measured = torch.nn.Sequential(
        *(part for part in discriminator.blocks if not isinstance(part, torch.nn.InstanceNorm2d))
    )
    pair = torch.randn(1, 2, 256, 256, requires_grad=True)
    logits = measured(pair)
    assert logits.shape == (1, 1, 30, 30)
    logits[0, 0, 15, 15].backward()
    assert pair.grad is not None
    rows = torch.nonzero(pair.grad.abs().sum(dim=(0, 1, 3)))
    assert int(rows.max() - rows.min()) + 1 == 70

"""Generators of pytorch-CycleGAN-and-pix2pix: told from their tensors, and computing what that code computes."""

from __future__ import annotations

import pytest
import torch
from reference_layout import Reference, State, resnet_checkpoint, unet_checkpoint
from torch import Tensor, nn

from pipelines.errors import WeightsError
from pipelines.importing.found import Found
from pipelines.importing.pix2pix_checkpoint import recognise
from pipelines.networks import GENERATORS

SEED = 11
SAME = {"rtol": 0.0, "atol": 1e-4}  # of a range of 2; other kernels round otherwise


def built(found: Found, **answers: object) -> nn.Module:
    assert not isinstance(found.weights, str)
    network = GENERATORS[found.architecture](**{**found.parameters, **answers})
    network.load_state_dict(dict(found.weights))  # type: ignore[call-overload]
    return network.eval()


def slices(count: int, side: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.inference_mode()
def assert_same(network: nn.Module, one_by_one: object, batch: Tensor) -> None:
    """The network on a batch gives what that code gives for each slice, begun with the same seed."""
    expected = []
    for each in batch:
        torch.manual_seed(SEED)
        expected.append(one_by_one(each[None]))  # type: ignore[operator]
    wanted = torch.cat(expected)
    assert wanted.std() > 0.05, "an image that is nearly constant would show nothing"
    torch.testing.assert_close(network(batch), wanted, **SAME)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize(
    ("norm", "norm_mode", "dropout"),
    [("batch", "batch", True), ("batch", "batch", False), ("batch", "running", False), ("batch", "running", True),
     ("instance", "batch", True), ("instance", "batch", False), ("none", "batch", True)],
)  # fmt: skip
def test_a_unet_computes_what_that_code_does(norm: str, norm_mode: str, dropout: bool, prefix: str) -> None:
    state = unet_checkpoint(norm)
    found = recognise("file", {prefix + name: tensor for name, tensor in state.items()})
    assert found.parameters == {"in_channels": 1, "out_channels": 1, "ngf": 2, "downs": 6, "norm": norm}
    assert set(found.questions) == {"dropout", "seed"} | ({"norm_mode"} if norm == "batch" else set())
    reference = Reference(state, norm, running=norm_mode == "running", drops=dropout)
    network = built(found, norm_mode=norm_mode, dropout=dropout, seed=SEED)
    assert_same(network, lambda x: reference.unet(x, 6), slices(3, 64))


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize(
    ("norm", "norm_mode", "dropout"),
    [("batch", "batch", True), ("batch", "running", False), ("instance", "batch", True), ("none", "batch", False)],
)
def test_a_resnet_computes_what_that_code_does(norm: str, norm_mode: str, dropout: bool, layers: bool) -> None:
    state = resnet_checkpoint(norm, dropout=layers)
    found = recognise("file", state)
    assert found.parameters == {
        "in_channels": 1, "out_channels": 1, "ngf": 4, "blocks": 2, "dropout_layers": layers, "norm": norm
    }  # fmt: skip
    assert ("dropout" in found.questions) == layers
    reference = Reference(state, norm, running=norm_mode == "running", drops=dropout)
    network = built(found, norm_mode=norm_mode, dropout=dropout, seed=SEED)
    assert_same(network, lambda x: reference.resnet(x, 2, layers), slices(3, 24))


def test_dropout_acts_and_is_the_same_every_time() -> None:
    found, batch = recognise("file", unet_checkpoint()), slices(2, 64)
    network = built(found, dropout=True, seed=SEED)
    with torch.inference_mode():
        once = network(batch)
        assert torch.equal(once, network(batch))
        assert not torch.allclose(once, built(found, dropout=False)(batch), atol=1e-3)
        assert not torch.allclose(once, built(found, dropout=True, seed=SEED + 1)(batch), atol=1e-3)


@pytest.mark.parametrize("downs", [5, 7, 8, 9])
def test_the_levels_of_a_unet_are_counted(downs: int) -> None:
    found = recognise("file", unet_checkpoint("instance", downs, ngf=1))
    assert (found.parameters["downs"], found.multiple) == (downs, 2**downs)
    assert ("dropout" in found.questions) == (downs > 5)


@pytest.mark.parametrize("blocks", [6, 9])
def test_the_blocks_of_a_resnet_are_counted(blocks: int) -> None:
    found = recognise("file", resnet_checkpoint(blocks=blocks, ngf=1))
    assert (found.parameters["blocks"], found.multiple) == (blocks, 4)


def test_a_colour_network_sees_the_slice_three_times_and_is_averaged() -> None:
    state = unet_checkpoint("batch", in_channels=3, out_channels=3)
    reference = Reference(state, "batch")
    network = built(recognise("file", state), dropout=False)
    assert_same(
        network, lambda x: reference.unet(x.repeat(1, 3, 1, 1), 6).mean(1, keepdim=True), slices(2, 64)
    )  # fmt: skip
    three = slices(1, 64, channels=3)
    with torch.inference_mode():  # three roles are no colours
        torch.testing.assert_close(network(three), reference.unet(three, 6).mean(1, keepdim=True), **SAME)


def test_statistics_of_old_instance_norms_are_left_out() -> None:
    state = resnet_checkpoint("instance")
    old = {f"model.2.{one}": torch.zeros(4) for one in ("running_mean", "running_var")}
    found = recognise("file", {**state, **old, "model.2.num_batches_tracked": torch.tensor(5)})
    assert found.parameters["norm"] == "instance"
    assert "3 buffers of old instance norms" in found.notes[0]
    assert_same(built(found), lambda x: Reference(state, "instance").resnet(x, 2, False), slices(1, 24))


def test_batch_norms_older_than_their_counters_are_taken() -> None:
    state = {name: tensor for name, tensor in unet_checkpoint().items() if not name.endswith("tracked")}
    built(recognise("file", state))


def _without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


UNET, RESNET = unet_checkpoint(), resnet_checkpoint()
DEEP = "model.model.1.model.3.model.1.weight"
MISFITS: dict[str, tuple[State, str]] = {
    "missing": (_without(UNET, "model.model.1.model.6.bias"), "missing: model.model.1.model.6.bias"),
    "shape": ({**UNET, DEEP: torch.zeros(8, 5, 4, 4)}, f"another shape: {DEEP} \\(8, 5, 4, 4\\) instead of \\(8, 4,"),
    "unknown": ({**RESNET, "model.30.weight": torch.zeros(1)}, "unknown: model.30.weight"),
    "kernel": ({**UNET, "model.model.0.weight": torch.zeros(2, 1, 3, 3)}, "found \\(2, 1, 3, 3\\), expected a conv"),
    "no last": (_without(RESNET, "model.19.weight"), "model.19.weight: found no such tensor"),
    "shallow": (unet_checkpoint(downs=4), "downs: found 4, expected at least 5"),
    "other": ({"encoder.weight": torch.zeros(3)}, "found tensors encoder.weight .*expected model.model.0.weight"),
    "colours": (unet_checkpoint(out_channels=2), "found 1 channels in and 2 out, expected 1 or 3 out"),
}


@pytest.mark.parametrize("which", MISFITS)
def test_what_does_not_fit_is_named(which: str) -> None:
    state, words = MISFITS[which]
    with pytest.raises(WeightsError, match=words):
        recognise("latest_net_G.pth", state)

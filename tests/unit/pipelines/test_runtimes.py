"""Runtimes: one is used only where it gives what eager gives, and a choice of one stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import write_denoiser
from torch import Tensor, nn

from gateway.services.models import Models
from gateway.settings.line import Process
from pipelines import inference, measuring, runtimes
from pipelines.errors import RuntimeUnfit
from pipelines.runtime_choices import EAGER, Choice, Machine, chosen, read, record
from pipelines.self_test import made_up
from pipelines.spec import PipelineSpec, read_manifest

HERE = Machine("a processor", 2, {"torch": "2", "onnxruntime": "1"})


@pytest.fixture(params=["translate", "denoise"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, write_model: Callable[..., Path]) -> Path:
    """A small released model of each kind."""
    return write_model() if request.param == "translate" else write_denoiser(tmp_path / "weights")


def test_a_graph_gives_the_same_as_eager_at_any_size_and_the_same_bits_each_time(folder: Path) -> None:
    spec = read_manifest(folder)
    volumes = {contract.role: made_up(spec, 3, 150, 90) for contract in spec.inputs}
    eager, graph, again = (
        inference.load(spec, runtime=runtime)(volumes, lambda done, of: None).volume.voxels
        for runtime in (EAGER, runtimes.ONNX, runtimes.ONNX)
    )
    low, high = spec.output.range
    assert np.abs(graph - eager).max() < 1e-4 * (high - low)
    np.testing.assert_array_equal(graph, again)


class Scaled(nn.Module):
    """A convolution whose result is small beside the range, or all of it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        noise: Tensor = self.convolution(x)
        return x + self.scale * noise.float()


class OfOneShape(nn.Module):
    """Its graph remembers the rows of the slice that it was traced with."""

    def forward(self, x: Tensor) -> Tensor:
        return x / float(x.shape[-2])


class Raising(nn.Module):
    """Cannot be traced at all."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise TypeError("no graph of this")
        return x


class Broken(nn.Module):
    """Gives what is no number as soon as it is not computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 0.0 if torch.is_autocast_enabled("cpu") else x


def test_bfloat16_is_taken_where_it_is_precise_enough_and_only_there() -> None:
    torch.manual_seed(1)
    samples = [torch.rand(1, 1, 16, 16) * 2 - 1]
    network, differs = runtimes.by_runtime(runtimes.BFLOAT16, Scaled(0.01), samples)
    assert 0 < differs < runtimes.TOLERANCE
    assert network(samples[0]).dtype == torch.float32
    with pytest.raises(RuntimeUnfit, match=r"bfloat16: found a difference of .* of the range, expected at most 0\.001"):
        runtimes.by_runtime(runtimes.BFLOAT16, Scaled(10.0), samples)
    with pytest.raises(RuntimeUnfit, match="difference of inf"):
        runtimes.by_runtime(runtimes.BFLOAT16, Broken(), samples)


@pytest.mark.parametrize(
    ("runtime", "network", "words"),
    [
        ("onnxruntime", OfOneShape(), "found a difference of"),
        ("onnxruntime", Raising(), "has no ONNX graph"),
        ("tea leaves", OfOneShape(), "found 'tea leaves', expected one of eager, onnxruntime, bfloat16"),
    ],
)
def test_what_cannot_be_computed_alike_is_refused_by_name(runtime: str, network: nn.Module, words: str) -> None:
    with pytest.raises(RuntimeUnfit, match=words):
        runtimes.by_runtime(runtime, network, [torch.ones(1, 1, 8, 8), torch.ones(1, 1, 16, 8)])


def test_a_network_in_another_runtime_still_answers_what_kinds_ask() -> None:
    network = Scaled(0.01)
    network.halo = 4
    other, _ = runtimes.by_runtime(runtimes.ONNX, network, [torch.ones(1, 1, 8, 8)])
    assert other.halo == 4
    assert not hasattr(other, "stack")


def choice(runtime: str, machine: Machine = HERE, sha256: str = "a") -> Choice:
    return Choice(sha256, machine, runtime, 1e-6, {EAGER: 1.0, runtime: 2.0})


def test_a_choice_stands_and_holds_for_one_model_on_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "state" / "runtimes.json"
    assert read(path) == ()
    assert len(record(path, [choice("onnxruntime")])) == 1
    four = Machine(HERE.processor, 4, HERE.versions)
    assert record(path, [choice("eager"), choice("eager", four)]) == (choice("eager", four),)
    choices = read(path)
    assert chosen(choices, "a", HERE) == "onnxruntime"
    others: list[tuple[str, Machine]] = [
        ("b", HERE), ("a", four), ("a", Machine("another", 2, HERE.versions)), ("a", Machine("a processor", 2, {})),
    ]  # fmt: skip
    assert [chosen(choices, *one) for one in others] == [EAGER] * 4
    path.write_text('[{"weights_sha256": 1}]')
    assert read(path) == ()
    assert list(path.parent.iterdir()) == [path]


def test_workers_compute_by_what_was_chosen_and_eagerly_when_it_does_not_fit(
    tmp_path: Path, write_model: Callable[..., Path]
) -> None:
    spec = read_manifest(write_model())
    process = Process(device="cpu", threads=1)
    path = tmp_path / "runtimes.json"
    expected: Mapping[str, str] = {"onnxruntime": "onnxruntime", "bfloat16": EAGER, "tea leaves": EAGER}
    assert runtime_of(Models(process, 0, path), spec) == EAGER
    for named, used in expected.items():
        path.unlink(missing_ok=True)
        record(path, [choice(named, Machine.here(1), spec.generator.sha256)])
        models = Models(process, 0, path)
        path.unlink()  # it is read once
        assert runtime_of(models, spec) == used


def runtime_of(models: Models, spec: PipelineSpec) -> str:
    models.load(spec)
    return str(models.standing()[spec.id]["runtime"])


def test_everything_is_measured_in_one_run(tmp_path: Path) -> None:
    found = measuring.measure(write_denoiser(tmp_path), rounds=2, threads=1)
    names = [EAGER, runtimes.ONNX]
    assert (list(found.network_s), list(found.pipeline_s), list(found.difference)) == (names, names, names)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found.network_s.values())
    # width 8, depth 3 at half resolution of tiles with their halo: two floating point operations a multiplication
    halo = 2 * (3 + 1) + 16
    pixels = ((512 + 2 * halo) // 2) ** 2
    assert found.flop == 4 * pixels * 2 * 9 * (4 * 8 + 8 * 8 + 8 * 4)
    assert found.fastest in names
    found.network_s = {EAGER: [1.0, 1.0], runtimes.ONNX: [0.95, 0.95]}
    assert found.fastest == EAGER  # five of a hundred are not worth other bits
    found.network_s[runtimes.ONNX] = [0.5, 0.5]
    assert found.fastest == runtimes.ONNX

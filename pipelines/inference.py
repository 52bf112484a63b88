"""`load`: a released model, ready to run. The only door through which the worker reaches torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from pipelines import runtimes
from pipelines.kinds.denoise import Denoise
from pipelines.kinds.super_resolve import SuperResolve
from pipelines.kinds.thin_slice import ThinSlice
from pipelines.kinds.translate import Translate
from pipelines.result import Check, Pipeline, Progress, Result
from pipelines.runtime_choices import EAGER
from pipelines.self_test import made_up
from pipelines.spec import PipelineSpec
from pipelines.weights import load_generator

__all__ = ["Check", "Loaded", "Pipeline", "Progress", "Result", "given_to", "load", "load_parts"]

_SIDE = 256  # pixels of the images on which a runtime is held against eager

_KINDS: Mapping[str, Callable[[PipelineSpec, nn.Module, str], Pipeline]] = MappingProxyType(
    {"translate": Translate, "denoise": Denoise, "thin-slice": ThinSlice, "super-resolve": SuperResolve}
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A pipeline, the network in it, and by how much of the range that differs from the eager one."""

    pipeline: Pipeline
    network: nn.Module
    difference: float = 0.0


def load(spec: PipelineSpec, device: str = "cpu", runtime: str = EAGER) -> Pipeline:
    """The pipeline of `spec` on `device` ("cpu", "cuda", "cuda:1"), its network computed by `runtime`.

    Raises WeightsError when its weights do not fit, RuntimeUnfit when the runtime does not give what eager gives.
    """
    return load_parts(spec, device, runtime).pipeline


def load_parts(spec: PipelineSpec, device: str = "cpu", runtime: str = EAGER) -> Loaded:
    """What `load` gives, with its network for who wants to measure it; raises as `load` does."""
    # the same input must give the same voxels: no search for the fastest kernel, no shortened mantissas
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    generator, kind = load_generator(spec, device), _KINDS[spec.kind]
    eager = Loaded(kind(spec, generator, device), generator)
    if runtime == EAGER:
        return eager
    shapes = ((_SIDE, _SIDE), (_SIDE // 2, _SIDE + spec.geometry.multiple))
    samples = [x for rows, columns in shapes for x in given_to(eager, 1, rows, columns)]
    network, difference = runtimes.by_runtime(runtime, generator, samples)
    return Loaded(kind(spec, network, device), network, difference)


def given_to(loaded: Loaded, slices: int, rows: int, columns: int) -> list[Tensor]:
    """What the pipeline gives its network for made-up volumes of so many slices, rows and columns."""
    given: list[Tensor] = []
    spec = loaded.pipeline.spec
    volumes = {contract.role: made_up(spec, slices, rows, columns) for contract in spec.inputs}
    with loaded.network.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0].clone())):
        loaded.pipeline(volumes, lambda done, of: None)
    return given

"""`load`: a released model, ready to run. The only door through which the worker reaches torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from pipelines.kinds.denoise import Denoise
from pipelines.kinds.translate import Translate
from pipelines.result import Check, Pipeline, Progress, Result
from pipelines.spec import PipelineSpec
from pipelines.weights import load_generator

__all__ = ["Check", "Pipeline", "Progress", "Result", "load"]

_KINDS: Mapping[str, Callable[[PipelineSpec, nn.Module, str], Pipeline]] = MappingProxyType(
    {"translate": Translate, "denoise": Denoise}
)


def load(spec: PipelineSpec, device: str = "cpu") -> Pipeline:
    """The pipeline of `spec` on `device` ("cpu", "cuda", "cuda:1"); raises WeightsError when its weights do not fit."""
    # the same input must give the same voxels: no search for the fastest kernel, no shortened mantissas
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return _KINDS[spec.kind](spec, load_generator(spec, device), device)

"""A generator with its released weights: safetensors only, digest first, and nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from pipelines.catalog import released_weights
from pipelines.errors import WeightsError
from pipelines.networks import GENERATORS
from pipelines.spec import PipelineSpec

_SHOWN = 3  # of the names that do not fit


def load_generator(spec: PipelineSpec, device: str = "cpu") -> nn.Module:
    """The generator of `spec` in float32, ready to infer.

    Raises WeightsError when the file is not the released one, or when architecture, parameters, names, shapes
    or values do not fit.
    """
    if spec.generator.architecture == "onnx":
        return _onnx_graph(spec)
    tensors = _tensors(spec)
    generator = _skeleton(spec)
    misfit = misfit_of(generator.state_dict(), tensors)
    if misfit:
        raise WeightsError(
            f"{spec.weights_path}: {misfit}; "
            f"expected those of {spec.generator.architecture} with {dict(spec.generator.parameters)}"
        )
    generator.load_state_dict(tensors, assign=True)
    return generator.to(device).eval().requires_grad_(False)


def _onnx_graph(spec: PipelineSpec) -> nn.Module:
    """The graph of `spec`, tried once: its shapes are known only when it runs."""
    from pipelines.networks.onnx_graph import OnnxGraph  # loads ONNX Runtime, which no other architecture needs

    parameters, side = dict(spec.generator.parameters), 2 * spec.geometry.multiple
    try:
        generator = OnnxGraph(released_weights(spec), **parameters)  # type: ignore[arg-type]
        found = tuple(generator(torch.zeros(1, len(spec.inputs), side, side)).shape)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{spec.weights_path}: {str(error).splitlines()[0]}") from error
    if found != (1, 1, side, side):
        raise WeightsError(f"{spec.weights_path}: found output of shape {found}, expected {(1, 1, side, side)}")
    return generator


def _tensors(spec: PipelineSpec) -> dict[str, Tensor]:
    """The stored tensors; half precision is for the disk, CPUs compute float32 faster."""
    try:
        stored = load_safetensors(released_weights(spec))
    except SafetensorError as error:
        raise WeightsError(f"{spec.weights_path}: not a safetensors file ({error})") from error
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(f"{spec.weights_path}: {_some(broken)}: found values that are not finite, expected numbers")
    return tensors


def _skeleton(spec: PipelineSpec) -> nn.Module:
    """The architecture without storage, tried on shapes alone: no manifest can make it allocate anything."""
    name, parameters = spec.generator.architecture, dict(spec.generator.parameters)
    if name not in GENERATORS:
        raise WeightsError(f"{spec.id}: architecture: found {name!r}, expected one of {', '.join(sorted(GENERATORS))}")
    side = 2 * spec.geometry.multiple
    # a stack of slices of one series takes and gives as many channels as its architecture says
    channels, given = getattr(GENERATORS[name], "stack", (len(spec.inputs), 1))
    try:
        with torch.device("meta"):
            generator = GENERATORS[name](**parameters).eval()
            found = tuple(generator(torch.empty(1, channels, side, side)).shape)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{spec.id}: {name} does not take {parameters} for {channels} inputs ({reason})") from error
    wanted = (1, given, *2 * (side * getattr(GENERATORS[name], "factor", 1),))  # of a finer matrix where it says so
    if found != wanted:
        raise WeightsError(f"{spec.id}: {name}: found output of shape {found}, expected {wanted}")
    return generator


def misfit_of(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps both from holding the same names with the same shapes; empty when nothing does."""
    misfits = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & found.keys())
            if found[name].shape != expected[name].shape
        ],
    }
    for how, names in misfits.items():
        if names:
            return f"tensors {how}: {_some(names)}"
    return ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""How a generator is computed: eagerly by PyTorch in float32, or by something faster whose output is as good as equal.

eager         PyTorch, float32; always there, and what every other one is held against
onnxruntime   the same float32 network as an ONNX graph (CPU)
bfloat16      PyTorch with autocast and channels last (CUDA)

Another than eager is taken only when its output stays within `TOLERANCE` of the range on inputs that the pipeline
itself gave to the network, of two shapes: a graph that remembers the shape it was traced with would show itself.
docs/performance.md has the measurements, and those of the runtimes that did not pay.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.errors import RuntimeUnfit
from pipelines.runtime_choices import EAGER

ONNX, BFLOAT16 = "onnxruntime", "bfloat16"
TOLERANCE = 1e-3  # of the range of the generator's output
_RANGE = 2.0  # generators speak in [-1, 1]
_OPSET = 18


class _InPlaceOf(nn.Module):
    """Computes what `generator` computes; whatever else a kind asks of its network (a halo), the network answers."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("generator"), name)


class OnnxGraph(_InPlaceOf):
    """The generator in ONNX Runtime, on as many threads as PyTorch has. Raises RuntimeUnfit when it has no graph."""

    def __init__(self, generator: nn.Module, example: Tensor) -> None:
        super().__init__(generator)
        import onnxruntime  # takes half a second, and a worker on a GPU has no use for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the processor is for others, too
        options.log_severity_level = 3
        state = onnxruntime.capi.onnxruntime_pybind11_state
        self._failures = (state.Fail, state.RuntimeException, state.InvalidArgument, state.NotImplemented)
        graph = _graph(generator, example)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except self._failures as error:
            raise RuntimeUnfit(f"onnxruntime: {error}") from error

    def forward(self, x: Tensor) -> Tensor:
        try:
            (y,) = self._session.run(None, {"x": x.detach().contiguous().numpy()})
        except self._failures as error:  # its errors have no common name
            raise RuntimeError(f"onnxruntime: {error}") from error
        return torch.from_numpy(y)


class Autocast(_InPlaceOf):
    """The generator with its convolutions in bfloat16, channels last; gives float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y: Tensor = self.generator(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x)
        return y.float()


def _autocast(generator: nn.Module, example: Tensor) -> nn.Module:
    return Autocast(generator.to(memory_format=torch.channels_last))  # type: ignore[call-overload] # not in its stubs


RUNTIMES: Mapping[str, Callable[[nn.Module, Tensor], nn.Module]] = MappingProxyType(
    {ONNX: OnnxGraph, BFLOAT16: _autocast}
)


def by_runtime(runtime: str, generator: nn.Module, samples: Sequence[Tensor]) -> tuple[nn.Module, float]:
    """`generator` computed by `runtime`, and by how much of the range it differs on `samples`, inputs of its own.

    Raises RuntimeUnfit when the runtime is not known, cannot take this network, or differs by more than TOLERANCE.
    """
    if runtime not in RUNTIMES:
        raise RuntimeUnfit(f"runtime: found {runtime!r}, expected one of {', '.join((EAGER, *RUNTIMES))}")
    with torch.inference_mode():
        expected = [generator(sample).float() for sample in samples]
    other = RUNTIMES[runtime](generator, samples[0])
    try:
        with torch.inference_mode():
            differs = max(difference_of_range(other(x), y) for x, y in zip(samples, expected, strict=True))
    except RuntimeError as error:
        raise RuntimeUnfit(f"{runtime}: cannot compute this network ({str(error).splitlines()[0]})") from error
    if not differs <= TOLERANCE:
        raise RuntimeUnfit(
            f"{runtime}: found a difference of {differs:.2g} of the range, expected at most {TOLERANCE:g}"
        )
    return other, differs


def difference_of_range(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the range; infinite for another shape or values that are no numbers."""
    if found.shape != expected.shape or not torch.isfinite(found).all():
        return float("inf")
    return float((found.float() - expected).abs().max()) / _RANGE


def _graph(generator: nn.Module, example: Tensor) -> bytes:
    """ONNX of `generator` for any batch, rows and columns; raises RuntimeUnfit when it cannot be written down."""
    file = io.BytesIO()
    names = {0: "n", example.dim() - 2: "rows", example.dim() - 1: "columns"}
    try:
        # in inference mode nothing can be traced; the tracer warns of checks of shapes, which the gate makes good for
        with warnings.catch_warnings(), torch.inference_mode(mode=False), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                generator, (example.clone(),), file,  # type: ignore[arg-type] # takes a file, too
                dynamo=False, opset_version=_OPSET,
                input_names=["x"], output_names=["y"], dynamic_axes={"x": names, "y": names},
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeUnfit(f"onnxruntime: the network has no ONNX graph ({reason})") from error
    return file.getvalue()

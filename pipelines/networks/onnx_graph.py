"""`OnnxGraph`: a generator that is an ONNX file, run by ONNX Runtime on the CPU, slice by slice."""

from __future__ import annotations

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as runtime
from torch import Tensor, nn

from pipelines.networks.conventions import Conventions

ARCHITECTURE = "onnx"
ERRORS = (  # they share no base class
    runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.InvalidProtobuf, runtime.NoModel,
    runtime.NoSuchFile, runtime.NotImplemented, runtime.RuntimeException, runtime.EPFail,
)  # fmt: skip


class OnnxGraph(nn.Module):
    """(N, in_channels, H, W) in [-1, 1] -> (N, 1, H, W) by the graph in `content`.

    input_range    what the graph takes, ``-1..1`` or ``0..1``
    output_range   what it gives, of the same two

    Raises ValueError when ONNX Runtime does not take the graph, or the graph is not from one image to one image.
    """

    def __init__(
        self,
        content: bytes,
        in_channels: int = 1,
        out_channels: int = 1,
        input_range: str = "-1..1",
        output_range: str = "-1..1",
    ) -> None:
        super().__init__()
        self._conventions = Conventions(in_channels, out_channels, input_range, output_range)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised; the log may quote names of the file
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except ERRORS as error:
            raise ValueError(f"ONNX Runtime: {_first_line(error)}") from error
        takes, gives = self._session.get_inputs(), self._session.get_outputs()
        if len(takes) != 1 or len(gives) != 1:
            raise ValueError(f"ONNX: found {len(takes)} inputs and {len(gives)} outputs, expected one of each")
        self._names = takes[0].name, gives[0].name

    def forward(self, slices: Tensor) -> Tensor:
        into, out = self._names
        takes = self._conventions.to_network(slices).float().cpu().contiguous()
        try:
            # one by one: a graph may have been exported for batches of one, and norms may depend on the batch
            results = [self._session.run([out], {into: one[None].numpy()})[0] for one in takes]
        except ERRORS as error:
            raise ValueError(f"ONNX Runtime: {_first_line(error)}") from error
        result = torch.cat([torch.from_numpy(each) for each in results]).to(slices.device)
        return self._conventions.from_network(result)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

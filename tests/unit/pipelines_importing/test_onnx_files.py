"""ONNX files: checked in a process of their own, run slice by slice, the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipelines.errors import WeightsError
from pipelines.importing import opener
from pipelines.importing.source import recognised
from pipelines.networks.onnx_graph import OnnxGraph

KERNEL = np.random.default_rng(2).normal(0.0, 0.2, (1, 1, 3, 3)).astype(np.float32)
ANY = ("n", 1, "rows", "columns")


def model(
    takes: tuple[Any, ...] = ANY, nodes: list[Any] | None = None, domains: tuple[str, ...] = ("",), **extra: Any
) -> Any:
    """One convolution and a tanh, or `nodes`, from `x` to `y`."""
    nodes = nodes or [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", extra.get("dtype", TensorProto.FLOAT), takes), *extra.get("more", [])]
    output = helper.make_tensor_value_info("y", extra.get("dtype", TensorProto.FLOAT), ("n", 1, "rows", "columns"))
    graph = helper.make_graph(nodes, "generator", inputs, [output], [numpy_helper.from_array(KERNEL, "kernel")])
    opsets = [helper.make_opsetid(domain, extra.get("opset", 17)) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(path: Path, made: Any) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def expected(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.nn.functional.conv2d(x, torch.from_numpy(KERNEL), padding=1))


def test_a_graph_computes_what_it_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", model())
    with recognised(path) as found:
        assert isinstance(found.weights, Path)
        content = found.weights.read_bytes()
    assert content == path.read_bytes()
    assert (found.architecture, found.parameters) == ("onnx", {"in_channels": 1, "out_channels": 1})
    x = torch.rand(3, 1, 20, 24) * 2 - 1
    torch.testing.assert_close(OnnxGraph(content)(x), expected(x), rtol=0.0, atol=1e-5)
    of_unit = OnnxGraph(content, input_range="0..1", output_range="0..1")(x)
    torch.testing.assert_close(of_unit, 2 * expected((x + 1) / 2) - 1, rtol=0.0, atol=1e-5)


def test_data_beside_the_graph_is_taken_into_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(model(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert (tmp_path / "net.onnx.data").is_file()
    with recognised(path) as found:
        assert isinstance(found.weights, Path)
        content = found.weights.read_bytes()
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(OnnxGraph(content)(x), expected(x), rtol=0.0, atol=1e-5)


def _with_data_at(place: str) -> Any:
    made = model()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return made


SCALAR = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
REFUSED = {
    "operator": (
        model(nodes=[helper.make_node("Own", ["x"], ["y"], domain="com.example")], domains=("", "com.example")),
        "operator Own: found domain 'com.example'",
    ),
    "chance": (
        model(nodes=[helper.make_node("RandomNormalLike", ["x"], ["y"])]),
        "operator RandomNormalLike: found chance",
    ),
    "data elsewhere": (_with_data_at("../secret"), "external data: found '../secret', expected a file beside net.onnx"),
    "data anywhere": (_with_data_at("/etc/hostname"), "external data: found '/etc/hostname'"),
    "opset": (model(opset=6), "opset: found 6, expected 7 to"),
    "fixed": (model((1, 1, 256, 256)), "found fixed sizes [1, 1, 256, 256], expected any rows and columns; export"),
    "batch": (model((4, 1, "rows", "columns")), "expected slices as (1, channels, rows, columns)"),
    "channels last": (model(("n", "rows", "columns", 1)), "expected any rows and columns"),
    "inputs": (model(more=[SCALAR]), "inputs: found 2, expected one image"),
    "type": (model(dtype=TensorProto.DOUBLE), "x: found DOUBLE, expected FLOAT"),
    "size": (
        model(nodes=[helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])]),
        "output: found (1, 1, 128, 128)",
    ),
    "unsound": (model(nodes=[helper.make_node("Tanh", ["nothing"], ["y"])]), "not a sound ONNX graph"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_no_generator_of_images_is_refused(tmp_path: Path, which: str) -> None:
    made, words = REFUSED[which]
    with pytest.raises(opener.Refused) as caught:  # here, not in a process for each
        opener.graph(saved(tmp_path / "net.onnx", made), tmp_path, 1 << 30, "")
    assert words in str(caught.value)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", model())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WeightsError, match="not an ONNX file; it may be cut short"), recognised(path):
        pass

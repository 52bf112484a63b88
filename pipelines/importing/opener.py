"""The process in which a file from elsewhere is opened: ``opener.py TASK SOURCE FOLDER BYTES MEMORY SECONDS MEMBER``.

It imports nothing of this project, writes ``answer.json`` and one file of weights into FOLDER, and never unpickles
anything but tensors: torch reads with ``weights_only``, and when that refuses, nothing else is tried.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    import torch

WRAPPERS = ("state_dict", "model")  # keys under which checkpoints put all of their tensors
OPSETS = (7, 26)  # of the ONNX standard; ONNX Runtime says itself which it has
RANDOM = frozenset({
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip
STANDARD = ("", "ai.onnx")
TRIED_SIDE = 256  # pixels
_DYNAMIC = "export it with dynamic axes for rows and columns"


class Refused(Exception):  # noqa: N818 - the statement, not the suffix, says what it is
    """Why the file is not taken."""


def tensors(source: Path, folder: Path, limit_bytes: int, member: str) -> dict[str, Any]:
    """Write the tensors of a checkpoint as safetensors."""
    import torch
    from safetensors.torch import save_file

    file: Any = source
    if member:
        with zipfile.ZipFile(source) as archive:
            if archive.getinfo(member).file_size > limit_bytes:
                raise Refused(f"{member}: found {archive.getinfo(member).file_size} bytes, expected {limit_bytes}")
            file = io.BytesIO(archive.read(member))
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises what it likes at a broken file; any of it ends here, as a refusal
        raise Refused(_why_not_loaded(error)) from error
    save_file(dict(_leaves(content, limit_bytes)), folder / "tensors.safetensors")
    return {}


def _why_not_loaded(error: Exception) -> str:
    """The refusal of torch without its advice, which is to trust the file."""
    text = str(error)
    found = re.search(r"(?:GLOBAL|global:?|class|type)\s+([\w.]+\.[\w.]+)", text)
    if "weights_only" in text.lower() or "Weights only" in text:
        what = f"{found[1]} in its pickle" if found else "code in its pickle"
        return f"found {what}, expected tensors only; save the generator's state_dict() with a current torch"
    first = (text.splitlines() or [""])[0][:200]
    return f"not a checkpoint that torch can read ({type(error).__name__}: {first}); it may be cut short"


def _leaves(content: Any, limit_bytes: int) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    if isinstance(content, Mapping) and len(content) == 1:
        wrapper = next(iter(content))
        content = content[wrapper] if wrapper in WRAPPERS else content
    if not isinstance(content, Mapping) or not content:
        raise Refused(f"found {type(content).__name__}, expected the tensors of a state_dict by name")
    total = 0
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Refused(f"{str(name)[:100]}: found {type(value).__name__}, expected a tensor under a name")
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
            raise Refused(f"{name}: found {value.layout} of {value.dtype}, expected a plain tensor of real numbers")
        total += value.numel() * value.element_size()  # what it names, which may be more than what it stores
        if total > limit_bytes:
            raise Refused(f"{name}: found tensors of over {limit_bytes} bytes, expected fewer")
        yield name, value.detach().clone(memory_format=torch.contiguous_format)


def graph(source: Path, folder: Path, limit_bytes: int, _: str) -> dict[str, Any]:
    """Check an ONNX file, try it twice, and write it without external data."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(source, load_external_data=False)
    except DecodeError as error:
        raise Refused("not an ONNX file; it may be cut short") from error
    _require_standard(model)
    external = {place for tensor in _all_tensors(model.graph) for place in _places(tensor)}
    for place in external:
        _require_beside(source, place, limit_bytes)
    if external:
        onnx.load_external_data_for_model(model, str(source.parent))
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise Refused(f"not a sound ONNX graph: {str(error).splitlines()[0]}") from error
    facts = _image_to_image(model.graph)
    content = model.SerializeToString() if external else source.read_bytes()
    facts["out_channels"] = _tried(content, facts)
    (folder / "generator.onnx").write_bytes(content)
    facts["opset"] = max(one.version for one in model.opset_import if one.domain in STANDARD)
    return facts


def _require_standard(model: onnx.ModelProto) -> None:
    """Refuse what only a library of its own could run, and what would give other voxels each time."""
    for opset in model.opset_import:
        if opset.domain in STANDARD and not OPSETS[0] <= opset.version <= OPSETS[1]:
            raise Refused(f"opset: found {opset.version}, expected {OPSETS[0]} to {OPSETS[1]}")
    if model.functions:
        raise Refused(f"found a function of its own, {model.functions[0].name!r}, expected standard operators only")
    for node in _all_nodes(model.graph):
        if node.domain not in STANDARD:
            raise Refused(f"operator {node.op_type}: found domain {node.domain!r}, expected that of the standard")
        if node.op_type in RANDOM:
            raise Refused(f"operator {node.op_type}: found chance, expected the same result for the same image")


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner)


def _all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from _own_tensors(graph)
    for node in _all_nodes(graph):
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _own_tensors(inner)


def _own_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _places(tensor: onnx.TensorProto) -> Iterator[str]:
    """The files that hold a tensor outside the graph."""
    if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
        yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _require_beside(source: Path, place: str, limit_bytes: int) -> None:
    """Refuse external data that is not a plain file in the folder of the graph."""
    path = source.parent / place
    if not place or Path(place).name != place or path.is_symlink() or not path.is_file():
        raise Refused(f"external data: found {place!r}, expected a file beside {source.name}")
    if path.stat().st_size > limit_bytes:
        raise Refused(f"external data {place!r}: found {path.stat().st_size} bytes, expected at most {limit_bytes}")


def _image_to_image(graph: onnx.GraphProto) -> dict[str, Any]:
    """Channels in; refused unless one batch of float32 slices of any size goes in and one comes out."""
    from onnx import TensorProto

    held = {tensor.name for tensor in graph.initializer}
    takes = [value for value in graph.input if value.name not in held]
    for what, values in (("inputs", takes), ("outputs", list(graph.output))):
        if len(values) != 1:
            raise Refused(f"{what}: found {len(values)}, expected one image")
        tensor = values[0].type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            name = TensorProto.DataType.Name(tensor.elem_type)
            raise Refused(f"{what}: {values[0].name}: found {name}, expected FLOAT")
    sizes = [one.dim_value if one.HasField("dim_value") else None for one in takes[0].type.tensor_type.shape.dim]
    if len(sizes) != 4 or sizes[0] not in (None, 1):
        raise Refused(f"input {takes[0].name}: found shape {sizes}, expected slices as (1, channels, rows, columns)")
    if sizes[2] is not None or sizes[3] is not None:
        raise Refused(f"input {takes[0].name}: found fixed sizes {sizes}, expected any rows and columns; {_DYNAMIC}")
    if not sizes[1]:
        raise Refused(f"input {takes[0].name}: found {sizes}, expected a fixed number of channels as second axis")
    return {"in_channels": sizes[1]}


def _tried(content: bytes, facts: Mapping[str, Any]) -> int:
    """Channels out, after two trials on the same noise."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    noise = np.random.default_rng(1).uniform(-1.0, 1.0, (1, facts["in_channels"], TRIED_SIDE, TRIED_SIDE))
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        first, second = (session.run(None, {name: noise.astype(np.float32)})[0] for _ in range(2))
    except MemoryError:
        raise
    except Exception as error:  # the errors of ONNX Runtime share no base class; any of them is a refusal
        raise Refused(f"ONNX Runtime does not run it: {str(error).splitlines()[0][:300]}") from error
    shape = tuple(first.shape)
    if len(shape) != 4 or shape[0] != 1 or shape[2:] != (TRIED_SIDE, TRIED_SIDE):
        raise Refused(f"output: found {shape} for {noise.shape}, expected an image of the same rows and columns")
    if not np.isfinite(first).all():
        raise Refused("output: found values that are not finite, expected numbers")
    if not np.array_equal(first, second):
        raise Refused("output: found another result for the same image, expected the same")
    return int(shape[1])


def main() -> None:
    """Limits first, before anything that could be deceived is loaded."""
    task, source, folder, limit_bytes, memory, seconds, member = sys.argv[1:]
    for what, limit in (
        (resource.RLIMIT_AS, int(memory)),
        (resource.RLIMIT_CPU, int(seconds)),
        (resource.RLIMIT_FSIZE, 2 * int(limit_bytes)),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    try:
        answer = {"tensors": tensors, "graph": graph}[task](Path(source), Path(folder), int(limit_bytes), member)
    except Refused as refusal:
        answer = {"refused": str(refusal)}
    except MemoryError:
        answer = {"refused": f"found more than fits into {memory} bytes of memory"}
    (Path(folder) / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()

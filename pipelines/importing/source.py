"""`recognised`: what a file from elsewhere holds, or the reason why it is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipelines.errors import WeightsError
from pipelines.importing import monai_bundle, pix2pix_checkpoint
from pipelines.importing.found import RANGE_QUESTIONS, Found
from pipelines.importing.isolated import Limits, open_graph, open_tensors
from pipelines.importing.monai_bundle import Bundle

TAKEN = "a state_dict of pytorch-CycleGAN-and-pix2pix (.pth), an ONNX file or a MONAI bundle"
CHECKPOINTS, ONNX = (".pth", ".pt"), ".onnx"
REFUSED = {
    ".pt2": "an exported program of torch, which torch unpickles without limits when it cannot read it otherwise",
    ".ts": "a TorchScript program, which is code",
    ".h5": "a Keras model, which may hold code",
    ".keras": "a Keras model, which may hold code",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite graph",
    ".pkl": "a pickle, which is code",
    ".ckpt": "a checkpoint of a training framework, which holds more than tensors",
}
_TORCHSCRIPT = ("constants.pkl", "code/")
_EXPORTED = ("archive_format", "serialized_exported_program.json", "models/model.json")


@contextmanager
def recognised(source: Path, limits: Limits | None = None) -> Iterator[Found]:
    """What `source` holds, while its weights lie in a temporary folder; raises WeightsError with the reason."""
    if not source.exists():
        raise WeightsError(f"{source}: found no such file, expected {TAKEN}")
    with TemporaryDirectory(prefix="athanor-import-") as folder:
        yield _recognised(source, Path(folder), limits or Limits())


def _recognised(source: Path, folder: Path, limits: Limits) -> Found:
    suffix = source.suffix.lower()
    if suffix in REFUSED:
        _refuse(source, REFUSED[suffix])
    if suffix == ONNX:
        return _graph(source, folder, limits)
    bundle = _bundle(source)
    if bundle is not None:
        file, member = bundle.weights
        if not bundle.has(monai_bundle.WEIGHTS):
            raise WeightsError(f"{source}: found no {monai_bundle.WEIGHTS}, expected the network's state_dict there")
        return monai_bundle.recognise(bundle, _finite(source, open_tensors(file, folder, limits, member)))
    if source.is_dir() or suffix not in CHECKPOINTS:
        _refuse(source, "a folder that is no MONAI bundle" if source.is_dir() else f"a file {suffix or source.name}")
    return pix2pix_checkpoint.recognise(source, _finite(source, open_tensors(source, folder, limits)))


def _bundle(source: Path) -> Bundle | None:
    """The MONAI bundle at `source`, if it is one; a zip of torch that holds a program is refused here."""
    if source.is_dir() or not zipfile.is_zipfile(source):
        return Bundle.at(source) if source.is_dir() else None
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
        inner = {name.partition("/")[2] for name in names}
        if any(name.startswith(_TORCHSCRIPT) for name in inner):
            _refuse(source, REFUSED[".ts"])
        if any(name.startswith(_EXPORTED) for name in inner.union(names)):
            _refuse(source, REFUSED[".pt2"])
        return Bundle.at(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise WeightsError(f"{source}: not a zip that can be read ({error}); it may be cut short") from error


def _graph(source: Path, folder: Path, limits: Limits) -> Found:
    path, facts = open_graph(source, folder, limits)
    channels = {key: int(facts[key]) for key in ("in_channels", "out_channels")}
    if channels["out_channels"] not in (1, 3):
        raise WeightsError(f"{source}: output: found {channels['out_channels']} channels, expected 1 or 3")
    words = "ONNX graph of opset {opset}, {in_channels} channels in and {out_channels} out".format(**facts)
    return Found(words, "onnx", channels, path, channels["in_channels"], 1, questions=RANGE_QUESTIONS)


def _finite(source: Path, path: Path) -> dict[str, Tensor]:
    """The tensors in `path`; raises WeightsError for values that are not finite."""
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{source}: {name}: found values that are not finite, expected numbers")
    return tensors


def _refuse(source: Path, what: str) -> None:
    raise WeightsError(f"{source}: found {what}; expected {TAKEN}")

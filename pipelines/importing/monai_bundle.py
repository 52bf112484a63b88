"""The network of a MONAI bundle, from a folder or a zip, without MONAI's own reader, which evaluates what it reads.

Of the configuration only ``network_def`` is looked at: its ``_target_`` has to be one of a few networks, its arguments
literals. Transforms, ``$`` expressions and code of the bundle are never used: what is done before and after the network
stands in the manifest that is made here.
"""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from pipelines.errors import WeightsError
from pipelines.importing.found import RANGE_QUESTIONS, Found
from pipelines.networks.monai_networks import NETWORKS, MonaiNetwork, require_arguments
from pipelines.weights import misfit_of

METADATA, WEIGHTS = "configs/metadata.json", "models/model.pt"
CONFIGURATIONS = ("configs/inference.json", "configs/train.json")
TARGETS: Mapping[str, str] = {
    spelling: architecture
    for architecture, (name, _) in NETWORKS.items()
    for spelling in (
        name, f"monai.networks.nets.{name}",
        f"monai.networks.nets.{architecture.removeprefix('monai-').replace('-', '_')}.{name}",
    )
}  # fmt: skip
_TEXT_BYTES = 1 << 20  # of a configuration
_ABOUT = ("name", "version", "monai_version", "task", "description", "authors", "authorship", "copyright")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where a bundle lies; `root` is the folder of a zip in which it stands, empty or ending with a slash."""

    path: Path
    root: str = ""

    @classmethod
    def at(cls, path: Path) -> Bundle | None:
        """The bundle at `path`; None when it is none. Raises WeightsError for a zip that names places outside."""
        if path.is_dir():
            return cls(path) if (path / METADATA).is_file() else None
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            roots = [name.removesuffix(METADATA) for name in names if f"/{name}".endswith(f"/{METADATA}")]
            if not roots:
                return None
            for info in archive.infolist():
                _require_inside(path, info)
        if len(roots) > 1 or len(set(names)) != len(names):
            raise WeightsError(f"{path}: found {len(roots)} bundles or names twice, expected one bundle")
        return cls(path, roots[0])

    @property
    def weights(self) -> tuple[Path, str]:
        """The checkpoint: a file, or a zip and the name in it."""
        return (self.path, self.root + WEIGHTS) if self.path.is_file() else (self.path / WEIGHTS, "")

    def has(self, name: str) -> bool:
        """Whether the bundle holds a file `name`."""
        if self.path.is_dir():
            return (self.path / name).is_file()
        with zipfile.ZipFile(self.path) as archive:
            return self.root + name in archive.namelist()

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in `name`; raises WeightsError."""
        try:
            if self.path.is_dir():
                with (self.path / name).open("rb") as file:
                    content = file.read(_TEXT_BYTES + 1)
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.root + name) as member:
                    content = member.read(_TEXT_BYTES + 1)
            if len(content) > _TEXT_BYTES:
                raise WeightsError(f"{self.path}: {name}: found over {_TEXT_BYTES} bytes, expected fewer")
            value = json.loads(content)
        except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError) as error:
            raise WeightsError(f"{self.path}: {name}: not read as JSON ({error})") from error
        if not isinstance(value, dict):
            raise WeightsError(f"{self.path}: {name}: found {type(value).__name__}, expected an object")
        return value


def _require_inside(path: Path, info: zipfile.ZipInfo) -> None:
    """Nothing is ever unpacked to the disk; a zip that tries to leave its folder is not trusted in anything else."""
    place = PurePosixPath(info.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in info.filename or stat.S_ISLNK(info.external_attr >> 16):
        raise WeightsError(f"{path}: found the name {info.filename!r}, expected files inside the bundle only")


def recognise(bundle: Bundle, stored: Mapping[str, Tensor]) -> Found:
    """The network of `bundle` with the tensors of its checkpoint; raises WeightsError naming what does not fit."""
    architecture, arguments = _network(bundle)
    metadata = bundle.json(METADATA)
    for end, key in (("inputs", "in_channels"), ("outputs", "out_channels")):
        _require_one_image(bundle, metadata, end, arguments[key])
    parameters = {"arguments": json.dumps(arguments, sort_keys=True)}
    tensors = {f"model.{name}": tensor for name, tensor in stored.items()}
    try:
        with torch.device("meta"):
            network = MonaiNetwork(architecture, **parameters)
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{bundle.path}: network_def: {error}") from error
    misfit = misfit_of(network.state_dict(), tensors)
    if misfit:
        raise WeightsError(f"{bundle.path}: {WEIGHTS}: {misfit}; expected those of network_def")
    return Found(
        words=f"{NETWORKS[architecture][0]} of a MONAI bundle, {arguments['in_channels']} channels in and "
        f"{arguments['out_channels']} out",
        architecture=architecture,
        parameters=parameters,
        weights=tensors,
        in_channels=arguments["in_channels"],
        multiple=1,
        questions=RANGE_QUESTIONS,
        notes=("transforms and post-processing of the bundle are not used",),
        about={key: str(metadata[key])[:500] for key in _ABOUT if isinstance(metadata.get(key), str)},
    )


def _network(bundle: Bundle) -> tuple[str, dict[str, Any]]:
    """Architecture and arguments of ``network_def``."""
    name = next((one for one in CONFIGURATIONS if bundle.has(one)), None)
    if name is None:
        raise WeightsError(f"{bundle.path}: found no {' or '.join(CONFIGURATIONS)}, expected network_def in one")
    configuration = bundle.json(name)
    where = f"{bundle.path}: {name}: network_def"
    definition = configuration.get("network_def")
    if not isinstance(definition, dict):
        raise WeightsError(f"{where}: found {type(definition).__name__}, expected an object with _target_")
    target = definition.get("_target_")
    if not isinstance(target, str) or target not in TARGETS:
        known = ", ".join(name for name, _ in NETWORKS.values())
        raise WeightsError(f"{where}._target_: found {target!r}, expected one of {known}; export others to ONNX")
    arguments = {
        key: _literal(f"{where}.{key}", value, configuration) for key, value in definition.items() if key != "_target_"
    }
    try:
        return TARGETS[target], require_arguments(TARGETS[target], arguments)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{where}: {error}") from error


def _literal(where: str, value: Any, configuration: Mapping[str, Any]) -> Any:
    """`value` if it is nothing but data; ``@name`` stands for a literal of the configuration, everything else is not
    followed. Raises WeightsError."""
    if isinstance(value, str) and value.startswith("@") and value[1:] in configuration:
        value = configuration[value[1:]]
        if isinstance(value, str) and value.startswith("@"):
            raise WeightsError(f"{where}: found the reference {value!r} behind a reference, expected a literal")
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise WeightsError(f"{where}: found the expression {value!r}, expected a literal: nothing is evaluated here")
    if isinstance(value, dict):
        if "_target_" in value:
            raise WeightsError(f"{where}: found an object to be made of {value['_target_']!r}, expected a literal")
        return {key: _literal(f"{where}.{key}", one, configuration) for key, one in value.items()}
    if isinstance(value, list):
        return [_literal(f"{where}[{index}]", one, configuration) for index, one in enumerate(value)]
    return value


def _require_one_image(bundle: Bundle, metadata: Mapping[str, Any], end: str, channels: int) -> None:
    """Refuse metadata of several images, of labels, or of another number of channels than the network has."""
    where = f"{bundle.path}: {METADATA}: network_data_format.{end}"
    data_format = metadata.get("network_data_format")
    images = data_format.get(end) if isinstance(data_format, dict) else None
    if not isinstance(images, dict) or len(images) != 1 or not isinstance(image := next(iter(images.values())), dict):
        raise WeightsError(f"{where}: found {_shape_of(images)}, expected one image")
    if image.get("type", "image") != "image" or image.get("format") in ("labels", "segmentation", "probabilities"):
        raise WeightsError(f"{where}: found {image.get('type')} of {image.get('format')}, expected an image")
    if image.get("num_channels", channels) != channels:
        raise WeightsError(
            f"{where}.num_channels: found {image['num_channels']}, expected {channels} as in network_def"
        )


def _shape_of(images: Any) -> str:
    return f"{len(images)} entries" if isinstance(images, dict) else type(images).__name__

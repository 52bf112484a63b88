"""A tiny model that takes T1W and T2W, its rules, and small series of both contrasts of one study."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tomlkit
from small_series import SAGITTAL

import pipelines
from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.volume import Volume

RELEASED = Path(pipelines.__file__).resolve().parents[1] / "weights" / "t2-to-stir" / "manifest.toml"

ACQUISITIONS = {
    "T1W": Acquisition("T1 TSE SAG", 3, 550.0, 12.0),
    "T2W": Acquisition("T2 TSE SAG", 4, 3500.0, 100.0),
}

RULES = """
[[rules]]
name = "t1t2-to-stir"
pipeline = "t1t2-to-stir"
destinations = ["pacs"]
wait_limit_s = 60
when = { attribute = "Modality", equals = "MR" }

[[rules.inputs]]
role = "T1W"
when = { attribute = "EchoTime", less = 30 }

[[rules.inputs]]
role = "T2W"
when = { attribute = "EchoTime", greater = 70 }

[[rules]]
name = "t2-to-stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { attribute = "EchoTime", greater = 70 }
"""
"""Both when there are both, T2W alone when there is only that."""


def write_models(weights_dir: Path) -> Path:
    """The released t2-to-stir and a t1t2-to-stir, both with a generator of a few thousand weights; their folder."""
    for name, roles in {"t2-to-stir": ("T2W",), "t1t2-to-stir": ("T1W", "T2W")}.items():
        _write_model(weights_dir / name, roles)
    return weights_dir


def _write_model(folder: Path, roles: tuple[str, ...]) -> None:
    import torch
    from safetensors.torch import save_file

    from pipelines.networks import GENERATORS

    folder.mkdir(parents=True)
    manifest: Any = tomlkit.parse(RELEASED.read_text(encoding="utf-8")).unwrap()
    (t2w,) = manifest["inputs"]
    t1w = {
        **t2w, "role": "T1W", "ranges": {**t2w["ranges"], "tr_ms": [300, 900], "te_ms": [5, 30]},
        "description": {"confirms": ["T1"], "contradicts": ["STIR"], "contradicts_unless_confirmed": ["T2"]},
    }  # fmt: skip
    by_role = {"T1W": t1w, "T2W": {**t2w, "grid": True}}
    parameters = {"in_channels": len(roles), "out_channels": 1, "ngf": 4, "downs": 3}
    torch.manual_seed(5)
    state = GENERATORS["unet"](**parameters).state_dict()
    file = folder / "generator.safetensors"
    save_file({name: value.half() for name, value in state.items()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.update(id=folder.name, inputs=[by_role[role] for role in roles])
    manifest["generator"] = {"architecture": "unet", "file": file.name, "sha256": digest, "parameters": parameters}
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")


def write_series(
    folder: Path,
    contrast: str,
    seed: int = 1,
    slices: int = 3,
    *,
    number: int | None = None,
    spacing_mm: tuple[float, float, float] = (4.4, 1.2, 1.2),
    origin_mm: tuple[float, float, float] = (-10.0, -70.0, 80.0),
    edit: Callable[[pydicom.Dataset], None] | None = None,
) -> list[Path]:
    """The files of a series of 128 x 128 pixels; those of one seed are of one study and one frame of reference."""
    usual = ACQUISITIONS[contrast]
    acquisition = Acquisition(
        usual.series_description, number or usual.series_number, usual.repetition_time_ms, usual.echo_time_ms
    )
    row, column = np.mgrid[:128, :128] / 20.0
    body = 1.0 + np.sin(row + seed) * np.cos(column * (1.3 if contrast == "T1W" else 0.9))
    noise = np.random.default_rng(seed).normal(0.0, 0.05, (slices, 128, 128))
    voxels = 400.0 * np.clip(body * np.linspace(0.8, 1.2, slices)[:, None, None] + noise, 0.0, None)
    volume = Volume(voxels.astype(np.float32), spacing_mm, origin_mm, SAGITTAL)
    paths = write_mr_series(volume, folder, seed=seed, acquisition=acquisition)
    if edit is not None:
        for path in paths:
            ds = pydicom.dcmread(path)
            edit(ds)
            ds.save_as(path)
    return paths

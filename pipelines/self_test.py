"""A self-test of a loaded model: it runs on a made-up image, so it needs no patient and no truth.

It shows that the installation computes as it should, not that results are right: the model card says what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from pipelines.errors import PipelineError
from pipelines.result import Pipeline
from pipelines.spec import KINDS, PipelineSpec
from pipelines.volume import Volume, Voxels

_SLICES, _SIDE = 2, 256  # pixels; the usual matrix
_OF_RANGE = 0.05  # how far a result may lie outside the range of its manifest: a denoiser overshoots at edges


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried: whether it went as it should, and what was found."""

    name: str
    passed: bool
    found: str


def self_test(spec: PipelineSpec, load: Callable[[PipelineSpec], Pipeline]) -> Iterator[Step]:
    """Load the model anew and run it twice; ends after the first step that fails. Raises what torch raises."""
    started = perf_counter()
    try:
        pipeline = load(spec)
    except PipelineError as error:
        yield Step("weights", False, str(error))
        return
    took_s = perf_counter() - started
    yield Step("weights", True, f"sha256 {spec.generator.sha256[:12]} verified and loaded in {took_s:.2f} s")
    volumes = {contract.role: made_up(spec) for contract in spec.inputs}
    started = perf_counter()
    try:
        voxels = pipeline(volumes, _ignore).volume.voxels
    except PipelineError as error:
        yield Step("result", False, str(error))
        return
    took_s = perf_counter() - started
    found = _strange(voxels, spec)
    yield Step("result", found is None, found or f"{_SLICES} slices of {_SIDE} x {_SIDE} pixels in {took_s:.2f} s")
    if found is None:
        same = np.array_equal(voxels, pipeline(volumes, _ignore).volume.voxels)
        yield Step("repeated", same, "the same voxels, bit for bit" if same else "other voxels than the first time")


def made_up(spec: PipelineSpec, slices: int = _SLICES, rows: int = _SIDE, columns: int = _SIDE) -> Volume:
    """A disc in air with a gradient, rings and noise, in the values that the model takes."""
    row, column = np.mgrid[-1.0 : 1.0 : rows * 1j, -1.0 : 1.0 : columns * 1j]
    radius = np.hypot(row, column)
    inside = (0.55 + 0.25 * np.cos(12.0 * radius) + 0.15 * column) * (radius < 0.8)
    noise = np.random.default_rng(1).normal(0.0, 0.02, (slices, rows, columns))
    image = np.clip(inside + noise, 0.0, 1.0)
    is_hu = KINDS[spec.kind] == "hu"
    low, high = spec.intensity.window or (0.0, 1000.0)
    voxels = np.where(radius < 0.8, 200.0 * image - 60.0, -1000.0) if is_hu else low + (high - low) * image
    spacing = spec.geometry.pixel_spacing_mm
    return Volume(
        voxels.astype(np.float32), (4.0, spacing, spacing), (0.0, 0.0, 0.0), np.eye(3), "HU" if is_hu else "1"
    )


def _strange(voxels: Voxels, spec: PipelineSpec) -> str | None:
    """What is wrong with a result; None when nothing is."""
    low, high = spec.output.range
    slack = _OF_RANGE * (high - low)
    if any(length % given for length, given in zip(voxels.shape, (_SLICES, _SIDE, _SIDE), strict=True)):
        return f"a volume of {voxels.shape}; expected the source's shape or a whole number of times as fine"
    if not np.isfinite(voxels).all():
        return "voxels that are no numbers"
    if float(voxels.min()) < low - slack or float(voxels.max()) > high + slack:
        return f"values from {voxels.min():g} to {voxels.max():g}; expected {low:g} to {high:g}"
    return "one value everywhere" if float(np.ptp(voxels)) == 0.0 else None


def _ignore(done: int, of: int) -> None:
    """Nobody watches the progress of a self-test."""

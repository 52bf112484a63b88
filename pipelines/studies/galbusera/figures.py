"""The pictures of the study: box plots as in figures 3 and 7 of the paper, and cases as in figures 2 and 4 to 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines import intensity
from pipelines.intensity import Array
from pipelines.studies.galbusera.cases import FULL_SCALE
from pipelines.studies.galbusera.cohort import TASKS, Task
from pipelines.studies.galbusera.tables import METHODS, METRICS, values_of
from pipelines.volume import Volume

COLOURS = {
    "generator": "#1b6ca8",
    "l1_only": "#e08214",
    "cubic": "#7b3294",
    "linear": "#c2a5cf",
    "pixel_map": "#5aae61",
    "histogram": "#a6a6a6",
    "identity": "#d9d9d9",
    "target": "#404040",
}
TILE = 192  # pixels of an example
ACROSS = 2  # cases in a row of the picture

Results = Mapping[str, Any]


def draw_boxes(results: Results, out: Path) -> None:
    """`out`/translation.png and `out`/super-resolution.png: median, quartiles and range, one box a method."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 3), ("mse", "psnr_db", "ssim"), strict=True):
        _boxes(axes, TASKS[1:], results, metric)
    _save(figure, out / "translation.png")
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 4), ("psnr_db", "ssim", "vifp", "cpbd"), strict=True):
        _boxes(axes, TASKS[:1], results, metric)
    _save(figure, out / "super-resolution.png")


def _boxes(axes: Any, tasks: Sequence[Task], results: Results, metric: str) -> None:
    label, scale = METRICS[metric]
    present = [
        method for method in METHODS if any(values_of(results["tasks"][task.id], method, metric) for task in tasks)
    ]
    width = 0.8 / max(len(present), 1)
    for number, method in enumerate(present):
        for place, task in enumerate(tasks):
            values = values_of(results["tasks"][task.id], method, metric)
            if values:
                at = place + (number - 0.5 * (len(present) - 1)) * width
                axes.boxplot(
                    [np.asarray(values) * scale], positions=[at], widths=[0.9 * width], patch_artist=True,
                    boxprops={"facecolor": COLOURS[method], "linewidth": 0.6}, medianprops={"color": "black"},
                    flierprops={"markersize": 2.5}, whiskerprops={"linewidth": 0.6}, manage_ticks=False,
                )  # fmt: skip
        axes.plot([], [], "s", color=COLOURS[method], label=METHODS[method].strip("*"))
    axes.set_xticks(range(len(tasks)), [task.title.replace(" to ", "\nto ") for task in tasks], fontsize=8)
    axes.set_xlim(-0.6, len(tasks) - 0.4)
    axes.set_title(label, fontsize=10)
    if metric == "mse":
        axes.set_yscale("log")
    if metric == "psnr_db" and present:
        legend = axes.get_legend_handles_labels()
        axes.figure.legend(*legend, loc="outside lower center", ncols=5, fontsize=8, frameon=False)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=90, metadata={"Software": None})  # the same numbers give the same file


def draw_examples(cases: Sequence[tuple[Volume, Array, Volume]], path: Path) -> None:
    """A PNG of the middle slices of (input, output, target), `ACROSS` cases in a row."""
    tiles = []
    for source, output, target in cases:
        window = intensity.fit(source.voxels)
        shown = ((source.voxels, window.low, window.high), (output, 0.0, FULL_SCALE), (target.voxels, 0.0, FULL_SCALE))
        tiles.append(np.hstack([_tile(*one) for one in shown]))
    gap = np.full((TILE, 8), 255, np.uint8)
    blank = np.full_like(tiles[0], 255)
    rows = []
    for start in range(0, len(tiles), ACROSS):
        row = [*tiles[start : start + ACROSS], *[blank] * (ACROSS - len(tiles[start : start + ACROSS]))]
        rows.append(np.hstack([part for tile in row for part in (tile, gap)][:-1]))
    Image.fromarray(np.vstack(rows) & 0xFC).save(path, optimize=True)  # 64 greys: half the file


def _tile(voxels: Array, low: float, high: float) -> NDArray[np.uint8]:
    """The middle slice, black at `low` and white at `high`."""
    grey = np.clip((voxels[len(voxels) // 2] - low) * (255.0 / (high - low)), 0.0, 255.0).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((TILE, TILE), Image.Resampling.BILINEAR))

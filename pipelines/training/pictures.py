"""Pictures of a run for people: the loss curves, and slices beside what the generator makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.intensity import Array
from pipelines.training.trainer import Progress


def draw_grid(rows: Sequence[Sequence[Array]], path: Path) -> None:
    """A PNG of slices in [-1, 1], one row for each of `rows`: as a rule sources, synthesised, acquired."""
    grey = (np.vstack([np.hstack(row) for row in rows]) + 1.0) * 127.5
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(path)


def draw_curves(log: Sequence[Progress], path: Path) -> None:
    """A PNG with the losses of both networks, and the L1 in training and validation, over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [line.step for line in log]
    left.plot(steps, [line.judge for line in log], label="discriminator or critic")
    left.plot(steps, [line.generator for line in log], label="generator")
    right.plot(steps, [line.l1 for line in log], label="L1 in training")
    right.plot(steps, [line.validation_l1 for line in log], label="L1 in validation (averaged generator)")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)

"""A whole training run, and the same one broken off in the middle and taken up again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.intensity import Array
from pipelines.training.trainer import Trainer

STEPS = 50
BREAK = 25  # between two lines of the log, so that what is summed up for the next one has to survive too


def run_and_resume(whole: Trainer, resumed: Trainer, folder: Path) -> float:
    """Runs `whole`, whose recipe has STEPS steps, into `folder`; its held-out L1 before the first of them.

    It leaves a checkpoint at step BREAK, as a run that ends there does, and `resumed`, a trainer of the same recipe
    that has done nothing yet, goes on from that. Fails unless both end with the same weights, to the last bit, and the
    same log.
    """
    broken = folder / "broken"
    before = held_out_l1(whole, lambda real_a: whole.delivered(whole.average.module, real_a))
    broken.mkdir(parents=True)
    whole.train(folder, minutes=5, told=lambda: whole.save(broken) if whole.step == BREAK else None)
    assert whole.step == STEPS
    resumed.resume(broken)
    assert resumed.step == BREAK
    resumed.train(broken, minutes=5)
    assert resumed.step == STEPS
    for (name, value), (_, other) in zip(_weights(whole), _weights(resumed), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=0, msg=f"{name} differs after the break")
    assert [replace(line, minutes=0.0) for line in whole.log] == [replace(line, minutes=0.0) for line in resumed.log]
    return before


def held_out_l1(trainer: Trainer, answer: Callable[[Array], Array]) -> float:
    """Mean L1 between what `answer` makes of each validation source and the truth, without the rim."""
    rows, columns = (slice(trainer.rim, size - trainer.rim) for size in trainer.validation[0][1].shape[-2:])
    distances = [np.abs(answer(real_a) - real_b)[..., rows, columns].mean() for real_a, real_b in trainer.validation]
    return float(np.mean(distances))


def _weights(trainer: Trainer) -> list[tuple[str, torch.Tensor]]:
    """Every tensor of every network that `trainer` holds."""
    networks = {name: value for name, value in vars(trainer).items() if isinstance(value, nn.Module)}
    return [
        (f"{name}.{key}", value) for name, network in networks.items() for key, value in network.state_dict().items()
    ]

"""Cohen's kappa: how far two readers agree beyond chance, and the words for it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

RESAMPLINGS = 2_000
# Altman 1991; what lies above the last bound is "excellent"
BANDS = ((0.20, "poor"), (0.40, "fair"), (0.60, "moderate"), (0.80, "good"))


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The unweighted kappa of two readings of the same cases (Cohen 1960).

    NaN where both readers gave one and the same answer to everything: chance alone agrees fully then. Raises ValueError
    for readings of unequal length or none.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"readings: found {len(one)} and {len(other)}, expected equally many and at least one")
    answers = {answer: index for index, answer in enumerate(dict.fromkeys([*one, *other]))}
    table = np.zeros((len(answers), len(answers)))
    np.add.at(table, ([answers[a] for a in one], [answers[b] for b in other]), 1.0 / len(one))
    agreed, by_chance = float(np.trace(table)), float(table.sum(axis=0) @ table.sum(axis=1))
    return (agreed - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else float("nan")


def kappa_interval(one: Sequence[Hashable], other: Sequence[Hashable], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of kappa under a bootstrap over cases; resamplings without a kappa are left out."""
    rng = np.random.default_rng(seed)
    kappas = []
    for _ in range(RESAMPLINGS):
        drawn = rng.integers(0, len(one), len(one))
        kappas.append(cohen_kappa([one[index] for index in drawn], [other[index] for index in drawn]))
    low, high = np.nanpercentile(kappas, [2.5, 97.5])
    return float(low), float(high)


def band(kappa: float) -> str:
    """The word for a kappa, from poor to excellent."""
    return next((word for bound, word in BANDS if kappa <= bound), "excellent")

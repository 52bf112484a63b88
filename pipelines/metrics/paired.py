"""The difference between two methods on the same patients, with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLINGS = 10_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of the differences and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(method: Sequence[float], baseline: Sequence[float], seed: int = 0) -> PairedDifference:
    """The mean of method minus baseline over patients, with the percentile interval of a bootstrap over patients.

    Efron and Tibshirani 1993, section 13.3. Raises ValueError for unequal lengths or fewer than two patients.
    """
    if len(method) != len(baseline) or len(method) < 2:
        raise ValueError(f"patients: found {len(method)} and {len(baseline)}, expected equal and at least 2")
    differences = np.asarray(method, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (RESAMPLINGS, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return PairedDifference(float(differences.mean()), float(low), float(high))

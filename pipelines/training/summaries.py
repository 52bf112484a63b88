"""Scores of many patients in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from pipelines.metrics.paired import paired_difference

Scores = Mapping[str, float]  # of one patient, by metric


def summary(patients: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Mean, SD, median and quartiles of each metric over patients."""
    table = {}
    for metric in patients[0]:
        column = np.array([scores[metric] for scores in patients])
        low, median, high = np.percentile(column, [25, 50, 75])
        table[metric] = {
            "mean": float(column.mean()),
            "sd": float(column.std(ddof=1)),
            "q1": float(low),
            "median": float(median),
            "q3": float(high),
        }
    return table


def differences(method: Sequence[Scores], baseline: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Method minus baseline on the same patients for each metric, with its bootstrap interval."""
    return {
        metric: asdict(paired_difference([one[metric] for one in method], [other[metric] for other in baseline]))
        for metric in method[0]
    }

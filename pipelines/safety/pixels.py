"""Grey values that would mislead a model: which slices carry an image, and what a reader should know of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import Unsuitable
from pipelines.result import Check
from pipelines.volume import Voxels

_SATURATED = 0.05  # fraction of a slice at the series' highest value; bright fluid stays far below
_OTHER_SCALE = 8.0  # times the usual brightness; surface coils make neighbours differ by 2 or 3
_STRUCTURE = 0.3  # correlation of neighbouring pixels: 0.7 and more in coarse or noisy series of patients, 0 in noise


@dataclass(frozen=True, slots=True, eq=False)
class SliceQuality:
    """For each slice: whether it shows anything, and whether its grey values may set the scale of the series."""

    shows: NDArray[np.bool_]
    sets_scale: NDArray[np.bool_]
    checks: tuple[Check, ...]


def inspect_slices(role: str, voxels: Voxels) -> SliceQuality:
    """The quality of each slice of `voxels` (slices, rows, columns).

    Empty, constant, saturated and wrongly scaled slices are kept from setting the scale of the others. Raises
    Unsuitable when no slice shows anything, and when what they show is noise.
    """
    finite = np.isfinite(voxels)
    shows = np.array([_has_contrast(each[good]) for each, good in zip(voxels, finite, strict=True)])
    if not shows.any():
        raise Unsuitable("constant", f"{role}: one grey value in every slice", "an image", "check the acquisition")
    highest = voxels[finite].max()
    saturated = shows & ((voxels == highest).mean(axis=(1, 2)) > _SATURATED)
    sets_scale = shows & ~saturated
    other_scale = sets_scale & _of_other_scale(voxels, finite, sets_scale)
    sets_scale &= ~other_scale
    if not sets_scale.any():
        raise Unsuitable(
            "saturated",
            f"{role}: more than {_SATURATED:.0%} of every slice at the highest grey value",
            "an image within the range of its pixels",
            "correct the receiver gain or the export",
        )
    structure = float(np.median([_neighbour_correlation(each) for each in voxels[sets_scale]]))
    if structure < _STRUCTURE:
        found = f"{role}: neighbouring pixels correlated by {structure:.2f}"
        raise Unsuitable("noise", found, f"at least {_STRUCTURE}", "the slices show no anatomy")
    missing = int(finite.size - finite.sum())
    findings = {
        "constant-slices": (~shows, "show nothing and stay empty"),
        "saturated-slices": (saturated, "are clipped at the highest grey value"),
        "scale-slices": (other_scale, "have grey values of another scale"),
        "non-finite": (~finite.all(axis=(1, 2)), f"hold {missing} voxels that are no numbers, taken as no signal"),
    }
    checks = tuple(
        Check(name, True, f"{role}: {int(which.sum())} of {len(which)} slices {what}")
        for name, (which, what) in findings.items()
        if which.any()
    )
    return SliceQuality(shows, sets_scale, checks)


def _has_contrast(values: NDArray[np.floating]) -> bool:
    return values.size > 0 and bool(values.max() > values.min())


def _of_other_scale(voxels: Voxels, finite: NDArray[np.bool_], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices far brighter than usual among those marked; with fewer than three there is no usual."""
    bright = np.zeros(len(voxels))
    for index in np.flatnonzero(among):
        bright[index] = np.percentile(np.abs(voxels[index][finite[index]]), 99)
    if among.sum() < 3:
        return np.zeros(len(voxels), bool)
    return bright > _OTHER_SCALE * float(np.median(bright[among]))


def _neighbour_correlation(pixels: NDArray[np.float32]) -> float:
    """Correlation of each pixel with the one to its right, 1 for smooth images and 0 for white noise."""
    left, right = pixels[:, :-1].ravel().astype(np.float64), pixels[:, 1:].ravel().astype(np.float64)
    both = np.isfinite(left) & np.isfinite(right)
    left, right = left[both], right[both]
    if not (_has_contrast(left) and _has_contrast(right)):
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])

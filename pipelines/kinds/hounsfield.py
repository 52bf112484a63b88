"""A volume in Hounsfield units as the kinds that work in them see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import Unsuitable
from pipelines.kinds.one_volume import only_volume
from pipelines.result import Check
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume, Voxels

AIR_HU = -1024.0
_PLAUSIBLE_HU = (-4096.0, 32767.0)  # what scanners store, padding and metal on an extended scale included


@dataclass(frozen=True, slots=True, eq=False)
class HounsfieldVolume:
    """A volume in HU.

    voxels   its own, where none is missing; else a copy in which air is where there was no number
    missing  how many those were
    shows    for each slice, whether it holds more than one value
    """

    volume: Volume
    voxels: Voxels
    missing: int
    shows: NDArray[np.bool_]

    def notes(self) -> Iterator[Check]:
        """What a reader should know of slices and voxels that hold nothing."""
        if not self.shows.all():
            yield Check("constant-slices", True, f"{int((~self.shows).sum())} of {len(self.shows)} slices show nothing")
        if self.missing:
            yield Check("non-finite", True, f"{self.missing} voxels that are no numbers, taken as air")


def hounsfield_volume(volumes: Mapping[str, Volume], spec: PipelineSpec) -> HounsfieldVolume:
    """The one volume that `spec` takes; raises Unsuitable when it is another, not in HU or shows nothing."""
    volume = only_volume(volumes, spec)
    if volume.unit != "HU":
        raise Unsuitable("unit", f"values in {volume.unit!r}", "HU", "the series needs Rescale Type HU")
    low, high = float(np.fmin.reduce(volume.voxels, axis=None)), float(np.fmax.reduce(volume.voxels, axis=None))
    if low < _PLAUSIBLE_HU[0] or high > _PLAUSIBLE_HU[1] or high < -500.0:
        raise Unsuitable("hounsfield", f"{low:.0f} to {high:.0f} HU", "the HU of a body", "check the rescaling")
    finite = np.isfinite(volume.voxels)
    shows = np.array([one.any() and np.ptp(each[one]) > 0 for each, one in zip(volume.voxels, finite, strict=True)])
    if not shows.any():
        raise Unsuitable("constant", "one value in every slice", "an image", "check the acquisition")
    missing = int(finite.size - np.count_nonzero(finite))
    voxels = np.where(finite, volume.voxels, np.float32(AIR_HU)) if missing else volume.voxels
    return HounsfieldVolume(volume, voxels, missing, shows)

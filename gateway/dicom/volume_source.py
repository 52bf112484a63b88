"""A series once it was read: voxels, the frame behind each slice, facts for contracts, the stored form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipelines.spec import PROJECTIONS, SeriesFacts
from pipelines.volume import Volume


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """How the source instances store a voxel: enough to write values back as they were stored.

    A voxel of the volume is ``slope * stored + intercept``, where stored values of MONOCHROME1, in which low
    is bright, were first turned around by `inverted`, so that in every volume high is bright. slope and
    intercept are those of the first slice; `uniform_rescale` is False when other slices have their own. lossy
    says that an instance was once compressed with loss, ratios and methods are what the instances say of it
    (PS3.3 C.7.6.1.1.5).
    """

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    rescale_type: str
    photometric: str
    uniform_rescale: bool = True
    lossy: bool = False
    lossy_ratios: tuple[float, ...] = ()
    lossy_methods: tuple[str, ...] = ()

    @property
    def lowest(self) -> int:
        """The lowest value that can be stored."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The highest value that can be stored."""
        return (1 << (self.bits_stored - int(self.signed))) - 1

    def inverted(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Stored values with bright and dark exchanged; twice gives them back."""
        return self.lowest + self.highest - stored


@dataclass(frozen=True, slots=True, eq=False)
class SourceFrame:
    """Where one slice came from.

    frame_number  1-based within a multi-frame instance, None for a single-frame one
    ds            the data set without pixel data; in enhanced multi-frame objects a view in which the functional
                  groups of this frame are at the top level (Image Position (Patient), Pixel Spacing ...)
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    instance_number: int
    frame_number: int | None
    ds: Dataset


@dataclass(frozen=True, slots=True, eq=False)
class SourceSeries:
    """One received series; `frames` holds one SourceFrame for each slice of the volume, in its order."""

    volume: Volume
    frames: tuple[SourceFrame, ...]
    facts: SeriesFacts
    stored: StoredPixels

    @property
    def is_projection(self) -> bool:
        """Whether it is a radiograph, whose grid lies on a detector and nowhere in the patient."""
        return self.facts.plane in PROJECTIONS

    def __post_init__(self) -> None:
        if len(self.frames) != self.volume.shape[0]:
            raise ValueError(
                f"frames: found {len(self.frames)}, expected one for each of {self.volume.shape[0]} slices"
            )

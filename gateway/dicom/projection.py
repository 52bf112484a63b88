"""Radiographs: projection images, which have a grid on their detector and no plane in the patient (PS3.3 C.8.11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

from gateway.dicom.volume_grid import Grid
from gateway.dicom.volume_values import numbers_of, text_of, texts_of
from gateway.errors import UnsuitableSeries

_RADIOGRAPHS = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
_VIEWS = {"LL": "lateral", "RL": "lateral", "LATERAL": "lateral", "AP": "frontal", "PA": "frontal"}  # View Position
_SLICE_MM = 1.0  # a projection has no thickness


def is_projection(ds: Dataset) -> bool:
    """Whether the image shows sums through the body, with no plane to lie in."""
    return text_of(ds, "SOPClassUID") in _RADIOGRAPHS


def detector_grid(frames: Sequence[Dataset]) -> Grid:
    """One slice on the pixels of the detector, around an origin and along axes of its own: not the patient's.

    Raises UnsuitableSeries: no-geometry for several images, or without a positive Imager Pixel Spacing.
    """
    if len(frames) > 1:
        found = f"{len(frames)} projection images in one series"
        raise UnsuitableSeries("no-geometry", found, "one", "send each view as a series of its own")
    spacing = numbers_of(frames[0], "ImagerPixelSpacing", "PixelSpacing")
    if len(spacing) != 2 or min(spacing) <= 0:
        raise UnsuitableSeries("no-geometry", "no usable ImagerPixelSpacing", "two positive numbers")
    return Grid((0,), (_SLICE_MM, spacing[0], spacing[1]), (0.0, 0.0, 0.0), np.eye(3))


def view_of(ds: Dataset) -> str:
    """lateral or frontal, by View Position and Patient Orientation; "projection" when they do not say or disagree."""
    letters = {value[:1] for value in texts_of(ds, "PatientOrientation")}
    upright = bool(letters & {"H", "F"}) and len(letters) == 2
    oriented = "lateral" if upright and letters & {"A", "P"} else "frontal" if upright and letters & {"L", "R"} else ""
    said = {view for view in (_VIEWS.get(text_of(ds, "ViewPosition"), ""), oriented) if view}
    return said.pop() if len(said) == 1 else "projection"

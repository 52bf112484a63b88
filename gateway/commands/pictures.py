"""Pictures of series for people: a source slice beside its synthetic slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

_HEIGHT = 512
_MARGIN = 12
_CAPTION = 34


def side_by_side(sources: Sequence[Path], derived: Sequence[Path], picture: Path) -> Path | None:
    """Write the middle source slice beside the derived slice that names it as its source; None when there is none."""
    by_source = {str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID): ds for ds in map(pydicom.dcmread, derived)}
    slices = sorted(map(pydicom.dcmread, sources), key=lambda ds: int(ds.InstanceNumber))
    source = slices[len(slices) // 2]
    result = by_source.get(str(source.SOPInstanceUID))
    if result is None:
        return None
    left, right = _panel(source), _panel(result)
    canvas = Image.new("RGB", (left.width + right.width + 3 * _MARGIN, _HEIGHT + _CAPTION + 2 * _MARGIN), "#101418")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(16)
    for panel, ds, x in ((left, source, _MARGIN), (right, result, left.width + 2 * _MARGIN)):
        draw.text((x, _MARGIN), str(ds.SeriesDescription), fill="#e8eaed", font=font)
        canvas.paste(panel, (x, _MARGIN + _CAPTION))
    canvas.save(picture)
    return picture


def _panel(ds: Dataset) -> Image.Image:
    """One slice in its own window, square pixels, `_HEIGHT` high."""
    windowed = _windowed(ds)
    rows, columns = windowed.shape
    row_mm, column_mm = (float(value) for value in ds.PixelSpacing)
    width = round(_HEIGHT * (columns * column_mm) / (rows * row_mm))
    return Image.fromarray(windowed).resize((width, _HEIGHT), Image.Resampling.BICUBIC)


def _windowed(ds: Dataset) -> NDArray[np.uint8]:
    values = ds.pixel_array.astype(np.float64) * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    center, width = float(np.ravel(ds.WindowCenter)[0]), float(np.ravel(ds.WindowWidth)[0])
    # PS3.3 C.11.2.1.2.1
    scaled = (values - (center - 0.5)) / max(width - 1, 1) + 0.5
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)

"""The burned-in label: the one mark that no viewer, export or screenshot loses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_TEXTS = ("SYNTHETIC", "SYNTH", "AI")  # the longest that leaves half the width of the image
_MARGIN = 3
_ONE_STEP = 256  # letters grow by their own size with each 256 rows or columns


def burn_label(stored: NDArray[np.integer[Any]], value: int) -> bool:
    """Write the label with `value` into the (slices, rows, columns) `stored`; False when the image has no room.

    It stands in the corner with the least signal over all slices, in the same place in each: there it hides
    air rather than anatomy. Only the strokes of the letters are changed, and a pixel around them, which is
    darkened so that the label can be read on bright anatomy too.
    """
    _, rows, columns = stored.shape
    strokes = _strokes(rows, columns)
    if strokes is None:
        return False
    outline = _grown(strokes) & ~strokes
    height, width = strokes.shape
    tops, lefts = (_MARGIN, rows - _MARGIN - height), (_MARGIN, columns - _MARGIN - width)
    boxes = [stored[:, top : top + height, left : left + width] for top in tops for left in lefts]
    emptiest = min(boxes, key=lambda box: float(box.mean()))
    emptiest[:, outline] = stored.min()
    emptiest[:, strokes] = value
    return True


def _strokes(rows: int, columns: int) -> NDArray[np.bool_] | None:
    """The pixels of the label's letters as a mask, None when no text fits into an image of this size."""
    scale = max(1, round(min(rows, columns) / _ONE_STEP))
    for text in _TEXTS:
        mask = np.kron(_bitmap(text), np.ones((scale, scale), bool))
        mask = np.pad(mask, 1)
        if 2 * mask.shape[1] <= columns - 2 * _MARGIN and 2 * mask.shape[0] <= rows - 2 * _MARGIN:
            return mask
    return None


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and every pixel next to it; the outermost pixels of `mask` are empty."""
    grown = np.zeros_like(mask)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            grown |= np.roll(mask, (down, right), (0, 1))
    return grown


def _bitmap(text: str) -> NDArray[np.bool_]:
    """`text` in Pillow's bitmap font, without the empty rows and columns around it."""
    font = ImageFont.load_default_imagefont()
    _, _, width, height = font.getbbox(text)
    image = Image.new("1", (int(width), int(height)))
    ImageDraw.Draw(image).text((0, 0), text, fill=1, font=font)
    mask = np.asarray(image, bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

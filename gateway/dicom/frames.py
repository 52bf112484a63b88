"""Single frames for a person to look at: stored values, what they stand for, and how the file asks to be shown.

Pixels are read in a process apart, compressed or not: the web process never holds more than one frame of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from threading import Lock, Timer

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.marks import caution_of
from gateway.dicom.pixels import stored_frame
from gateway.dicom.volume_frames import FrameHeader, read_frame_headers
from gateway.dicom.volume_values import items_of, numbers_of, positive_of, text_of, texts_of
from gateway.errors import Unavailable, UnsuitableSeries

_LARGEST_PIXELS = 2**26  # 128 MiB of 16 bits: more than any detector has
_WAIT_S = 30.0  # for those who asked before
_PLANE = ("ImagePositionPatient", "ImageOrientationPatient")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame: value = slope * stored + intercept; in MONOCHROME1 low values are shown bright (PS3.3 C.7.6.3.1.2)."""

    stored: NDArray[np.integer]
    slope: float
    intercept: float
    photometric: str


@dataclass(frozen=True, slots=True)
class Window:
    """A window that a file names, in the unit of its values after the rescale (PS3.3 C.11.2)."""

    name: str
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is to be shown: unit ("HU" or ""), windows, height by width of a pixel, caution ("" for none)."""

    unit: str
    windows: tuple[Window, ...]
    pixel_aspect: float
    caution: str


class FrameReader:
    """Reads frames, one at a time, in a process that starts when it is needed and ends when nobody has asked for long.

    `limit_bytes` is what all voxels of one file may take as float32; after `idle_s` the process ends, with the image
    that it holds.
    """

    def __init__(self, limit_bytes: int, *, idle_s: float = 30.0) -> None:
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self._decoder = DecoderProcess()
        self._lock = Lock()
        self._rest = Timer(0, self.close)

    def read(self, path: Path, number: int) -> Frame:
        """Frame `number`, from 1, of the Part 10 file at `path`.

        Raises FileNotFoundError, NotDicom, UnsuitableSeries for what is no grey image of a size to be shown,
        Unavailable when others keep the decoder busy.
        """
        ds = self.header(path, number).ds
        if ds.Rows * ds.Columns > _LARGEST_PIXELS:
            raise UnsuitableSeries("too-large", f"{ds.Rows} x {ds.Columns} pixels", f"at most {_LARGEST_PIXELS}")
        with self._busy():
            stored = stored_frame(path, number - 1, self._decoder)
        if stored.shape != (ds.Rows, ds.Columns):
            raise UnsuitableSeries("undecodable", f"a frame of {stored.shape}", f"{ds.Rows} x {ds.Columns}")
        slope, intercept = (numbers_of(ds, keyword)[:1] for keyword in ("RescaleSlope", "RescaleIntercept"))
        return Frame(
            stored.astype(stored.dtype.newbyteorder("<"), copy=False),
            slope[0] if slope else 1.0,
            intercept[0] if intercept else 0.0,
            str(ds.PhotometricInterpretation),
        )

    def header(self, path: Path, number: int = 1) -> FrameHeader:
        """The header of one frame; raises as `read` does."""
        headers = read_frame_headers([path], self._limit_bytes)
        if not 1 <= number <= len(headers):
            raise UnsuitableSeries("frame", f"number {number}", f"1 to {len(headers)}, which the instance has")
        return headers[number - 1]

    def close(self) -> None:
        """End the decoder's process; the next frame starts another."""
        with self._lock:
            self._decoder.close()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_WAIT_S):
            raise Unavailable(f"decoder: busy with frames that others asked for, for {_WAIT_S:.0f} s")
        try:
            self._rest.cancel()
            yield
        finally:
            self._rest = Timer(self._idle_s, self.close)
            self._rest.daemon = True
            self._rest.start()
            self._lock.release()


def look_of(header: FrameHeader) -> Look:
    """How the series of this frame is to be shown."""
    ds = header.ds
    is_hu = text_of(ds, "RescaleType") == "HU" or (
        text_of(ds, "Modality") == "CT" and not text_of(ds, "RescaleType") and bool(numbers_of(ds, "RescaleSlope"))
    )
    spacing = numbers_of(ds, "PixelSpacing")
    return Look(
        unit="HU" if is_hu else "",
        windows=tuple(_windows(ds)),
        pixel_aspect=spacing[0] / spacing[1] if len(spacing) == 2 and min(spacing) > 0 else 1.0,
        caution=caution_of(ds),
    )


def source_of(header: FrameHeader) -> tuple[str, int] | None:
    """SOP Instance UID and frame, from 1, of the image that a derived one names as its source."""
    for item in items_of(header.ds, "SourceImageSequence"):
        return text_of(item, "ReferencedSOPInstanceUID"), int(positive_of(item, "ReferencedFrameNumber") or 1)
    return None


def position_of(header: FrameHeader) -> float | None:
    """Where the frame lies along its normal, in mm; None without a plane (PS3.3 C.7.6.2.1.1)."""
    position, cosines = (numbers_of(header.ds, keyword) for keyword in _PLANE)
    if len(position) != 3 or len(cosines) != 6:
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    length = float(np.linalg.norm(normal))
    return None if length < 1e-6 else float(normal @ np.array(position)) / length


def _windows(ds: Dataset) -> Iterator[Window]:
    centers, widths = numbers_of(ds, "WindowCenter"), numbers_of(ds, "WindowWidth")
    names = texts_of(ds, "WindowCenterWidthExplanation")
    for place, (center, width, name) in enumerate(zip_longest(centers, widths, names[: len(centers)]), 1):
        if center is not None and width is not None and width >= 1:
            yield Window(name or f"header {place}", center, width)

"""The grey values of one stored instance, decoded after checks that stop what would cost too much."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import unpack_from

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.volume_values import DAMAGED
from gateway.errors import UnsuitableSeries

# One decoder for each syntax, named: pydicom would try gdcm first, which ends its process on damaged codestreams. JPEG
# Lossless has no other.
_DECODERS = dict.fromkeys(JPEGTransferSyntaxes, "gdcm") | {JPEGBaseline8Bit: "pillow"}
_DECODERS |= dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg") | dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls")
# start of frame: all markers FFC0-FFCF but DHT, JPG and DAC (ISO 10918-1 B.1.1.3), and that of JPEG-LS (ISO 14495-1)
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_LONGEST_REASON = 200
_QUOTED = re.compile(r"""(?<![A-Za-z])'[^']*'?|"[^"]*"?""")


def require_grey(ds: Dataset) -> None:
    """Raise UnsuitableSeries unless the headers describe integer grey values that PS3.3 C.7.6.3 allows."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        if not isinstance(ds.get(keyword), int):
            raise UnsuitableSeries("no-pixel-data", f"no {keyword}", "the Image Pixel module (PS3.3 C.7.6.3)")
    photometric = ds.get("PhotometricInterpretation", "")
    if ds.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        found = photometric or "no Photometric Interpretation"
        raise UnsuitableSeries("colour", found, "MONOCHROME1 or MONOCHROME2")
    allocated, stored, high = ds.BitsAllocated, ds.BitsStored, ds.HighBit
    whole = allocated in (8, 16, 32) and 1 <= stored <= allocated and high == stored - 1
    if not whole or ds.PixelRepresentation not in (0, 1):
        raise UnsuitableSeries(
            "pixel-format",
            f"{stored} bits stored of {allocated}, high bit {high}, representation {ds.PixelRepresentation}",
            "1 to 8, 16 or 32 bits stored, high bit one less (PS3.5 8.1.1)",
        )
    if min(ds.Rows, ds.Columns) < 1:
        raise UnsuitableSeries("pixel-format", f"{ds.Rows} x {ds.Columns} pixels", "at least one")


def stored_frames(path: Path, number_of_frames: int, apart: DecoderProcess) -> Iterator[NDArray[np.int64]]:
    """The stored values (rows, columns) of each frame of the Part 10 file at `path`, decoded one at a time.

    Raises UnsuitableSeries ``no-pixel-data``, or ``undecodable`` with the decoder's words.
    """
    with path.open("rb") as file, _decoders_words():
        ds = pydicom.dcmread(file)
        if "PixelData" not in ds:
            raise UnsuitableSeries("no-pixel-data", "no Pixel Data", "an image in every instance")
        _require_honest_codestreams(ds, number_of_frames)
    syntax: UID = ds.file_meta.TransferSyntaxUID
    for index in range(number_of_frames):
        with _decoders_words():
            if syntax.is_encapsulated:
                frame = apart.frame(path, index, _DECODERS.get(syntax, ""))
            else:
                # not iter_pixels: in pydicom 3.0.2 it fails where a codestream's sign differs from the header's
                frame = pixel_array(ds, index=index, raw=True)
        yield frame.astype(np.int64)


def stored_frame(path: Path, index: int, apart: DecoderProcess) -> NDArray[np.integer]:
    """The stored values (rows, columns) of frame `index`, from 0, as they are in the file: all of it is read `apart`.

    Raises UnsuitableSeries ``undecodable`` with the decoder's words.
    """
    with _decoders_words():
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", "")
        return apart.frame(path, index, _DECODERS.get(syntax, ""))


@contextmanager
def _decoders_words() -> Iterator[None]:
    """Turn what pydicom and its decoders raise for damaged pixel data into UnsuitableSeries."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # paddings and unused bits that pydicom has dealt with
            yield
    except DAMAGED as error:
        # a decoder may quote a value, and the value may be anything, a patient's name too
        words = _QUOTED.sub("...", " ".join(str(error).split()))
        reason = words[:_LONGEST_REASON] or type(error).__name__
        advice = "the instance is damaged or its encoding is unknown"
        raise UnsuitableSeries("undecodable", reason, "pixel data of its transfer syntax", advice) from error


def _require_honest_codestreams(ds: Dataset, number_of_frames: int) -> None:
    """Raise UnsuitableSeries when a codestream announces another shape than the header: decoders believe it."""
    syntax: UID = ds.file_meta.TransferSyntaxUID
    if syntax not in _DECODERS:
        if syntax.is_encapsulated and syntax != RLELossless:
            raise UnsuitableSeries("undecodable", f"transfer syntax {syntax.name}", "one of still images")
        return
    for codestream in generate_frames(ds.PixelData, number_of_frames=number_of_frames):
        found = jpeg_2000_shape(codestream) if syntax in JPEG2000TransferSyntaxes else jpeg_shape(codestream)
        if found != (ds.Rows, ds.Columns, 1):
            said = "a codestream of {} x {} x {}".format(*found) if found else "no codestream of this syntax"
            raise UnsuitableSeries("undecodable", said, f"{ds.Rows} x {ds.Columns} x 1 as the header says")


def jpeg_shape(codestream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) that a JPEG or JPEG-LS codestream announces, None when it is none."""
    if not codestream.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 10 <= len(codestream) and codestream[position] == 0xFF:
        marker = codestream[position + 1]
        if marker == 0xFF:  # fill
            position += 1
            continue
        if marker in _START_OF_FRAME:
            rows, columns, components = unpack_from(">HHB", codestream, position + 5)
            return rows, columns, components
        position += 2 + unpack_from(">H", codestream, position + 2)[0]
    return None


def jpeg_2000_shape(codestream: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) in the SIZ marker of a JPEG 2000 codestream (ISO 15444-1 A.5.1), None without one."""
    if not codestream.startswith(b"\xff\x4f\xff\x51") or len(codestream) < 42:
        return None
    columns, rows, left, top = unpack_from(">4I", codestream, 8)
    (components,) = unpack_from(">H", codestream, 40)
    return rows - top, columns - left, components

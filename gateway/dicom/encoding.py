"""Voxels as stored values, and a data set as the bytes of a file."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import format_number_as_ds

from gateway.dicom.volume_source import SourceSeries
from gateway.domain.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.errors import ConfigurationError, UnsuitableSeries
from pipelines.volume import Volume, Voxels

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
)
StoredVoxels = NDArray[np.integer[Any]]
_OPENJPEG_GREY = 2
_MR_HIGHEST = 4095  # 12 bits, which every display takes


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a destination wants its results. Raises ConfigurationError for what cannot be written.

    iod       "secondary-capture", or "source": MR or CT Image Storage with all marks (other modalities stay SC)
    modality  "source" for the modality of the result, or "OT"; MR and CT Image Storage leave no choice
    """

    iod: Literal["secondary-capture", "source"] = "secondary-capture"
    transfer_syntax_uid: str = ExplicitVRLittleEndian
    modality: Literal["source", "OT"] = "source"
    label: bool = True
    series_prefix: str = "SYNTH-AI"
    content_qualification: Literal["RESEARCH", "PRODUCT", "SERVICE"] = "RESEARCH"

    def __post_init__(self) -> None:
        if self.transfer_syntax_uid not in TRANSFER_SYNTAXES:
            known = ", ".join(f"{uid} ({uid.name})" for uid in TRANSFER_SYNTAXES)
            raise ConfigurationError(f"transfer syntax: found {self.transfer_syntax_uid}, expected one of {known}")
        if self.iod == "source" and self.modality == "OT":
            raise ConfigurationError(
                "modality: found OT with iod 'source', expected 'source'; MR and CT Image Storage fix the modality"
            )
        if not self.series_prefix.strip() or not self.series_prefix.isascii() or "\\" in self.series_prefix:
            raise ConfigurationError(f"series_prefix: found {self.series_prefix!r}, expected ASCII without a backslash")


@dataclass(frozen=True, slots=True)
class StoredForm:
    """The integers that stand for a result's values: value = slope * stored + intercept.

    rescale_type "HU" goes into the file with slope and intercept; "" means that stored values are arbitrary.
    """

    slope: float
    intercept: float
    rescale_type: str
    bits_stored: int
    signed: bool

    @property
    def lowest(self) -> int:
        """The lowest value that can be stored."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The highest value that can be stored."""
        return (1 << (self.bits_stored - int(self.signed))) - 1

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """The type of a stored value, little endian."""
        return np.dtype("<i2" if self.signed else "<u2")

    def stored(self, values: Voxels) -> tuple[StoredVoxels, int]:
        """`values` as integers, rounded half to even, and how many had to be clipped to what can be stored."""
        scaled = self._scaled(values)
        clipped = int(np.count_nonzero((scaled < self.lowest) | (scaled > self.highest)))
        return np.clip(scaled, self.lowest, self.highest).astype(self.dtype), clipped

    def shown_as(self, value: float) -> int:
        """The stored integer that a viewer shows as `value`: after the rescale, where the file has one."""
        stored = self._scaled(value) if self.rescale_type else value
        return int(np.clip(stored, self.lowest, self.highest))

    def _scaled(self, values: Voxels | float) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = np.rint((np.asarray(values, np.float64) - self.intercept) / self.slope)
        return scaled


def stored_form(result: Volume, source: SourceSeries, value_range: tuple[float, float]) -> StoredForm:
    """How to store `result`: HU as the source stores them, arbitrary signal in 12 bits over `value_range`.

    One form for the whole series, and for every series of one model: equal stored values mean equal results.
    Raises UnsuitableSeries for a unit that has no stored form.
    """
    if result.unit == "1":
        low, high = value_range
        return StoredForm((high - low) / _MR_HIGHEST, low, "", 12, signed=False)
    if result.unit != "HU":
        raise UnsuitableSeries("unit", f"a result in {result.unit!r}", "HU or 1", "choose another pipeline")
    stored = source.stored
    if source.volume.unit == "HU" and stored.uniform_rescale and stored.bits_allocated == 16:
        return StoredForm(stored.slope, stored.intercept, "HU", stored.bits_stored, stored.signed)
    return StoredForm(1.0, 0.0, "HU", 16, signed=True)


def describe_pixels(ds: Dataset, form: StoredForm, rows: int, columns: int) -> None:
    """Write the Image Pixel module without the pixels, and the Modality LUT module when values have a unit."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = 16
    ds.BitsStored = form.bits_stored
    ds.HighBit = form.bits_stored - 1
    ds.PixelRepresentation = int(form.signed)
    ds.PresentationLUTShape = "IDENTITY"
    if form.rescale_type:
        ds.RescaleIntercept, ds.RescaleSlope = decimal(form.intercept), decimal(form.slope)
        ds.RescaleType = form.rescale_type


def decimal(number: float) -> str:
    """A DS without the noise of floating point: no -0, at most nine decimals, at most 16 characters."""
    return str(format_number_as_ds(round(float(number), 9) + 0.0))


def part10(ds: Dataset, pixels: StoredVoxels, transfer_syntax_uid: str) -> bytes:
    """The file (PS3.10 7.1) of `ds` with `pixels` (rows, columns), compressed where the transfer syntax says so."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    if transfer_syntax_uid == JPEG2000Lossless:
        # called directly: pydicom's plugin for the same encoder wants one more package around it
        codestream = encode_array(pixels, bits_stored=ds.BitsStored, photometric_interpretation=_OPENJPEG_GREY)
        ds.add_new("PixelData", "OB", encapsulate([codestream]))
    elif ds.file_meta.TransferSyntaxUID.is_compressed:
        ds.compress(UID(transfer_syntax_uid), pixels, generate_instance_uid=False)
    else:
        ds.add_new("PixelData", "OW", pixels.tobytes())
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()

"""Series as scanners write them, single-frame and enhanced multi-frame, with known stored values in every voxel."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

Stored = NDArray[np.int64]  # (slices, rows, columns)
Edit = Callable[[int, Dataset], None]  # slice index and its data set, before it is written

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
NORMAL = np.cross(SAGITTAL[:3], SAGITTAL[3:])
_DCMCJPEG = {JPEGLossless: "--encode-lossless", JPEGLosslessSV1: "--encode-lossless-sv1"}


@dataclass(frozen=True)
class Form:
    """How voxels are stored."""

    bits_allocated: int = 16
    bits_stored: int = 12
    signed: bool = False
    photometric: str = "MONOCHROME2"
    slope: str | None = None
    intercept: str | None = None
    syntax: UID = ExplicitVRLittleEndian

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest value that can be stored."""
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)


def ramp(slices: int = 4, rows: int = 8, columns: int = 10) -> Stored:
    """A different value in every voxel."""
    return np.arange(slices * rows * columns, dtype=np.int64).reshape(slices, rows, columns)


def position(index: int, step_mm: float = 4.0) -> list[float]:
    """Image Position (Patient) of slice `index` of a sagittal stack."""
    return [float(value) for value in np.array([-8.0, -60.0, 90.0]) + index * step_mm * NORMAL]


def write_series(folder: Path, stored: Stored, form: Form | None = None, edit: Edit | None = None) -> list[Path]:
    """One MR Image Storage file for each slice; Instance Numbers run against the normal, names tell nothing."""
    form = form or Form()
    paths = []
    for index, pixels in enumerate(stored):
        ds = _image(form, pixels[None], MRImageStorage, folder.name)
        ds.InstanceNumber = len(stored) - index
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "SE", "SK", ""
        ds.RepetitionTime, ds.EchoTime = "3500", "100"
        ds.ImagePositionPatient, ds.ImageOrientationPatient = position(index), list(SAGITTAL)
        ds.PixelSpacing, ds.SliceThickness = [0.75, 0.8], "3.6"
        if form.slope is not None:
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = form.slope, form.intercept, "US"
        if edit is not None:
            edit(index, ds)
        path = folder / f"{(7 * index) % 11:02d}-{index}.dcm"
        _save(ds, path, form.syntax)
        paths.append(path)
    return paths


def write_enhanced(folder: Path, stored: Stored, form: Form | None = None, edit: Edit | None = None) -> Path:
    """One Enhanced MR Image Storage file; frames run against the normal. `edit` sees the data set with index -1, then
    each frame's functional groups with the slice index.
    """
    form = form or Form()
    order = list(reversed(range(len(stored))))
    ds = _image(form, stored[order], EnhancedMRImageStorage, folder.name)
    ds.NumberOfFrames, ds.InstanceNumber = len(stored), 1
    ds.SharedFunctionalGroupsSequence = [_shared_groups(form)]
    groups = []
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=position(index))]
        frame.MREchoSequence = [_item(EffectiveEchoTime=100.0)]
        frame.FrameContentSequence = [_item(StackID="1", InStackPositionNumber=index + 1)]
        if edit is not None:
            edit(index, frame)
        groups.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.EchoPulseSequence, ds.InversionRecovery, ds.EchoPlanarPulseSequence = "SPIN", "NO", "NO"
    if edit is not None:
        edit(-1, ds)
    path = folder / "enhanced.dcm"
    _save(ds, path, form.syntax)
    return path


def _shared_groups(form: Form) -> Dataset:
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(SAGITTAL))]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[0.75, 0.8], SliceThickness="3.6")]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime="3500")]
    shared.MRModifierSequence = [_item(SpectrallySelectedSuppression="NONE")]
    if form.slope is not None:
        transformation = _item(RescaleSlope=form.slope, RescaleIntercept=form.intercept, RescaleType="US")
        shared.PixelValueTransformationSequence = [transformation]
    return shared


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _image(form: Form, frames: Stored, sop_class: UID, seed: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", seed])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", seed])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", seed])
    ds.Modality, ds.ImageType, ds.PatientAge = "MR", ["ORIGINAL", "PRIMARY", "M", "SE"], "045Y"
    ds.BodyPartExamined, ds.SeriesDescription = "LSPINE", "T2 TSE SAG"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, form.photometric
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = form.bits_allocated, form.bits_stored, form.bits_stored - 1
    ds.PixelRepresentation = int(form.signed)
    order = ">" if form.syntax == ExplicitVRBigEndian else "<"
    kind = f"{order}{'i' if form.signed else 'u'}{form.bits_allocated // 8}"
    data = frames.astype(kind).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if form.bits_allocated > 8 else "OB"
    return ds


def _save(ds: Dataset, path: Path, syntax: UID) -> None:
    if syntax in (RLELossless, JPEGLSLossless):
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax == JPEG2000Lossless:
        kind = f"{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}"
        frames = np.frombuffer(ds.PixelData, kind).reshape(-1, ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([encode_array(each, bits_stored=ds.BitsStored, use_mct=False) for each in frames])
        ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in _DCMCJPEG else syntax
    ds.save_as(path, enforce_file_format=True)
    if syntax in _DCMCJPEG:
        subprocess.run(["dcmcjpeg", "--uid-never", _DCMCJPEG[syntax], path, path], check=True, capture_output=True)

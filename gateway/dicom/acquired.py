"""Acquired series for test systems: a phantom's volume written as a scanner would have sent it.

A demonstration needs a series that the gateway takes for acquired, so what is written here does not say
Synthetic Data YES: the loop guard would refuse it, and rightly. Nothing else pretends. The patient is named
PHANTOM, the Patient ID starts with ATHANOR-PHANTOM-; manufacturer, study and image comments say what it is.
Keep such series on test systems.

The UIDs never lie below a registered root of the gateway, where they would count as its own results.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from gateway.dicom.encoding import StoredVoxels, decimal
from gateway.domain.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derived_uid
from pipelines.volume import Volume

_BITS_STORED = 12
_BRIGHTEST = 3500  # of 4095: a scanner leaves room above the brightest tissue
STARTED = datetime(2025, 3, 1, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the series was acquired; by default a T2-weighted turbo spin echo of the lumbar spine at 1.5 T.

    slice_thickness_mm None means nine tenths of the distance between slices, which leaves a gap of one tenth.
    """

    series_description: str = "T2 TSE SAG"
    series_number: int = 4
    repetition_time_ms: float = 3500.0
    echo_time_ms: float = 100.0
    inversion_time_ms: float | None = None
    echo_train_length: int = 16
    flip_angle_deg: float = 150.0
    field_strength_t: float = 1.5
    scanning_sequence: tuple[str, ...] = ("SE",)
    sequence_variant: tuple[str, ...] = ("SK",)
    scan_options: tuple[str, ...] = ()
    body_part: str = "LSPINE"
    patient_position: str = "HFS"
    slice_thickness_mm: float | None = None


@dataclass(frozen=True, slots=True)
class PhantomPatient:
    """What a phantom answers when asked who it is; the rest follows from the seed."""

    age_years: int = 45
    sex: str = "O"
    weight_kg: float = 75.0


def write_mr_series(
    volume: Volume,
    folder: Path,
    *,
    seed: int,
    acquisition: Acquisition | None = None,
    patient: PhantomPatient | None = None,
    started: datetime = STARTED,
) -> list[Path]:
    """The files of an MR Image Storage series (PS3.3 A.4), one a slice, in the order of the volume.

    The brightest voxel is stored as 3500 of 12 bits, the others in proportion, those below zero as 0.
    Series of one `seed` share patient, study and frame of reference; equal arguments give equal files.
    Raises ValueError when the volume has no positive voxel.
    """
    acquisition = acquisition or Acquisition()
    stored = _stored(volume.voxels)
    series = _series(volume, stored, seed, acquisition, patient or PhantomPatient(), started)
    return write_slices(series, volume, stored, folder, started)


def _stored(voxels: NDArray[np.float32]) -> NDArray[np.uint16]:
    brightest = float(voxels.max())
    if not brightest > 0:
        raise ValueError(f"voxels: found a maximum of {brightest}, expected a signal above zero")
    stored: NDArray[np.uint16] = np.clip(np.rint(voxels * (_BRIGHTEST / brightest)), 0, _BRIGHTEST).astype("<u2")
    return stored


def _series(
    volume: Volume,
    stored: NDArray[np.uint16],
    seed: int,
    acquisition: Acquisition,
    patient: PhantomPatient,
    started: datetime,
) -> Dataset:
    """What all instances of the series have in common."""
    ds = phantom_series(seed, "MR", acquisition.series_number, acquisition.series_description, patient, started)
    _describe_equipment(ds, acquisition)
    _describe_sequence(ds, volume, acquisition)
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NORM"]
    ds.BodyPartExamined = acquisition.body_part
    ds.PatientPosition = acquisition.patient_position
    describe_planes(ds, volume, seed)
    ds.SpacingBetweenSlices = decimal(volume.spacing_mm[0])
    ds.ImagesInAcquisition = volume.shape[0]
    describe_grey(ds, stored, _BITS_STORED)
    return ds


def phantom_series(
    seed: int,
    modality: str,
    number: int,
    description: str,
    patient: PhantomPatient | None = None,
    started: datetime = STARTED,
) -> Dataset:
    """Patient, study and series of virtual patient `seed`; each modality has a study of its own."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    _describe_patient_and_study(ds, seed, modality, patient or PhantomPatient(), started)
    ds.Modality = modality
    ds.SeriesInstanceUID = _uid(seed, "series", number, description)
    ds.SeriesNumber = number
    ds.SeriesDescription = description
    ds.SeriesDate, ds.SeriesTime = _date(started), _time(started)
    ds.Manufacturer = "Athanor phantom"
    ds.StationName = "PHANTOM"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = IMPLEMENTATION_VERSION_NAME
    ds.ImageComments = "Computer phantom for test systems, not a patient"
    return ds


def describe_planes(ds: Dataset, volume: Volume, seed: int) -> None:
    """Write what Frame of Reference and Image Plane modules say of every slice of `volume`."""
    study = () if ds.Modality == "MR" else (ds.Modality,)  # positions in two machines have nothing in common
    ds.FrameOfReferenceUID = _uid(seed, "frame of reference", *study)
    ds.PositionReferenceIndicator = ""
    ds.PixelSpacing = [decimal(volume.spacing_mm[1]), decimal(volume.spacing_mm[2])]
    ds.ImageOrientationPatient = [decimal(cosine) for axis in (2, 1) for cosine in volume.direction[:, axis]]


def write_slices(
    series: Dataset, volume: Volume, stored: StoredVoxels, folder: Path, started: datetime = STARTED
) -> list[Path]:
    """The files of `series`, one for each slice of `stored`, with the planes of `volume`."""
    paths = []
    for index, pixels in enumerate(stored):
        ds = Dataset()
        ds.update(series)
        position = volume.position_mm(index)
        ds.ImagePositionPatient = [decimal(coordinate) for coordinate in position]
        ds.SliceLocation = decimal(float(np.dot(position, volume.direction[:, 0])))
        paths.append(write_instance(ds, pixels, index, folder, started))
    return paths


def write_instance(ds: Dataset, pixels: StoredVoxels, index: int, folder: Path, started: datetime = STARTED) -> Path:
    """The file of instance `index` of a series, whose attributes `ds` holds; gives it its identity and its times."""
    acquired = started + timedelta(seconds=index)
    ds.SOPInstanceUID = UID(derived_uid("", ds.SeriesInstanceUID, str(index + 1)))
    ds.InstanceNumber = index + 1
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate = ds.ContentDate = _date(acquired)
    ds.AcquisitionTime = ds.ContentTime = _time(acquired)
    ds.PixelData = pixels.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{index + 1:04d}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def _describe_patient_and_study(
    ds: Dataset, seed: int, modality: str, patient: PhantomPatient, started: datetime
) -> None:
    ds.PatientName = f"PHANTOM^ATHANOR {seed}"
    ds.PatientID = f"ATHANOR-PHANTOM-{seed}"
    ds.PatientBirthDate = f"{started.year - patient.age_years:04d}0101"
    ds.PatientSex = patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.PatientWeight = decimal(patient.weight_kg)
    ds.StudyInstanceUID = _uid(seed, "study", *(() if modality == "MR" else (modality,)))
    ds.StudyDate, ds.StudyTime = _date(started), _time(started)
    ds.TimezoneOffsetFromUTC = f"{started:%z}"
    ds.StudyID = str(seed)[:16]
    ds.AccessionNumber = f"PH{'' if modality == 'MR' else modality}{seed}"[:16]
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "PHANTOM spine, test system"


def _describe_equipment(ds: Dataset, acquisition: Acquisition) -> None:
    ds.ManufacturerModelName = "Spin echo simulator"
    ds.MagneticFieldStrength = decimal(acquisition.field_strength_t)


def _describe_sequence(ds: Dataset, volume: Volume, acquisition: Acquisition) -> None:
    thickness = acquisition.slice_thickness_mm
    ds.ScanningSequence = list(acquisition.scanning_sequence)
    ds.SequenceVariant = list(acquisition.sequence_variant)
    ds.ScanOptions = list(acquisition.scan_options)
    ds.MRAcquisitionType = "2D"
    ds.SequenceName = f"tse2d1_{acquisition.echo_train_length}"
    ds.ProtocolName = acquisition.series_description
    ds.SliceThickness = decimal(volume.spacing_mm[0] * 0.9 if thickness is None else thickness)
    ds.RepetitionTime = decimal(acquisition.repetition_time_ms)
    ds.EchoTime = decimal(acquisition.echo_time_ms)
    if acquisition.inversion_time_ms is not None:
        ds.InversionTime = decimal(acquisition.inversion_time_ms)
    ds.EchoTrainLength = acquisition.echo_train_length
    ds.EchoNumbers = 1
    ds.NumberOfAverages = "1"
    ds.FlipAngle = decimal(acquisition.flip_angle_deg)
    ds.ImagedNucleus = "1H"
    ds.ImagingFrequency = decimal(42.577 * acquisition.field_strength_t)


def describe_grey(ds: Dataset, stored: StoredVoxels, bits_stored: int) -> None:
    """Write the Image Pixel module of `stored` (slices, rows, columns) without the pixels, and a window over it."""
    darkest, brightest = np.percentile(stored, [2, 99.5])
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape[1:]
    ds.BitsAllocated = 16
    ds.BitsStored = bits_stored
    ds.HighBit = bits_stored - 1
    ds.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    ds.WindowCenter = str(round((brightest + darkest) / 2))
    ds.WindowWidth = str(max(1, round(brightest - darkest)))


def _uid(seed: int, *parts: str | int) -> str:
    return derived_uid("", "phantom", str(seed), *map(str, parts))


def _date(moment: datetime) -> str:
    return f"{moment:%Y%m%d}"


def _time(moment: datetime) -> str:
    return f"{moment:%H%M%S}"

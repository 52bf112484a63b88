"""What several tests do with files: write them, read them, and ask validators as their users do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage

from gateway.dicom.secondary_capture import DerivedInstance
from gateway.dicom.volume import SourceSeries, read_series

CREATED = datetime(2026, 4, 5, 6, 7, 8, tzinfo=UTC)
Derive = Callable[..., list[DerivedInstance]]


def as_ct(path: Path, written: Path) -> Path:
    """A CT instance written from an MR instance; its values run from -1024 to some 2500 HU."""
    ds = pydicom.dcmread(path)
    for keyword in [element.keyword for element in ds.group_dataset(0x0018) if element.keyword != "SliceThickness"]:
        del ds[keyword]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.Modality, ds.ImageType, ds.KVP, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "120", "HFS"
    ds.BodyPartExamined = "LSPINE"
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 13, 12, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "300", "1500"
    ds.save_as(written, enforce_file_format=True)
    return written


def written(instances: list[DerivedInstance], folder: Path) -> list[Path]:
    """The files of derived instances, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, instance in enumerate(instances):
        path = folder / f"{index:04d}.dcm"
        path.write_bytes(instance.part10)
        paths.append(path)
    return paths


def decoded(instance: DerivedInstance) -> Dataset:
    """The data set of a derived instance."""
    return pydicom.dcmread(BytesIO(instance.part10))


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A program that stands beside this Python or on the path."""
    beside = Path(sys.executable).parent / program
    command = [str(beside) if beside.exists() else program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def iod_complaints(path: Path, kind: str = "Error") -> set[str]:
    """The lines of dciodvfy that begin with `kind`."""
    found = run("dciodvfy", path)
    assert found.stderr.strip(), f"dciodvfy said nothing: {found}"
    return {line for line in found.stderr.splitlines() if line.startswith(kind)}


def source_of(sources: list[Dataset], folder: Path) -> tuple[SourceSeries, list[Path]]:
    """The series that `sources` are once they were written and read."""
    paths = [folder / f"source{index}.dcm" for index in range(len(sources))]
    for ds, path in zip(sources, paths, strict=True):
        ds.save_as(path, enforce_file_format=True)
    return read_series(paths), paths


def as_enhanced(paths: list[Path], written: Path) -> Path:
    """One Enhanced MR instance with the slices of a classic series as its frames (PS3.3 A.36.2)."""
    slices = [pydicom.dcmread(path) for path in paths]
    ds = deepcopy(slices[0])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        del ds[keyword]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    ds.NumberOfFrames = len(slices)
    shared, measures, orientation, echo = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    echo.EffectiveEchoTime = float(slices[0].EchoTime)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence, shared.MREchoSequence = (
        [measures],
        [orientation],
        [echo],
    )
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for one in slices:
        position, groups = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        groups.PlanePositionSequence = [position]
        ds.PerFrameFunctionalGroupsSequence.append(groups)
    ds.PixelData = b"".join(one.PixelData for one in slices)
    ds.save_as(written, enforce_file_format=True)
    return written

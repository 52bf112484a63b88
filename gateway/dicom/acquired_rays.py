"""Acquired CT series and radiographs for test systems: what `acquired` says of them holds here, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from gateway.dicom.acquired import describe_grey, describe_planes, phantom_series, write_instance, write_slices
from gateway.dicom.encoding import StoredVoxels, decimal
from gateway.dicom.marks import code
from pipelines.phantoms.radiograph import Radiograph
from pipelines.volume import Volume

_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_WINDOWS_HU = {"CHEST": (40.0, 400.0), "ABDOMEN": (40.0, 400.0), "PELVIS": (40.0, 400.0)}
_BONE_HU = (300.0, 1500.0)
_TUBE_KV, _RADIOGRAPH_KV = 120.0, 85.0
_FULL_DOSE_MAS = 200.0
_GREY_PER_LOGARITHM = 700.0  # stored values of a radiograph for each unit of its logarithm
_DARK = 200.0


def write_ct_series(
    volume: Volume,
    folder: Path,
    *,
    seed: int,
    description: str,
    number: int,
    body_part: str,
    thickness_mm: float,
    dose: float = 1.0,
) -> list[Path]:
    """The files of a CT Image Storage series (PS3.3 A.3), one a slice of `volume`, which holds HU.

    Axial slices are ORIGINAL; those of another plane say that they were reformatted. `dose` is the share of a
    routine scan. The frame of reference is that of the virtual patient `seed` in the CT.
    """
    stored: StoredVoxels = np.clip(np.rint(volume.voxels), _LOWEST_HU, _HIGHEST_HU).astype("<i2")
    ds = phantom_series(seed, "CT", number, description)
    ds.SOPClassUID = CTImageStorage
    axial = abs(float(volume.direction[2, 0])) > 0.9
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if axial else ["DERIVED", "SECONDARY", "REFORMATTED"]
    ds.ManufacturerModelName = "Parallel-beam simulator"
    ds.BodyPartExamined = body_part
    ds.PatientPosition = "HFS"
    describe_planes(ds, volume, seed)
    ds.SliceThickness = decimal(thickness_mm)
    ds.SpacingBetweenSlices = decimal(volume.spacing_mm[0])
    ds.KVP = decimal(_TUBE_KV)
    ds.Exposure = str(round(_FULL_DOSE_MAS * dose))
    ds.ConvolutionKernel = "STANDARD"
    describe_grey(ds, stored, 16)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = map(decimal, _WINDOWS_HU.get(body_part, _BONE_HU))
    return write_slices(ds, volume, stored, folder)


def write_radiograph(radiograph: Radiograph, folder: Path, *, seed: int) -> list[Path]:
    """The one file of a Digital X-Ray Image Storage - For Presentation series (PS3.3 A.26): a left lateral.

    It has a grid on its detector and no place in the patient: a View Position and a Patient Orientation are all that it
    knows of him.
    """
    grey = _DARK + _GREY_PER_LOGARITHM * (radiograph.pixels - float(radiograph.pixels.min()))
    stored: StoredVoxels = np.clip(np.rint(grey), 0, 4095).astype("<u2")
    ds = phantom_series(seed, "DX", 1, "LSPINE LAT STANDING")
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.ManufacturerModelName = "Parallel-beam simulator"
    ds.BodyPartExamined = "LSPINE"
    _describe_view(ds)
    _describe_detector(ds, radiograph)
    describe_grey(ds, stored[None], 12)
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "NO"
    return [write_instance(ds, stored, 0, folder)]


def _describe_view(ds: Dataset) -> None:
    """DX Anatomy Imaged, DX Positioning and Acquisition Context."""
    ds.PatientOrientation = ["P", "F"]
    ds.ImageLaterality = "U"  # unpaired
    ds.AnatomicRegionSequence = [code("122496007", "SCT", "Lumbar spine")]
    ds.ViewPosition = "LL"
    ds.PositionerType = "COLUMN"
    view = code("399173006", "SCT", "left lateral")
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.AcquisitionContextSequence = []


def _describe_detector(ds: Dataset, radiograph: Radiograph) -> None:
    """DX Detector and the exposure."""
    ds.DetectorType = "DIRECT"
    ds.ImagerPixelSpacing = [decimal(radiograph.spacing_mm)] * 2
    ds.EstimatedRadiographicMagnificationFactor = decimal(radiograph.magnification)
    ds.KVP = decimal(_RADIOGRAPH_KV)
    ds.AcquisitionDeviceProcessingDescription = "logarithm, flattened"

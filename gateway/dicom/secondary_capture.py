"""Derived series: the one place where synthetic objects are made, and it cannot make one without its marks.

A result becomes one Secondary Capture Image per slice, with its plane and the source's frame of reference (PS3.3 A.8.1,
Image Plane and Frame of Reference since 2025), or for destinations that ask for it an MR or CT Image that is DERIVED
and carries the same marks.

Its UIDs are a function of everything that it was made from: study, source instances, model and weights, equipment,
encoding, options, series number and revision. Only `created` and the voxels are not part of the name: who makes the
same series again with other voxels raises the revision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from gateway.dicom.derived_attributes import (
    FRAME,
    PATIENT_AND_STUDY,
    SERIES,
    contributing_equipment,
    local_time,
    patient_orientation,
    series_description,
    take_over,
    visual_features,
    writable,
)
from gateway.dicom.encoding import Encoding, StoredForm, StoredVoxels, decimal, describe_pixels, part10, stored_form
from gateway.dicom.header import Attributes
from gateway.dicom.label import burn_label
from gateway.dicom.marks import (
    QUALIFICATIONS,
    Equipment,
    Marks,
    code,
    mark,
    missing_mark,
    synthesizing_equipment,
)
from gateway.dicom.result_slices import ResultSlice, place_slices
from gateway.dicom.source_references import add_references, refer_to
from gateway.dicom.volume_source import SourceSeries
from gateway.domain.uids import derived_uid
from gateway.errors import NotDicom, Unmarked
from pipelines.volume import Volume

__all__ = ["DerivedInstance", "Encoding", "Equipment", "Marks", "derive_series", "require_marks"]

_NATIVE = {"MR": MRImageStorage, "CT": CTImageStorage}
_SOFT_TISSUE_HU = (40.0, 400.0)  # window of a CT that brings none
_SPATIAL_RESAMPLING = "113085"  # PS3.16 CID 7203


@dataclass(frozen=True, slots=True)
class DerivedInstance:
    """One derived SOP Instance; `part10` is its file, `clipped_voxels` how many values did not fit.

    source_sop_instance_uid  the nearest of the images that it was made from
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int
    source_sop_instance_uid: str
    clipped_voxels: int
    part10: bytes


@dataclass(frozen=True, slots=True)
class _Window:
    """Window Center and Width in the units of the result, one for the whole series so that nothing flickers."""

    center: float
    width: float


def derive_series(
    source: SourceSeries,
    result: Volume,
    marks: Marks,
    encoding: Encoding,
    equipment: Equipment,
    *,
    uid_root: str,
    revision: int,
    options_digest: str,
    series_number: int,
    created: datetime,
    others: Sequence[SourceSeries] = (),
) -> Iterator[DerivedInstance]:
    """The derived instances of `result`, one for each of its slices and in their order.

    It lies on the grid of `source`, or on one with finer rows and columns or more slices in the same extent.
    `others` are the further series that it was made from, each brought to the grid of `source`.

    Raises ValueError for a result of another extent or orientation or with voxels that are no numbers,
    UnsuitableSeries for a unit that cannot be stored.
    """
    slices = place_slices(source, result)
    if not np.isfinite(result.voxels).all():
        raise ValueError("result: found voxels that are not finite, expected numbers; the generator is broken")
    first = source.frames[0].ds
    created = local_time(created, first)
    form = stored_form(result, source, marks.value_range)
    stored, clipped = _stored(result, form)
    window = _window(stored, form, source)
    labelled = encoding.label and burn_label(stored, form.shown_as(window.center + window.width / 2))

    given = repr((marks, encoding, equipment, options_digest, revision, series_number))
    sources = [f"{frame.sop_instance_uid} {frame.frame_number}" for frame in source.frames]
    made_from = dict.fromkeys([*sources, *(one.name for one in slices)])
    beside = [f"{frame.sop_instance_uid} {frame.frame_number}" for other in others for frame in other.frames]
    series = _common(source, marks, encoding, form, window)
    _, rows, columns = result.shape
    describe_pixels(series, form, rows, columns)
    if slices[0].plane:
        series.DerivationCodeSequence.append(code(_SPATIAL_RESAMPLING, "DCM", "Spatial resampling"))
    _describe_equipment(series, first, marks, equipment, uid_root, created)
    series.SeriesInstanceUID = UID(
        derived_uid(uid_root, "series", first.StudyInstanceUID, first.SeriesInstanceUID, given, *made_from, *beside)
    )
    series.SeriesNumber = series_number
    series.BurnedInAnnotation = "YES" if labelled or first.get("BurnedInAnnotation") == "YES" else "NO"
    _date(series, created)
    for index, one in enumerate(slices):
        ds = Dataset()
        ds.update(series)
        ds.SOPInstanceUID = UID(derived_uid(uid_root, "instance", series.SeriesInstanceUID, one.name))
        ds.InstanceNumber = one.number
        _describe_plane(ds, one)
        for other in others:
            add_references(ds, result, index, other)
        missing = missing_mark(ds)
        assert missing is None, f"a derived instance was made without {missing}"
        yield DerivedInstance(
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            series_instance_uid=ds.SeriesInstanceUID,
            transfer_syntax_uid=encoding.transfer_syntax_uid,
            instance_number=one.number,
            source_sop_instance_uid=one.frames[0].sop_instance_uid,
            clipped_voxels=clipped[index],
            part10=part10(ds, stored[index], encoding.transfer_syntax_uid),
        )


def require_marks(path: Path) -> None:
    """Return when the Part 10 file at `path` carries every obligatory mark.

    Raises Unmarked naming the first that is missing, NotDicom when the file cannot be read.
    """
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        missing = missing_mark(ds)
    except (InvalidDicomError, EOFError, ValueError, RecursionError) as error:
        found = type(error).__name__
        raise NotDicom(f"{path.name}: found {found} while reading, expected a DICOM file; it is damaged") from None
    if missing:
        raise Unmarked(
            f"{path.name}: found no valid {missing}, expected every mark of a derived instance; "
            "it must not leave this node: run the job again"
        )


def _stored(result: Volume, form: StoredForm) -> tuple[StoredVoxels, list[int]]:
    """The stored values (slices, rows, columns), and how many were clipped in each slice.

    Slice by slice: a whole series in double precision would be the largest thing in memory.
    """
    stored: StoredVoxels = np.empty(result.shape, form.dtype)
    clipped = []
    for index, voxels in enumerate(result.voxels):
        stored[index], count = form.stored(voxels)
        clipped.append(count)
    return stored, clipped


def _common(source: SourceSeries, marks: Marks, encoding: Encoding, form: StoredForm, window: _Window) -> Dataset:
    """What all instances of the derived series have in common, but for equipment, identity and dates."""
    first = source.frames[0].ds
    ds = Dataset()
    take_over(first, ds, PATIENT_AND_STUDY + SERIES)
    native = _NATIVE.get(marks.modality) if encoding.iod == "source" else None
    if native == CTImageStorage and form.rescale_type != "HU":
        native = None  # a CT Image has to be rescaled (PS3.3 C.8.2.1), and these values have no unit
    if source.is_projection:
        native = None  # an MR or CT Image has to lie in a plane of the patient, and no position is made up
    ds.SOPClassUID = native or SecondaryCaptureImageStorage
    ds.Modality = marks.modality if encoding.modality == "source" else "OT"
    mark(ds, marks, _qualification(encoding, source), secondary_capture=native is None)
    if native:
        _describe_acquisition(ds, first)
    ds.SeriesDescription = series_description(encoding.series_prefix, marks.marker, first)
    if features := visual_features(first):
        ds.RecognizableVisualFeatures = features
    if "FrameOfReferenceUID" in ds and "PositionReferenceIndicator" not in ds:
        ds.PositionReferenceIndicator = ""
    ds.WindowCenter, ds.WindowWidth = decimal(window.center), decimal(window.width)
    ds.LossyImageCompression = "01" if source.stored.lossy else "00"
    if source.stored.lossy and source.stored.lossy_ratios:
        ds.LossyImageCompressionRatio = [decimal(ratio) for ratio in source.stored.lossy_ratios]
    if source.stored.lossy and source.stored.lossy_methods:
        ds.LossyImageCompressionMethod = list(source.stored.lossy_methods)
    return ds


def _qualification(encoding: Encoding, source: SourceSeries) -> str:
    """The most doubtful of what the deployment and the sources say (PS3.3 C.8.13.2.1.1)."""
    stated = {str(frame.ds.get("ContentQualification", "PRODUCT")) for frame in source.frames}
    return max({encoding.content_qualification} | stated & set(QUALIFICATIONS), key=QUALIFICATIONS.index)


def _describe_acquisition(ds: Dataset, first: Dataset) -> None:
    """What MR and CT Image Storage require to be there (PS3.3 C.8.3.1, C.8.2.1).

    Only what must have a value is taken from the source. The rest is left empty: a synthesised image has no
    echo time and no tube voltage.
    """
    if ds.SOPClassUID == CTImageStorage:
        ds.KVP = None
        ds.AcquisitionNumber = None
        return
    ds.ScanningSequence = first.get("ScanningSequence") or "RM"
    ds.SequenceVariant = first.get("SequenceVariant") or "NONE"
    for keyword in ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"):
        setattr(ds, keyword, None)


def _describe_equipment(
    ds: Dataset, first: Dataset, marks: Marks, equipment: Equipment, uid_root: str, created: datetime
) -> None:
    """General Equipment and SC Equipment, which name this gateway, and all equipment that contributed."""
    ds.Manufacturer = writable(equipment.manufacturer, ds)
    ds.ManufacturerModelName = writable(equipment.model_name, ds)
    ds.SoftwareVersions = [equipment.software_version, f"{marks.pipeline_id} {marks.pipeline_version}"]
    ds.InstanceCreatorUID = UID(equipment.device_uid(uid_root))
    optional = {
        "StationName": equipment.station_name,
        "DeviceSerialNumber": equipment.serial_number,
        "InstitutionName": equipment.institution_name,
    }
    for keyword, text in optional.items():
        if text:
            setattr(ds, keyword, writable(text, ds))
    if ds.SOPClassUID == SecondaryCaptureImageStorage:
        ds.SecondaryCaptureDeviceID = writable(equipment.station_name or equipment.model_name, ds)
        ds.SecondaryCaptureDeviceManufacturer = ds.Manufacturer
        ds.SecondaryCaptureDeviceManufacturerModelName = ds.ManufacturerModelName
        ds.SecondaryCaptureDeviceSoftwareVersions = list(ds.SoftwareVersions)
    ds.ContributingEquipmentSequence = [*contributing_equipment(first), synthesizing_equipment(ds, marks, created)]


def _date(ds: Dataset, created: datetime) -> None:
    day, time = f"{created:%Y%m%d}", f"{created:%H%M%S}"
    ds.SeriesDate = ds.ContentDate = ds.InstanceCreationDate = day
    ds.SeriesTime = ds.ContentTime = ds.InstanceCreationTime = time
    if ds.SOPClassUID == SecondaryCaptureImageStorage:
        ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = day, time


def _describe_plane(ds: Dataset, one: ResultSlice) -> None:
    """Where the slice lies and which images it was made from."""
    take_over(one.frames[0].ds, ds, FRAME)
    for keyword, value in one.plane.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            del ds[keyword]
    if "ImageOrientationPatient" in ds:
        ds.PatientOrientation = patient_orientation(ds.ImageOrientationPatient)
    refer_to(ds, one.frames, preserved=not one.plane)


def _window(stored: StoredVoxels, form: StoredForm, source: SourceSeries) -> _Window:
    """The source's window where values keep their meaning (HU), otherwise one over the result's signal."""
    if not form.rescale_type:
        darkest, brightest = np.percentile(stored, [1, 99.5])
        return _Window(round((darkest + brightest) / 2), max(2, round(brightest - darkest)))
    attributes = Attributes(source.frames[0].ds)
    center, width = (attributes.lookup(keyword) or () for keyword in ("WindowCenter", "WindowWidth"))
    if source.volume.unit == "HU" and center and width:
        first = center[0], width[0]
        if isinstance(first[0], float) and isinstance(first[1], float) and first[1] >= 1:
            return _Window(first[0], first[1])
    return _Window(*_SOFT_TISSUE_HU)

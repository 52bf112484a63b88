"""What a derived instance takes over from its source, and what it computes from it.

Only what is listed here is taken over. Private elements, overlays, icons, digital signatures, padding and smallest
or largest values describe the source's pixels and are left behind, as are the parameters of its acquisition.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from copy import deepcopy
from datetime import datetime, timedelta, timezone

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from gateway.dicom.marks import ACQUISITION_EQUIPMENT, EQUIPMENT, code, code_values

# PS3.3 C.7.1.1 Patient, C.7.1.3 and C.7.2.3 Clinical Trial, C.7.2.1 General Study, C.7.2.2 Patient Study
PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames", "PatientBirthDate", "PatientBirthTime",
    "PatientSex", "EthnicGroup", "PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
    "PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "QualityControlSubject",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ConsultingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "ReferencedStudySequence",
    "RequestingService", "ReasonForPerformedProcedureCodeSequence",
    "PatientAge", "PatientSize", "PatientWeight", "PatientSexNeutered", "Occupation", "AdditionalPatientHistory",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ReasonForVisit", "ServiceEpisodeID", "PregnancyStatus",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "MedicalAlerts", "Allergies",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "ClinicalTrialCoordinatingCenterName",
    "ClinicalTrialSeriesID", "ClinicalTrialSeriesDescription",
)  # fmt: skip
# C.7.3.1 General Series and C.7.4.1 Frame of Reference, as far as they are about the patient
SERIES = (
    "BodyPartExamined", "AnatomicRegionSequence", "Laterality", "PatientPosition", "RequestAttributesSequence",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "LongitudinalTemporalInformationModified",
)  # fmt: skip
# C.7.10.1 General Acquisition, C.7.6.2 Image Plane
FRAME = (
    "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber", "AcquisitionUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "SliceLocation", "ImageLaterality", "PatientOrientation",
)  # fmt: skip

_OFFSET = re.compile(r"[+-][01][0-9][0-5][0-9]", re.ASCII)
_PURPOSE = "PurposeOfReferenceCodeSequence"
_TEXT_VRS = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_HEAD = frozenset({"HEAD", "BRAIN", "FACE", "SKULL", "ORBIT", "SINUS", "JAW", "MAXILLA", "MANDIBLE", "HEADNECK", "IAC"})
_DESCRIPTION_LENGTH = 64  # of LO, in characters (PS3.5 6.2)


def take_over(source: Dataset, ds: Dataset, keywords: Iterable[str]) -> None:
    """Copy those of `keywords` that `source` has, text byte by byte; leaves out what does not fit its VR."""
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in source:
            continue
        raw = source.get_item(tag)
        vr = dictionary_VR(tag)
        if isinstance(raw, RawDataElement) and vr in _TEXT_VRS:
            # decoded and encoded again it could come out changed where the declared character set is wrong
            ds[tag] = DataElement(tag, vr, raw.value, validation_mode=IGNORE)
            continue
        try:
            element = source[tag]
            ds[tag] = DataElement(tag, vr, deepcopy(element.value), validation_mode=IGNORE)
        except (ValueError, TypeError, NotImplementedError):
            continue
        if element.VR == "SQ":
            for item in ds[tag].value:
                item.remove_private_tags()


def contributing_equipment(source: Dataset) -> list[Dataset]:
    """The equipment that the source names as contributing, and the scanner, unless it is there or has no name."""
    copied = Dataset()
    take_over(source, copied, ["ContributingEquipmentSequence"])
    items = list(copied.get("ContributingEquipmentSequence") or ())
    if any(("DCM", ACQUISITION_EQUIPMENT) in code_values(item, _PURPOSE) for item in items):
        return items
    scanner = Dataset()
    take_over(source, scanner, EQUIPMENT)
    if not scanner.get("Manufacturer"):  # type 1 in an item
        return items
    setattr(scanner, _PURPOSE, [code(ACQUISITION_EQUIPMENT, "DCM", "Acquisition Equipment")])
    return [*items, scanner]


def writable(text: str, ds: Dataset) -> str:
    """`text` if the Specific Character Set of `ds` can hold it, otherwise its letters without their marks."""
    declared = [
        term for term in _terms(ds.get("SpecificCharacterSet")) if term not in ("", "ISO_IR 6", "ISO 2022 IR 6")
    ]
    for encoding in ["ascii", *(convert_encodings(declared) if declared else ())]:
        try:
            encoded = text.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            continue
        # ISO_IR 13 is JIS X 0201, of which each letter is one byte; what Python calls so has two-byte letters, too
        if encoding != "shift_jis" or len(encoded) == len(text):
            return text
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")


def _terms(value: str | Sequence[str] | None) -> list[str]:
    return [value or ""] if value is None or isinstance(value, str) else list(value)


def series_description(prefix: str, marker: str, source: Dataset) -> str:
    """The marker, then what the source is called, cut to the 64 characters of an LO."""
    described = source.get("SeriesDescription") or f"series {source.get('SeriesNumber', '?')}"
    text = " ".join(described) if isinstance(described, MultiValue) else str(described)
    # U+FFFD stands for bytes that the declared character set does not have, and nothing can write it
    plain = "".join(letter if letter.isprintable() and letter != "\ufffd" else " " for letter in text)
    return f"{prefix} {marker} <- {plain}"[:_DESCRIPTION_LENGTH].rstrip()


def patient_orientation(image_orientation: Sequence[float]) -> list[str]:
    """Patient Orientation (PS3.3 C.7.6.1.1.1) of rows and columns, the strongest direction first."""
    cosines = np.asarray(image_orientation, float).reshape(2, 3)
    return [_directions(row) for row in cosines]


def _directions(cosines: np.ndarray) -> str:
    letters = ("RL", "AP", "FH")  # towards lower and towards higher coordinates
    order = sorted(range(3), key=lambda axis: -abs(cosines[axis]))
    return "".join(letters[axis][int(cosines[axis] > 0)] for axis in order if abs(cosines[axis]) > 0.05)


def visual_features(source: Dataset) -> str | None:
    """Recognizable Visual Features (0028,0302): as the source says, else by its body part, else None."""
    stated = source.get("RecognizableVisualFeatures")
    if stated in ("YES", "NO"):
        return str(stated)
    body_part = str(source.get("BodyPartExamined") or "").upper()
    return None if not body_part else "YES" if body_part in _HEAD else "NO"


def local_time(moment: datetime, source: Dataset) -> datetime:
    """`moment` in the time zone that the source declares, since Timezone Offset From UTC is taken over."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "")
    if not _OFFSET.fullmatch(offset):
        return moment
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))

"""The marks of a derived instance: what it has to say of itself, how that is written, and whether it is all there.

Any one of them may be lost on the way through archives and de-identifiers, so the same fact is said many times: to
machines by Synthetic Data, Conversion Type, Image Type, codes and Contributing Equipment, to people by Series
Description, Image Comments and the burned-in label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gateway.domain.uids import derived_uid
from gateway.errors import ConfigurationError

CODING_SCHEME = "99ATHANOR"
SYNTHESIS_CODE = "SYN-IMG"
SYNTHESIZING_EQUIPMENT = "109100"  # PS3.16 CID 7005
ACQUISITION_EQUIPMENT = "109101"
SOURCE_IMAGE_FOR_PROCESSING = "121322"  # PS3.16 CID 7202
QUALIFICATIONS = ("PRODUCT", "SERVICE", "RESEARCH")  # from the least to the most doubt

EQUIPMENT = (
    "Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber", "DeviceUID",
    "SoftwareVersions",
)  # fmt: skip

_CODING_SCHEME_UID = derived_uid("", "athanor", "coding scheme", CODING_SCHEME)
_IMAGE_COMMENTS = "AI-generated (synthetic). Not acquired. Not for primary diagnosis."
_CAUTION = " CAUTION: "


def _require_ascii(owner: object, *names: str) -> None:
    for name in names:
        text = getattr(owner, name)
        if not (text.isascii() and text.isprintable()) or "\\" in text or not text.strip():
            raise ConfigurationError(
                f"{name}: found {text!r}, expected printable ASCII without a backslash, which every character set "
                "of a source can hold"
            )


@dataclass(frozen=True, slots=True)
class Marks:
    """What made a result and what the result is; all texts in ASCII. Raises ConfigurationError for others.

    method       as people would say it, such as ``pix2pix conditional GAN``
    contrast     what the result looks like, such as ``STIR``
    marker       the word for it in Series Description, at most 16 characters
    modality     of the result
    value_range  what the result's voxels lie between, in the volume's unit
    caution      a known weakness of the model that every reader has to know, "" for none
    """

    pipeline_id: str
    pipeline_version: str
    method: str
    contrast: str
    marker: str
    weights_sha256: str
    modality: str
    value_range: tuple[float, float]
    caution: str = ""

    def __post_init__(self) -> None:
        _require_ascii(
            self, "pipeline_id", "pipeline_version", "method", "contrast", "marker", "weights_sha256", "modality"
        )
        if self.caution:
            _require_ascii(self, "caution")
        if not self.value_range[0] < self.value_range[1]:
            raise ConfigurationError(f"value_range: found {self.value_range}, expected the lower value first")


@dataclass(frozen=True, slots=True)
class Equipment:
    """Who this gateway is in the objects that it makes."""

    manufacturer: str
    model_name: str
    software_version: str
    station_name: str = ""
    serial_number: str = ""
    institution_name: str = ""

    def __post_init__(self) -> None:
        if not self.manufacturer.strip():
            raise ConfigurationError("manufacturer: found none, expected a name, which PS3.3 requires of equipment")

    def device_uid(self, uid_root: str) -> str:
        """Device UID (0018,1002): the same as long as the gateway keeps its names."""
        return derived_uid(
            uid_root, "device", self.manufacturer, self.model_name, self.serial_number, self.station_name
        )


def mark(ds: Dataset, marks: Marks, qualification: str, *, secondary_capture: bool) -> None:
    """Write into `ds` the marks that all instances of a series share, except those that name sources and equipment."""
    ds.SyntheticData = "YES"
    ds.ContentQualification = qualification
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if marks.modality == "CT" and not secondary_capture else "OTHER"]
    if secondary_capture:
        ds.ConversionType = "SYN"
    ds.DerivationDescription = (
        f"NOT ACQUIRED. {marks.contrast} synthesised by {marks.method}, "
        f"model {marks.pipeline_id} {marks.pipeline_version}, weights SHA-256 {marks.weights_sha256[:12]}"
    )
    ds.DerivationCodeSequence = [code(SYNTHESIS_CODE, CODING_SCHEME, "Image synthesis by generative neural network")]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODING_SCHEME
    scheme.CodingSchemeUID = _CODING_SCHEME_UID
    scheme.CodingSchemeName = "Athanor codes"
    ds.CodingSchemeIdentificationSequence = [scheme]
    ds.ImageComments = f"{_IMAGE_COMMENTS}{_CAUTION}{marks.caution}" if marks.caution else _IMAGE_COMMENTS


def caution_of(ds: Dataset) -> str:
    """The known weakness of the model that `mark` wrote into `ds`, "" for none."""
    return str(ds.get("ImageComments", "")).partition(_CAUTION)[2]


def synthesizing_equipment(ds: Dataset, marks: Marks, created: datetime) -> Dataset:
    """The item of Contributing Equipment Sequence (PS3.3 C.12.1) for the equipment that `ds` names as its maker."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code(SYNTHESIZING_EQUIPMENT, "DCM", "Synthesizing Equipment")]
    for keyword in EQUIPMENT:
        if keyword in ds:
            setattr(item, keyword, ds[keyword].value)
    item.ContributionDateTime = f"{created:%Y%m%d%H%M%S%z}"
    item.ContributionDescription = (
        f"{marks.contrast} synthesised by {marks.method}, model {marks.pipeline_id} {marks.pipeline_version}, "
        f"weights SHA-256 {marks.weights_sha256}"
    )
    return item


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def code_values(ds: Dataset, keyword: str) -> set[tuple[str, str]]:
    """(scheme, value) of each code in the sequence `keyword`."""
    items = ds.get(keyword) or ()
    return {(item.get("CodingSchemeDesignator", ""), item.get("CodeValue", "")) for item in items}


def missing_mark(ds: Dataset) -> str | None:
    """The first obligatory mark that `ds` lacks, by keyword; None when it has them all."""
    return next((keyword for keyword, is_there in _OBLIGATORY.items() if not is_there(ds)), None)


def _has_code(ds: Dataset, sequence: str, codes: str, scheme: str, value: str) -> bool:
    return any((scheme, value) in code_values(item, codes) for item in ds.get(sequence) or ())


_OBLIGATORY: dict[str, Callable[[Dataset], bool]] = {
    "SyntheticData": lambda ds: ds.get("SyntheticData") == "YES",
    "ImageType": lambda ds: list(ds.get("ImageType") or ())[:2] == ["DERIVED", "SECONDARY"],
    "ConversionType": lambda ds: (
        ds.get("SOPClassUID") != SecondaryCaptureImageStorage or ds.get("ConversionType") == "SYN"
    ),
    "ContentQualification": lambda ds: ds.get("ContentQualification") in QUALIFICATIONS,
    "DerivationDescription": lambda ds: str(ds.get("DerivationDescription", "")).startswith("NOT ACQUIRED"),
    "DerivationCodeSequence": lambda ds: (CODING_SCHEME, SYNTHESIS_CODE) in code_values(ds, "DerivationCodeSequence"),
    "SourceImageSequence": lambda ds: _has_code(
        ds, "SourceImageSequence", "PurposeOfReferenceCodeSequence", "DCM", SOURCE_IMAGE_FOR_PROCESSING
    ),
    "ContributingEquipmentSequence": lambda ds: _has_code(
        ds, "ContributingEquipmentSequence", "PurposeOfReferenceCodeSequence", "DCM", SYNTHESIZING_EQUIPMENT
    ),
    "SeriesDescription": lambda ds: bool(ds.get("SeriesDescription")),
    "ImageComments": lambda ds: str(ds.get("ImageComments", "")).startswith(_IMAGE_COMMENTS),
    "BurnedInAnnotation": lambda ds: ds.get("BurnedInAnnotation") in ("YES", "NO"),
}

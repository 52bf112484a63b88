"""What the gateway knows of an instance without its pixel data.

`read_instance_header` serves receive: a few values of the bytes of one C-STORE, checked against the request.
`read_attributes` serves rules, the loop guard and the pages: every attribute of a stored file, by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom import charset
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_dict, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from gateway.dicom.elements import DEFAULT_LIMITS, Encoded, HeaderLimits, find_elements
from gateway.domain.uids import is_valid_uid
from gateway.errors import ConfigurationError, DataSetMismatch, NotDicom

Vector = tuple[float, ...]

_LARGEST_VALUE_BYTES = 1024  # longer values are kept in the file only
_PER_FRAME_GROUPS = 0x52009230  # grows with the number of frames; the file has it
_NUMERIC_VRS = frozenset({"DS", "IS", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_DELIMITERS = {ord(mark) for mark in "\\^="}  # each ends the reach of an escape sequence (PS3.5 6.1.2.5.3)
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)", re.ASCII)

# fmt: off
_TAGS = {
    "SpecificCharacterSet": 0x00080005, "ImageType": 0x00080008, "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018, "StudyDate": 0x00080020, "StudyTime": 0x00080030,
    "AccessionNumber": 0x00080050, "Modality": 0x00080060, "Manufacturer": 0x00080070,
    "StudyDescription": 0x00081030, "SeriesDescription": 0x0008103E, "ManufacturerModelName": 0x00081090,
    "PatientName": 0x00100010, "PatientID": 0x00100020, "BodyPartExamined": 0x00180015,
    "StudyInstanceUID": 0x0020000D, "SeriesInstanceUID": 0x0020000E, "SeriesNumber": 0x00200011,
    "AcquisitionNumber": 0x00200012, "InstanceNumber": 0x00200013, "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037, "ImagesInAcquisition": 0x00201002, "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010, "Columns": 0x00280011,
}
# fmt: on
_WANTED = frozenset(_TAGS.values())
_REFUSED_SYNTAXES: dict[str, str] = {
    ExplicitVRBigEndian: "Explicit VR Big Endian, which is retired",
    DeflatedExplicitVRLittleEndian: "Deflated Explicit VR Little Endian, whose size has no bound",
}


class InstanceHeader(NamedTuple):
    """The values of one SOP Instance that receive stores; "", () or None where the data set has none.

    slice_position_mm is Image Position (Patient) projected on the slice normal; None without a plane, as in
    multi-frame instances, which keep their planes in functional groups.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    image_type: tuple[str, ...]
    instance_number: int | None
    acquisition_number: int | None
    images_in_acquisition: int | None
    number_of_frames: int
    rows: int | None
    columns: int | None
    image_position: Vector
    image_orientation: Vector
    slice_position_mm: float | None
    series_number: int | None
    series_description: str
    study_description: str
    study_date: str
    study_time: str
    accession_number: str
    body_part_examined: str
    manufacturer: str
    manufacturer_model_name: str
    patient_id: str
    patient_name: str


def read_instance_header(
    encoded: Encoded,
    transfer_syntax_uid: str,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    start_at: int = 0,
    limits: HeaderLimits = DEFAULT_LIMITS,
) -> InstanceHeader:
    """The header of the data set `encoded` from `start_at` on, as a C-STORE request for the two UIDs carried it.

    Values that the standard makes optional may be missing or unreadable and are then empty.
    Raises NotDicom for bytes that are no data set or a header over `limits`, DataSetMismatch for UIDs that are
    missing, malformed or not the ones of the request (PS3.4 B.2.3, status 0xA900).
    """
    if refused := _REFUSED_SYNTAXES.get(transfer_syntax_uid):
        raise NotDicom(f"transfer syntax: found {refused}; expected another, propose Explicit VR Little Endian")
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    values = _Values(find_elements(encoded, _WANTED, implicit=implicit, start_at=start_at, limits=limits))
    position = values.numbers("ImagePositionPatient", 3)
    orientation = values.numbers("ImageOrientationPatient", 6)
    return InstanceHeader(
        sop_class_uid=values.uid("SOPClassUID", expected=sop_class_uid),
        sop_instance_uid=values.uid("SOPInstanceUID", expected=sop_instance_uid),
        study_instance_uid=values.uid("StudyInstanceUID"),
        series_instance_uid=values.uid("SeriesInstanceUID"),
        transfer_syntax_uid=transfer_syntax_uid,
        modality=values.text("Modality"),
        image_type=tuple(filter(None, (part.strip() for part in values.text("ImageType").split("\\")))),
        instance_number=values.integer("InstanceNumber"),
        acquisition_number=values.integer("AcquisitionNumber"),
        images_in_acquisition=values.integer("ImagesInAcquisition"),
        number_of_frames=max(1, values.integer("NumberOfFrames") or 1),
        rows=values.unsigned_short("Rows"),
        columns=values.unsigned_short("Columns"),
        image_position=position,
        image_orientation=orientation,
        slice_position_mm=_along_normal(position, orientation),
        series_number=values.integer("SeriesNumber"),
        series_description=values.text("SeriesDescription"),
        study_description=values.text("StudyDescription"),
        study_date=values.text("StudyDate"),
        study_time=values.text("StudyTime"),
        accession_number=values.text("AccessionNumber"),
        body_part_examined=values.text("BodyPartExamined"),
        manufacturer=values.text("Manufacturer"),
        manufacturer_model_name=values.text("ManufacturerModelName"),
        patient_id=values.text("PatientID"),
        patient_name=values.text("PatientName"),
    )


class _Values:
    """Encoded values by keyword, decoded as receive needs them."""

    def __init__(self, found: dict[int, bytes]) -> None:
        self._found = found
        self._encodings = _encodings(found.get(_TAGS["SpecificCharacterSet"], b""))

    def text(self, keyword: str) -> str:
        value = self._found.get(_TAGS[keyword], b"")
        return _text(value[:_LARGEST_VALUE_BYTES], self._encodings) if value else ""

    def uid(self, keyword: str, *, expected: str | None = None) -> str:
        text = self._found.get(_TAGS[keyword], b"").decode("ascii", errors="replace").strip(" \0")
        if not text:
            raise DataSetMismatch(f"{keyword}: found none, expected a UID; the modality must send it")
        if not is_valid_uid(text):
            raise DataSetMismatch(
                f"{keyword}: found {len(text)} characters that are no UID, expected digits and dots, "
                "at most 64 (PS3.5 9.1); correct the sender"
            )
        if expected is not None and text != expected:
            raise DataSetMismatch(
                f"{keyword}: found {text} in the data set, expected {expected} as in the C-STORE request; "
                "correct the sender"
            )
        return text

    def numbers(self, keyword: str, count: int) -> Vector:
        """Exactly `count` finite numbers, or none at all."""
        try:
            parts = self._found.get(_TAGS[keyword], b"").strip(b" \0").split(b"\\")
            numbers = tuple(map(float, parts))
        except ValueError:
            return ()
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else ()

    def integer(self, keyword: str) -> int | None:
        """An integer string; "1.0" and blanks around it are read as devices mean them."""
        numbers = self.numbers(keyword, 1)
        return int(numbers[0]) if numbers and numbers[0].is_integer() and abs(numbers[0]) < 2**31 else None

    def unsigned_short(self, keyword: str) -> int | None:
        value = self._found.get(_TAGS[keyword], b"")
        return int.from_bytes(value, "little") if len(value) == 2 else None


@lru_cache(maxsize=1024)  # most texts are the same in every instance of a series
def _text(value: bytes, encodings: tuple[str, ...]) -> str:
    if b"\x1b" in value:
        text: str = charset.decode_bytes(value, list(encodings), _DELIMITERS)
    else:
        text = value.decode(encodings[0], errors="replace")
    return text.replace("\0", "").strip()  # no text has NUL inside, and a database may not take it


@lru_cache(maxsize=64)
def _encodings(character_set: bytes) -> tuple[str, ...]:
    """The Python encodings of a Specific Character Set; of an unknown one Latin-1, which decodes all."""
    text = character_set.decode("ascii", errors="replace").rstrip(" \0")
    if not text.isprintable():
        raise NotDicom(
            "SpecificCharacterSet: found bytes that are no code string, expected one as ISO_IR 100 (PS3.3 C.12.1.1.2); "
            "no text could be read; correct the sender"
        )
    terms = [term.strip(" ") for term in text.split("\\")]
    if all(term in charset.python_encoding for term in terms):
        return tuple(charset.convert_encodings(terms))
    return ("iso8859",)


def _along_normal(position: Vector, orientation: Vector) -> float | None:
    """`position` projected on the normal of the plane that `orientation` spans (PS3.3 C.7.6.2.1.1)."""
    if not position or not orientation:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    return None if length < 1e-6 else sum(map(float.__mul__, position, normal)) / length


class Attributes:
    """The attributes of one instance by name: a DICOM keyword or a tag, ``(gggg,eeee)``, private ones too."""

    __slots__ = ("_ds",)

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds

    def lookup(self, attribute: str) -> tuple[str | float, ...] | None:
        """The values of `attribute`: numbers where its VR is numeric, otherwise texts.

        None when it is absent, () when it is present but empty, a sequence, or bytes that are no text. A
        numeric value that is no number is given as the text that stands there.
        """
        tag = _tag_of(attribute)
        if tag is None or tag not in self._ds:
            return None
        try:
            element = self._ds[tag]
        except (ValueError, TypeError, NotImplementedError):
            return _as_text(self._ds.get_item(tag).value)
        if element.VR == "SQ" or element.is_empty:
            return ()
        if isinstance(element.value, bytes):
            return _as_text(element.value)
        values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
        return tuple(_plain(element, value) for value in values)

    def items(self, keyword: str) -> tuple[Attributes, ...]:
        """The items of the sequence `keyword`, none when absent. Raises NotDicom when they cannot be read."""
        try:
            sequence = self._ds.get(keyword)
            return tuple(Attributes(item) for item in sequence or () if isinstance(item, Dataset))
        except (ValueError, TypeError, EOFError, RecursionError) as error:
            raise NotDicom(
                f"{keyword}: found items that cannot be read ({type(error).__name__}), "
                "expected a sequence; the data set is damaged"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """The DICOM JSON model (PS3.18 F) without per-frame groups, values over 1 KB and numbers that JSON has not.

        Raises NotDicom when sequences are nested too deep to be written.
        """
        kept = Dataset()
        kept.update({item.tag: item for item in self._readable() if item.tag != _PER_FRAME_GROUPS})
        try:
            model = kept.to_json_dict(
                bulk_data_threshold=_LARGEST_VALUE_BYTES,
                bulk_data_element_handler=lambda _: "",
                suppress_invalid_tags=True,
            )
        except RecursionError:
            raise NotDicom("found sequences nested too deep; no device makes such an image") from None
        return {tag: entry for tag, entry in model.items() if _is_small_json(entry)}

    @classmethod
    def from_json(cls, model: dict[str, Any]) -> Attributes:
        """The attributes that `to_json` wrote."""
        return cls(Dataset.from_json(model))

    def _readable(self) -> Iterator[DataElement]:
        for tag in self._ds.keys():  # noqa: SIM118 - iterating the data set itself would decode, and fail, outside the try
            try:
                yield self._ds[tag]
            except (ValueError, TypeError, NotImplementedError):
                continue


def read_attributes(path: Path) -> Attributes:
    """Every attribute before the pixel data of the Part 10 file at `path`.

    Raises NotDicom when it cannot be read.
    """
    try:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, EOFError, ValueError, RecursionError) as error:
        found = type(error).__name__
        raise NotDicom(f"{path.name}: found {found} while reading, expected a DICOM file; it is damaged") from None
    if "SOPInstanceUID" not in ds:
        raise NotDicom(f"{path.name}: found no SOP Instance UID, expected a whole DICOM file; it is damaged")
    return Attributes(ds)


def resolve_attribute(text: str) -> str:
    """`text` when it names an attribute that has values to compare: a keyword or a tag ``(gggg,eeee)``.

    Raises ConfigurationError with the nearest keywords for a name that is none, and for a sequence.
    """
    tag = _tag_of(text)
    if tag is None:
        near = get_close_matches(text, keyword_dict, n=3)
        raise ConfigurationError(
            f"attribute: found {text!r}, expected a keyword such as EchoTime or a tag such as (0019,10AB)"
            + (f"; did you mean {' or '.join(near)}?" if near else "")
        )
    if dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ":
        raise ConfigurationError(f"attribute: found the sequence {text}, expected one with values; name another")
    return text


def _tag_of(attribute: str) -> int | None:
    if match := _TAG.fullmatch(attribute):
        return int(match[1] + match[2], 16)
    return tag_for_keyword(attribute)


def _plain(element: DataElement, value: Any) -> str | float:
    if element.VR in _NUMERIC_VRS:
        try:
            return float(value)
        except ValueError:
            return str(value)
    return str(value).strip()


def _as_text(value: Any) -> tuple[str, ...]:
    """Bytes of an unknown VR as texts, or () when they are none."""
    if not isinstance(value, bytes) or not value.isascii():
        return ()
    text = value.decode("ascii").strip(" \0")
    return tuple(part.strip() for part in text.split("\\")) if text.isprintable() and text else ()


def _is_small_json(entry: dict[str, Any]) -> bool:
    try:
        text = json.dumps(entry, allow_nan=False)
    except ValueError:  # NaN or infinity
        return False
    return "BulkDataURI" not in entry and (entry["vr"] == "SQ" or len(text) <= _LARGEST_VALUE_BYTES)

"""Whether an instance was already synthesised, here or elsewhere: what has to be known before it becomes a source.

A result comes back as soon as a rule of the PACS forwards it, and a network fed with what a network made invents
twice. Marks are looked for from the one that survives most to the one that survives least; one marked instance is
reason enough to leave its whole series alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from gateway.dicom.header import Attributes
from gateway.dicom.marks import CODING_SCHEME, SYNTHESIZING_EQUIPMENT
from gateway.domain.uids import is_below

Ledger = Callable[[str], bool]

_SECONDARY_CAPTURES = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
_PROCESSING_EQUIPMENT = "109102"  # PS3.16 CID 7005
_TEXTS_OF_MAKERS = (
    "Manufacturer", "ManufacturerModelName", "SeriesDescription", "DerivationDescription", "ImageComments"
)  # fmt: skip
_SYNTHETIC_WORDS = re.compile(r"\b(AI|GAN|synthetic|synthesi[sz]ed|deep[ -]?learning)\b", re.IGNORECASE)
_RECONSTRUCTION_VALUES = frozenset({"DRB", "DRG", "DRS"})  # Siemens, in Image Type
_RECONSTRUCTION_TAG = "(0043,10CA)"  # GE, private: strength of the reconstruction


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """How this gateway signs: its UID root ("" when it has none), its equipment, its Series Descriptions."""

    uid_root: str
    manufacturer: str
    model_name: str
    series_prefix: str


def find_marks(attributes: Attributes, own: OwnIdentity, ledger: Ledger, *, accept_derived: bool = False) -> str | None:
    """Why the instance must not be a source; None when nothing speaks against it.

    `ledger` tells whether a UID is of a series or an instance that was made here. `accept_derived` is for rules
    that mean derived sources, such as reformatted series or ADC maps; every other mark still counts.
    """
    return next(_reasons(attributes, own, ledger, accept_derived=accept_derived), None)


def find_reconstruction_flags(attributes: Attributes) -> tuple[str, ...]:
    """What the scanner says of reconstruction by a network: acquired data, to be kept on record and not refused."""
    flags = [value for value in _texts(attributes, "ImageType") if value in _RECONSTRUCTION_VALUES]
    if attributes.lookup(_RECONSTRUCTION_TAG) is not None:
        flags.append(_RECONSTRUCTION_TAG)
    return tuple(flags)


def _reasons(attributes: Attributes, own: OwnIdentity, ledger: Ledger, *, accept_derived: bool) -> Iterator[str]:
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if whose := _ownership(_text(attributes, keyword), own, ledger):
            yield f"{keyword} {whose}"
    yield from _equipment(attributes, own)
    if _text(attributes, "SyntheticData") == "YES":
        yield "Synthetic Data is YES"
    if _text(attributes, "SOPClassUID") in _SECONDARY_CAPTURES:
        yield "it is a Secondary Capture, which is never acquired"
    if _text(attributes, "ConversionType") == "SYN":
        yield "Conversion Type is SYN"
    derived = _texts(attributes, "ImageType")[:1] == ["DERIVED"]
    if derived and not accept_derived:
        yield "Image Type is DERIVED, and no rule accepts derived sources"
    yield from _derivation(attributes, own, ledger)
    if derived:
        yield from _words(attributes)


def _ownership(uid: str, own: OwnIdentity, ledger: Ledger) -> str | None:
    if uid and ledger(uid):
        return "was made by this gateway"
    return "is below the UID root of this gateway" if is_below(uid, own.uid_root) else None


def _equipment(attributes: Attributes, own: OwnIdentity) -> Iterator[str]:
    """Synthesizing Equipment of anybody counts, processing equipment only when it is this gateway."""
    for item in attributes.items("ContributingEquipmentSequence"):
        purposes = {_text(code, "CodeValue") for code in item.items("PurposeOfReferenceCodeSequence")}
        if SYNTHESIZING_EQUIPMENT in purposes:
            yield "Contributing Equipment names synthesizing equipment (109100)"
        elif _PROCESSING_EQUIPMENT in purposes and _is_own_equipment(item, own):
            yield "Contributing Equipment names this gateway"


def _is_own_equipment(item: Attributes, own: OwnIdentity) -> bool:
    found = _text(item, "Manufacturer"), _text(item, "ManufacturerModelName")
    return found == (own.manufacturer, own.model_name)


def _derivation(attributes: Attributes, own: OwnIdentity, ledger: Ledger) -> Iterator[str]:
    """What the instance says it was made from and how."""
    schemes = {_text(code, "CodingSchemeDesignator") for code in attributes.items("DerivationCodeSequence")}
    if CODING_SCHEME in schemes:
        yield f"Derivation Code is of {CODING_SCHEME}"
    if _text(attributes, "SeriesDescription").startswith(f"{own.series_prefix} "):
        yield f"Series Description starts with {own.series_prefix}"
    for item in attributes.items("SourceImageSequence"):
        if _ownership(_text(item, "ReferencedSOPInstanceUID"), own, ledger):
            yield "Source Image refers to a result of this gateway"


def _words(attributes: Attributes) -> Iterator[str]:
    for keyword in _TEXTS_OF_MAKERS:
        if found := _SYNTHETIC_WORDS.search(_text(attributes, keyword)):
            yield f"{keyword} of a derived image says {found[0]!r}"


def _texts(attributes: Attributes, attribute: str) -> list[str]:
    return [str(value) for value in attributes.lookup(attribute) or ()]


def _text(attributes: Attributes, attribute: str) -> str:
    return "\\".join(_texts(attributes, attribute))

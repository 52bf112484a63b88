"""The facts of a series that contracts ask for, read from the headers of all its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from gateway.dicom.volume_grid import Grid
from gateway.errors import UnsuitableSeries
from pipelines.spec import SeriesFacts

_WITHIN = math.cos(math.radians(20))  # a plane keeps its name up to 20 degrees of obliquity
_SAME_TIME = (
    0.05  # fraction by which times may differ between slices: interleaved packages differ by rounding
)
_SYNTHESIZING_EQUIPMENT = "109100"  # CID 7005
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def series_facts(frames: Sequence[Dataset], grid: Grid) -> SeriesFacts:
    """The facts of `frames`, in the order of the volume and with functional groups lifted.

    What makes a series unsuitable (derived, synthetic, burned in, contrast agent) holds for the series when
    one frame says so. Raises UnsuitableSeries mixed-contrast when the frames' times differ, localizer for a
    localizer.
    """
    first = frames[0]
    if any("LOCALIZER" in _texts(ds, "ImageType", "FrameType") for ds in frames):
        raise UnsuitableSeries("localizer", "Image Type LOCALIZER", "a stack of slices of one orientation")
    return SeriesFacts(
        modality=_text(first, "Modality"),
        sop_class_uid=_text(first, "SOPClassUID"),
        image_type=_image_type(frames),
        plane=plane_of(grid),
        spacing_mm=grid.spacing_mm,
        shape=(len(frames), int(first.Rows), int(first.Columns)),
        tr_ms=_common(frames, "RepetitionTime", _of("RepetitionTime")),
        te_ms=_common(frames, "EchoTime", _of("EffectiveEchoTime", "EchoTime")),
        ti_ms=_common(frames, "InversionTime", _of("InversionTimes", "InversionTime")),
        scanning_sequence=_scanning_sequence(first),
        sequence_variant=_texts(first, "SequenceVariant"),
        scan_options=_scan_options(first),
        body_part=_text(first, "BodyPartExamined"),
        series_description=_text(first, "SeriesDescription"),
        contrast_agent=_any(frames, _contrast_agent),
        burned_in=_any(frames, lambda ds: _flag(ds, "BurnedInAnnotation")),
        synthetic=any(map(_synthetic, frames)),
        patient_age_years=_age_years(_text(first, "PatientAge")),
    )


def plane_of(grid: Grid) -> str:
    """sagittal, coronal or axial when the normal is within 20 degrees of that axis, otherwise oblique."""
    x, y, z = (abs(float(component)) for component in grid.direction[:, 0])
    return next(
        (name for name, part in (("sagittal", x), ("coronal", y), ("axial", z)) if part >= _WITHIN), "oblique"
    )


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").strip()


def _texts(ds: Dataset, *keywords: str) -> tuple[str, ...]:
    """The values of the first of `keywords` that has any."""
    for keyword in keywords:
        value = ds.get(keyword)
        if value:
            return tuple(
                str(each).strip() for each in (value if isinstance(value, MultiValue | list) else [value])
            )
    return ()


def _flag(ds: Dataset, keyword: str) -> bool | None:
    """YES or NO; a value of unknown VR, as some nodes leave newer attributes, is read too."""
    value = ds.get(keyword)
    text = value.decode("ascii", errors="replace") if isinstance(value, bytes) else str(value or "")
    return {"YES": True, "NO": False}.get(text.strip(" \0"))


def _any(frames: Sequence[Dataset], asked: Callable[[Dataset], bool | None]) -> bool | None:
    answers = {asked(ds) for ds in frames}
    return True if True in answers else False if False in answers else None


def _of(*keywords: str) -> Callable[[Dataset], float | None]:
    def positive(ds: Dataset) -> float | None:
        # devices write 0 for a pulse that was not played
        for keyword in keywords:
            value: Any = ds.get(keyword)
            value = value[0] if isinstance(value, MultiValue | list) and value else value
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if 0 < number < math.inf:
                return number
        return None

    return positive


def _common(frames: Sequence[Dataset], name: str, read: Callable[[Dataset], float | None]) -> float | None:
    values = [read(ds) for ds in frames]
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    if len(known) < len(values) or known[-1] - known[0] > _SAME_TIME * known[0]:
        raise UnsuitableSeries(
            "mixed-contrast",
            f"{name} from {known[0]:g} to {known[-1]:g} ms, absent in {len(values) - len(known)} slices",
            "one value in all slices",
            "send the parts as series of their own",
        )
    return known[len(known) // 2]


def _image_type(frames: Sequence[Dataset]) -> tuple[str, ...]:
    """Image Type of the series: that of the first frame which is not ORIGINAL, if there is one."""
    types = [_texts(ds, "FrameType", "ImageType") for ds in frames]
    return next((values for values in types if values[:1] != ("ORIGINAL",)), types[0])


def _scanning_sequence(ds: Dataset) -> tuple[str, ...]:
    """Scanning Sequence (PS3.3 C.8.3.1), or its terms for what enhanced objects say in C.8.13.4."""
    if "ScanningSequence" in ds or "EchoPulseSequence" not in ds:
        return _texts(ds, "ScanningSequence")
    terms = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(
        _text(ds, "EchoPulseSequence"), ()
    )
    for keyword, term in (("InversionRecovery", "IR"), ("EchoPlanarPulseSequence", "EP")):
        if _flag(ds, keyword):
            terms += (term,)
    return terms


def _scan_options(ds: Dataset) -> tuple[str, ...]:
    """Scan Options, with FS and WE for what enhanced objects say in MR Modifier (PS3.3 C.8.13.5.5)."""
    options = _texts(ds, "ScanOptions")
    suppressed = _text(ds, "SpectrallySelectedSuppression")
    excited = _text(ds, "SpectrallySelectedExcitation")
    return options + ("FS",) * suppressed.startswith("FAT") + ("WE",) * excited.startswith("WATER")


def _contrast_agent(ds: Dataset) -> bool | None:
    if ds.get("ContrastBolusAgentSequence") or ds.get("ContrastBolusAgentNumber"):
        return True
    agent = _text(ds, "ContrastBolusAgent").upper()
    return agent not in ("NO", "NONE") if agent else None


def _synthetic(ds: Dataset) -> bool:
    """Whether the headers say that the pixels were not acquired (PS3.3 C.12.1, C.8.6.1, CID 7005)."""
    purposes = (
        code.get("CodeValue")
        for item in ds.get("ContributingEquipmentSequence") or ()
        for code in item.get("PurposeOfReferenceCodeSequence") or ()
    )
    return (
        _flag(ds, "SyntheticData") is True
        or "SYNTHETIC" in _texts(ds, "ImageType")
        or _text(ds, "ConversionType") == "SYN"
        or _SYNTHESIZING_EQUIPMENT in purposes
    )


def _age_years(age: str) -> float | None:
    """Years of an Age String such as 045Y or 018M (PS3.5 6.2)."""
    number, unit = age[:-1], age[-1:]
    return int(number) * _YEARS[unit] if number.isascii() and number.isdigit() and unit in _YEARS else None

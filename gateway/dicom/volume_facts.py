"""The facts of a series that contracts ask for, read from the headers of all its frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from gateway.dicom.projection import is_projection, view_of
from gateway.dicom.volume_grid import Grid
from gateway.dicom.volume_values import flag_of, items_of, positive_of, text_of, texts_of
from gateway.errors import UnsuitableSeries
from pipelines.spec import SeriesFacts

_WITHIN = math.cos(math.radians(20))  # a plane keeps its name up to 20 degrees of obliquity
_SAME_TIME = 0.05  # fraction by which times may differ between slices: interleaved packages differ by rounding
_SYNTHESIZING_EQUIPMENT = "109100"  # CID 7005
_NO_STACK = ("LOCALIZER", "MOSAIC")  # Siemens tiles a volume into one image and calls it MOSAIC
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def series_facts(frames: Sequence[Dataset], grid: Grid) -> SeriesFacts:
    """The facts of `frames`, in the order of the volume and with functional groups lifted.

    What makes a series unsuitable (derived, synthetic, burned in, contrast agent) holds for the series when
    one frame says so. Raises UnsuitableSeries mixed-contrast when the frames' times differ, localizer for a
    localizer.
    """
    first = frames[0]
    for term in _NO_STACK:
        if any(term in texts_of(ds, "ImageType") + texts_of(ds, "FrameType") for ds in frames):
            raise UnsuitableSeries(term.lower(), f"Image Type {term}", "a stack of slices of one orientation")
    return SeriesFacts(
        modality=text_of(first, "Modality"),
        sop_class_uid=text_of(first, "SOPClassUID"),
        image_type=_image_type(frames),
        plane=view_of(first) if is_projection(first) else plane_of(grid),
        spacing_mm=grid.spacing_mm,
        shape=(len(frames), int(first.Rows), int(first.Columns)),
        tr_ms=_common(frames, "RepetitionTime"),
        te_ms=_common(frames, "EffectiveEchoTime", "EchoTime"),
        ti_ms=_common(frames, "InversionTimes", "InversionTime"),
        scanning_sequence=_scanning_sequence(first),
        sequence_variant=texts_of(first, "SequenceVariant"),
        scan_options=_scan_options(first),
        body_part=text_of(first, "BodyPartExamined"),
        series_description=text_of(first, "SeriesDescription"),
        contrast_agent=_any(frames, _contrast_agent),
        burned_in=_any(frames, lambda ds: flag_of(ds, "BurnedInAnnotation")),
        synthetic=any(map(_synthetic, frames)),
        patient_age_years=_age_years(text_of(first, "PatientAge")),
        slice_thickness_mm=positive_of(first, "SliceThickness"),
    )


def plane_of(grid: Grid) -> str:
    """sagittal, coronal or axial when the normal is within 20 degrees of that axis, otherwise oblique."""
    x, y, z = (abs(float(component)) for component in grid.direction[:, 0])
    return next((name for name, part in (("sagittal", x), ("coronal", y), ("axial", z)) if part >= _WITHIN), "oblique")


def _any(frames: Sequence[Dataset], asked: Callable[[Dataset], bool | None]) -> bool | None:
    answers = {asked(ds) for ds in frames}
    return True if True in answers else False if False in answers else None


def _common(frames: Sequence[Dataset], *keywords: str) -> float | None:
    values = [positive_of(ds, *keywords) for ds in frames]
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    if len(known) < len(values) or known[-1] - known[0] > _SAME_TIME * known[0]:
        raise UnsuitableSeries(
            "mixed-contrast",
            f"{keywords[0]} from {known[0]:g} to {known[-1]:g} ms, absent in {len(values) - len(known)} slices",
            "one value in all slices",
            "send the parts as series of their own",
        )
    return known[len(known) // 2]


def _image_type(frames: Sequence[Dataset]) -> tuple[str, ...]:
    """Image Type of the series: that of the first frame which is not ORIGINAL, if there is one."""
    types = [texts_of(ds, "FrameType", "ImageType") for ds in frames]
    return next((values for values in types if values[:1] != ("ORIGINAL",)), types[0])


def _scanning_sequence(ds: Dataset) -> tuple[str, ...]:
    """Scanning Sequence (PS3.3 C.8.3.1), or its terms for what enhanced objects say in C.8.13.4."""
    if "ScanningSequence" in ds or "EchoPulseSequence" not in ds:
        return texts_of(ds, "ScanningSequence")
    terms = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}.get(text_of(ds, "EchoPulseSequence"), ())
    for keyword, term in (("InversionRecovery", "IR"), ("EchoPlanarPulseSequence", "EP")):
        if flag_of(ds, keyword):
            terms += (term,)
    return terms


def _scan_options(ds: Dataset) -> tuple[str, ...]:
    """Scan Options, with FS and WE for what enhanced objects say in MR Modifier (PS3.3 C.8.13.5.5)."""
    options = texts_of(ds, "ScanOptions")
    suppressed = text_of(ds, "SpectrallySelectedSuppression")
    excited = text_of(ds, "SpectrallySelectedExcitation")
    return options + ("FS",) * suppressed.startswith("FAT") + ("WE",) * excited.startswith("WATER")


def _contrast_agent(ds: Dataset) -> bool | None:
    if items_of(ds, "ContrastBolusAgentSequence"):
        return True
    agent = text_of(ds, "ContrastBolusAgent").upper()
    return agent not in ("NO", "NONE") if agent else None


def _synthetic(ds: Dataset) -> bool:
    """Whether the headers say that the pixels were not acquired (PS3.3 C.12.1, C.8.6.1, CID 7005)."""
    purposes = (
        text_of(code, "CodeValue")
        for item in items_of(ds, "ContributingEquipmentSequence")
        for code in items_of(item, "PurposeOfReferenceCodeSequence")
    )
    return (
        flag_of(ds, "SyntheticData") is True
        or "SYNTHETIC" in texts_of(ds, "ImageType")
        or text_of(ds, "ConversionType") == "SYN"
        or _SYNTHESIZING_EQUIPMENT in purposes
    )


def _age_years(age: str) -> float | None:
    """Years of an Age String such as 045Y or 018M (PS3.5 6.2)."""
    number, unit = age[:-1], age[-1:]
    return int(number) * _YEARS[unit] if number.isascii() and number.isdigit() and unit in _YEARS else None

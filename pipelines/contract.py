"""What a model takes, by physics and geometry; Series Description is heard only as a witness against.

A description is typed by people and copied between protocols; repetition, echo and inversion times are what
the scanner did. So contrast is decided by the times and the sequence, and a description that claims another
contrast makes the series contradictory, which is refused too: either the header or the description is wrong,
and nobody here knows which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What the headers of one series say; None where they say nothing.

    spacing_mm  (between slices, between rows, between columns)
    shape       (slices, rows, columns)
    plane       sagittal, coronal, axial or oblique; of a radiograph its view: lateral, frontal or projection
    """

    modality: str
    sop_class_uid: str
    image_type: tuple[str, ...]
    plane: str
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    tr_ms: float | None
    te_ms: float | None
    ti_ms: float | None
    scanning_sequence: tuple[str, ...]
    sequence_variant: tuple[str, ...]
    scan_options: tuple[str, ...]
    body_part: str
    series_description: str
    contrast_agent: bool | None
    burned_in: bool | None
    synthetic: bool
    patient_age_years: float | None
    slice_thickness_mm: float | None = None

    @property
    def inversion(self) -> bool:
        """Whether an inversion pulse prepared the magnetisation."""
        return "IR" in self.scanning_sequence or "MP" in self.sequence_variant or bool(self.ti_ms)

    @property
    def fat_suppression(self) -> bool:
        """Whether fat was saturated (PS3.3 C.8.3.1, Scan Options FS and vendors' kin) or not excited."""
        return any(option.startswith(("FS", "FATSAT")) or option == "WE" for option in self.scan_options)


@dataclass(frozen=True, slots=True)
class Violation:
    """One point in which a series does not fit; `check` is a stable word for tables and metrics."""

    check: str
    found: str
    expected: str
    advice: str = ""


class Presence(StrEnum):
    """Whether a property of the series must be absent, may be there or must be there."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def _known(value: float | None) -> tuple[float, ...]:
    return () if value is None else (value,)


def _field_of_view(facts: SeriesFacts) -> tuple[float, ...]:
    return tuple(count * spacing for count, spacing in zip(facts.shape[1:], facts.spacing_mm[1:], strict=True))


# name in a manifest's ranges -> the values of a series that must lie inside; none when the headers do not say
QUANTITIES: Mapping[str, Callable[[SeriesFacts], tuple[float, ...]]] = MappingProxyType(
    {
        "tr_ms": lambda facts: _known(facts.tr_ms),
        "te_ms": lambda facts: _known(facts.te_ms),
        "ti_ms": lambda facts: _known(facts.ti_ms),
        "slices": lambda facts: facts.shape[:1],
        "matrix": lambda facts: facts.shape[1:],
        "pixel_spacing_mm": lambda facts: facts.spacing_mm[1:],
        "slice_spacing_mm": lambda facts: facts.spacing_mm[:1],
        "slice_gap_mm": lambda facts: tuple(facts.spacing_mm[0] - each for each in _known(facts.slice_thickness_mm)),
        "field_of_view_mm": _field_of_view,
        "age_years": lambda facts: _known(facts.patient_age_years),
    }
)
# patient attributes, whose values stay out of messages
_PRIVATE = frozenset({"age_years"})


@dataclass(frozen=True, slots=True)
class DescriptionWords:
    """Beginnings of words in Series Description that speak for or against the expected contrast."""

    confirms: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    contradicts_unless_confirmed: tuple[str, ...] = ()

    def contradiction(self, description: str) -> str | None:
        """The word of `description` that speaks against, or None."""
        against = self.contradicts
        if not any(_says(description, word) for word in self.confirms):
            against += self.contradicts_unless_confirmed
        return next((word for word in against if _says(description, word)), None)


def _says(description: str, word: str) -> bool:
    """Whether a word of `description` begins with `word`: T1 is in "t1_tse" and "T1W", not in "T10"."""
    follows = r"(?![0-9])" if word[-1].isdigit() else ""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}{follows}", description, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class InputContract:
    """What one input of a model must be; empty tuples and absent ranges accept everything.

    Of several inputs the result lies on the grid of the one with `grid`, and the others are brought to it.
    """

    role: str
    modality: str
    sop_classes: tuple[str, ...] = ()
    planes: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    refused_image_types: tuple[str, ...] = ()
    scanning_sequences: tuple[str, ...] = ()
    inversion: Presence = Presence.ACCEPTED
    fat_suppression: Presence = Presence.ACCEPTED
    contrast_agent: Presence = Presence.ACCEPTED
    may_be_missing: frozenset[str] = frozenset()
    ranges: Mapping[str, Range] = field(default_factory=dict)
    description: DescriptionWords = DescriptionWords()
    grid: bool = False

    def check(self, facts: SeriesFacts) -> tuple[Violation, ...]:
        """Every point in which the series does not fit, none when it does."""
        return tuple(
            violation
            for check in (self._origin, self._kind, self._preparation, self._quantities, self._description)
            for violation in check(facts)
        )

    def _origin(self, facts: SeriesFacts) -> Iterator[Violation]:
        """Acquired by a scanner: a network must not be fed with a network's output."""
        if facts.synthetic:
            yield Violation("synthetic", "a series marked as synthetic", "an acquired series")
        if facts.image_type[:1] != ("ORIGINAL",):
            yield Violation(
                "image-type", _listed(facts.image_type), "ORIGINAL as first value", "send the acquired series"
            )
        refused = [value for value in facts.image_type[1:] if value in self.refused_image_types]
        if refused:
            yield Violation("image-type", _listed(facts.image_type), f"none of {_listed(self.refused_image_types)}")
        if facts.burned_in:
            yield Violation(
                "burned-in", "Burned In Annotation YES", "NO or absent", "text would be translated as anatomy"
            )

    def _kind(self, facts: SeriesFacts) -> Iterator[Violation]:
        if facts.modality != self.modality:
            yield Violation("modality", facts.modality or "none", self.modality)
        if self.sop_classes and facts.sop_class_uid not in self.sop_classes:
            yield Violation("sop-class", facts.sop_class_uid or "none", _listed(self.sop_classes))
        if self.planes and facts.plane not in self.planes:
            yield Violation("plane", facts.plane, _listed(self.planes))
        if self.body_parts and facts.body_part and facts.body_part not in self.body_parts:
            yield Violation("body-part", facts.body_part, _listed(self.body_parts))
        if self.scanning_sequences and not set(self.scanning_sequences) & set(facts.scanning_sequence):
            yield Violation("scanning-sequence", _listed(facts.scanning_sequence), _listed(self.scanning_sequences))

    def _preparation(self, facts: SeriesFacts) -> Iterator[Violation]:
        for check, wanted, there, found in (
            ("inversion", self.inversion, facts.inversion, f"inversion time {facts.ti_ms or 'unknown'}"),
            (
                "fat-suppression",
                self.fat_suppression,
                facts.fat_suppression,
                f"Scan Options {_listed(facts.scan_options)}",
            ),
            ("contrast-agent", self.contrast_agent, bool(facts.contrast_agent), "a contrast agent"),
        ):
            if wanted is Presence.REFUSED and there:
                yield Violation(check, found, "none")
            if wanted is Presence.REQUIRED and not there:
                yield Violation(check, "none", check.replace("-", " "))

    def _quantities(self, facts: SeriesFacts) -> Iterator[Violation]:
        for name, allowed in self.ranges.items():
            check = name.replace("_", "-")
            values = QUANTITIES[name](facts)
            if not values and name not in self.may_be_missing:
                yield Violation(check, "nothing in the headers", str(allowed), "the series cannot be judged without it")
            if any(value not in allowed for value in values):
                found = "a value outside" if name in _PRIVATE else " x ".join(f"{value:.4g}" for value in values)
                yield Violation(check, found, str(allowed))

    def _description(self, facts: SeriesFacts) -> Iterator[Violation]:
        word = self.description.contradiction(facts.series_description)
        if word is not None:
            yield Violation(
                "contradictory",
                f"{word} in Series Description",
                f"a description that fits {self.role}",
                "the description claims another contrast; correct the protocol at the scanner",
            )


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "none"

"""Why a rule matched or did not: a tree with a tick or a cross per condition, for people.

A trace holds the values that were found, and some of those are the patient's. It is made for the screen of an
administrator; only `Trace.redacted` goes into a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

# Attributes whose values never describe a patient. All others are redacted, those given by number too.
# fmt: off
LOGGABLE = frozenset({
    "calling_ae_title", "called_ae_title", "source_address", "AcquisitionMatrix", "BitsAllocated",
    "BitsStored", "BodyPartExamined", "Columns", "ConvolutionKernel", "EchoNumbers", "EchoTime",
    "EchoTrainLength", "FlipAngle", "FrameOfReferenceUID", "ImageType", "InversionTime", "KVP",
    "Laterality", "MagneticFieldStrength", "Manufacturer", "ManufacturerModelName", "Modality",
    "MRAcquisitionType", "NumberOfFrames", "PatientPosition", "PhotometricInterpretation", "PixelBandwidth",
    "PixelSpacing", "RepetitionTime", "Rows", "SamplesPerPixel", "ScanningSequence", "ScanOptions",
    "SequenceName", "SequenceVariant", "SeriesInstanceUID", "SeriesNumber", "SliceThickness", "SOPClassUID",
    "SpacingBetweenSlices", "StudyInstanceUID", "TransferSyntaxUID",
})
# fmt: on
ABSENT, EMPTY = "absent", "empty"
_MAX_SHOWN_VALUES = 8
_MAX_SHOWN_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Trace:
    """One condition's outcome. `expected` and `found` are texts for people; groups carry `children`."""

    operator: str
    matched: bool
    attribute: str = ""
    expected: str = ""
    found: str = ""
    children: tuple[Trace, ...] = ()

    @property
    def text(self) -> str:
        """The tree as indented lines; contains the values found."""
        return "\n".join(self._lines())

    def redacted(self) -> Trace:
        """The same tree without any value of an attribute that may describe the patient."""
        children = tuple(child.redacted() for child in self.children)
        if not self.attribute or self.attribute in LOGGABLE:
            return replace(self, children=children)
        found = self.found if self.found in (ABSENT, EMPTY) else "a value"
        return replace(self, expected="(redacted)", found=found)

    def to_table(self) -> dict[str, Any]:
        """The tree as plain dicts and lists, to be kept as JSON."""
        return {
            "operator": self.operator,
            "matched": self.matched,
            "attribute": self.attribute,
            "expected": self.expected,
            "found": self.found,
            "children": [child.to_table() for child in self.children],
        }

    def _lines(self, indent: str = "") -> list[str]:
        asked = " ".join(filter(None, (self.attribute, self.operator.replace("_", " "), self.expected)))
        own = f"{indent}[{'x' if self.matched else ' '}] {asked}" + (f": {self.found}" if self.found else "")
        return [own, *(line for child in self.children for line in child._lines(indent + "    "))]


def shown(value: object) -> str:
    """A value for people: text in quotes and shortened, numbers in their shortest form."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number too large" if abs(value) > 1e300 else f"{value:.12g}"
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    text = str(value)
    return repr(text if len(text) <= _MAX_SHOWN_LENGTH else text[: _MAX_SHOWN_LENGTH - 1] + "…")


def shown_values(values: Sequence[object]) -> str:
    """Several values for people, the first few of many."""
    more = len(values) - _MAX_SHOWN_VALUES
    return ", ".join(map(shown, values[:_MAX_SHOWN_VALUES])) + (f" and {more} more" if more > 0 else "")

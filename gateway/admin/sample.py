"""Headers to try a rule on: a dropped DICOM file, a pasted header, or a series that came lately."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword

from gateway.dicom.header import Attributes, read_attributes
from gateway.errors import ConfigurationError, NotDicom

Lookup = Callable[[str], tuple[str | float, ...] | None]

_NUMERIC = frozenset({"DS", "IS", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_LARGEST_PASTE = 100_000


def of_file(content: bytes) -> Attributes:
    """The attributes of a Part 10 file. Raises NotDicom."""
    if not content:
        raise NotDicom("file: found nothing in it; expected a DICOM file")
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        return read_attributes(Path(file.name))


def of_text(text: str) -> Lookup:
    """A lookup in a pasted header: a line for each attribute, ``Modality = MR``, values between backslashes.

    Raises ConfigurationError naming the line.
    """
    if len(text) > _LARGEST_PASTE:
        raise ConfigurationError(f"header: found {len(text)} characters; expected at most {_LARGEST_PASTE}")
    values: dict[str, tuple[str | float, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = "=" if "=" in line else ":"
        keyword, found, value = (part.strip() for part in line.partition(separator))
        if not found:
            raise ConfigurationError(f"header, line {number}: found no = ; expected such as Modality = MR")
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ConfigurationError(f"header, line {number}: found {keyword[:64]!r}; expected a DICOM keyword")
        values[keyword] = _values(value, dictionary_VR(tag))
    return values.get


def _values(text: str, vr: str) -> tuple[str | float, ...]:
    if not text:
        return ()
    return tuple(_number(part) if vr in _NUMERIC else part.strip() for part in text.split("\\"))


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text.strip()

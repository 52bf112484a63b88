"""Whether a text names the patient of an instance: what a peer says of an instance may, and is kept and logged."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom import dcmread

_ATTRIBUTES = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
_SHORTEST = 3  # shorter parts of a name stand in any text


def names_patient(text: str, file: Path) -> bool:
    """True when `text` holds a part of a name, an id or the birth date of the instance in `file`."""
    ds = dcmread(file, specific_tags=list(_ATTRIBUTES), stop_before_pixels=True)
    values = " ".join(str(ds.get(keyword, "")) for keyword in _ATTRIBUTES).casefold()
    parts = {part for part in re.split(r"[\W_]+", values) if len(part) >= _SHORTEST}
    return any(part in text.casefold() for part in parts)

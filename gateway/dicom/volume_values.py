"""Values of a data set as a reader of foreign headers wants them: what is unreadable counts as absent."""

from __future__ import annotations

import math
from struct import error as StructError  # noqa: N812 - the standard library names an exception in lower case
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

# what pydicom and its decoders raise for data sets that are damaged
DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    StructError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,  # "no tag to read"; files are opened outside
    RuntimeError,  # RecursionError and NotImplementedError are RuntimeErrors
    TypeError,
    ValueError,
)


def values_of(ds: Dataset, *keywords: str) -> tuple[Any, ...]:
    """All values of the first of `keywords` that has one; none for a value that its VR forbids (IS "1A")."""
    for keyword in keywords:
        try:
            value = ds.get(keyword)
        except DAMAGED:
            continue
        values = tuple(value) if isinstance(value, MultiValue | Sequence | list) else (value,)
        if values and values[0] not in (None, "", b""):
            return values
    return ()


def texts_of(ds: Dataset, *keywords: str) -> tuple[str, ...]:
    """The same as text; bytes too, as nodes with an older dictionary leave newer attributes."""
    values = values_of(ds, *keywords)
    texts = (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value) for value in values)
    return tuple(text.strip(" \0") for text in texts)


def text_of(ds: Dataset, *keywords: str) -> str:
    """The first value as text, "" where there is none."""
    return next(iter(texts_of(ds, *keywords)), "")


def numbers_of(ds: Dataset, *keywords: str) -> tuple[float, ...]:
    """The values as finite numbers; none when one of them is not."""
    try:
        numbers = tuple(float(value) for value in values_of(ds, *keywords))
    except (TypeError, ValueError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def positive_of(ds: Dataset, *keywords: str) -> float | None:
    """The first value above 0 among `keywords`: devices write 0 for what they do not know or did not do."""
    return next((number for keyword in keywords for number in numbers_of(ds, keyword)[:1] if number > 0), None)


def flag_of(ds: Dataset, keyword: str) -> bool | None:
    """YES or NO, None for anything else."""
    return {"YES": True, "NO": False}.get(text_of(ds, keyword))


def items_of(ds: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence, none when it is absent or no sequence."""
    return tuple(item for item in values_of(ds, keyword) if isinstance(item, Dataset))

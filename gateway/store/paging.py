"""One page of a list: what comes after or before a key, by the index that orders the list; no count, no offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

Row = dict[str, Any]
Key = Sequence[sa.Column[Any]]

_LARGEST = 2**63 - 1  # the databases have no larger integer
_LARGEST_OF_FOUR_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a page lies: after the last row of one page, or before the first row of another; at the start without."""

    after: str = ""
    before: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the keys of the pages beside them, empty where there is none."""

    rows: list[Row]
    before: str
    after: str

    def to_table(self, name: str) -> dict[str, Any]:
        """As the REST API gives it: the rows under `name`, the keys null where there is no further page."""
        return {name: self.rows, "before": self.before or None, "after": self.after or None}


def page(
    connection: Connection, query: sa.Select[Any], key: Key, cut: Cut, limit: int, *, falling: bool = True
) -> Page:
    """The `limit` rows of `query` at `cut`, ordered by `key`: columns that it selects, together unique, of one index.

    A key that no page gave begins at the start: addresses are typed and shortened by people.
    """
    backwards = not cut.after
    start = _read(cut.after or cut.before, key)
    backwards = backwards and start is not None
    down = falling is not backwards
    if start is not None:
        here = sa.tuple_(*key)
        there = sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(start, key, strict=True)))
        query = query.where(here < there if down else here > there)
    query = query.order_by(*(column.desc() if down else column.asc() for column in key)).limit(limit + 1)
    rows = [dict(row._mapping) for row in connection.execute(query)]
    more = len(rows) > limit
    del rows[limit:]
    if backwards:
        rows.reverse()
    if not rows:
        return Page([], "", "")
    has_before, has_after = (more, True) if backwards else (start is not None, more)
    return Page(rows, write(rows[0], key) if has_before else "", write(rows[-1], key) if has_after else "")


def write(row: Row, key: Key) -> str:
    """The key of a row as it stands in an address; a float keeps every bit."""
    return "_".join(str(row[column.name]) for column in key)


def _read(text: str, key: Key) -> list[Any] | None:
    """The values in a key, None when they are none: only the last one may itself hold an underscore."""
    parts = text.split("_", len(key) - 1)
    if not text or len(parts) != len(key) or "\0" in text:
        return None
    try:
        values = [column.type.python_type(part) for part, column in zip(parts, key, strict=True)]
    except ValueError:
        return None
    return None if any(_is_too_large(value, column.type) for value, column in zip(values, key, strict=True)) else values


def _is_too_large(value: Any, type_: sa.types.TypeEngine[Any]) -> bool:
    most = _LARGEST if isinstance(type_, sa.BigInteger) else _LARGEST_OF_FOUR_BYTES
    return isinstance(value, int) and abs(value) > most

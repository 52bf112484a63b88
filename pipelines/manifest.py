"""`Table`: typed reading of a TOML table in which every key is named when it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pipelines.errors import ManifestError

Choice = TypeVar("Choice", str, int)
_ABSENT = object()


class Table:
    """One TOML table; remembers what was read, so that `refuse_unknown` can name what nobody asked for."""

    def __init__(self, content: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self._content = content
        self._path = path
        self._prefix = prefix
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def refuse(self, key: str, found: object, expected: str) -> NoReturn:
        """Raise ManifestError for `key`."""
        raise ManifestError(f"{self._path}: {self._prefix}{key}: found {found!r}, expected {expected}")

    def refuse_unknown(self) -> None:
        """Raise ManifestError when a key was not read: a misspelt key must not pass as absent."""
        for key in self._content:
            if key not in self._read:
                raise ManifestError(
                    f"{self._path}: {self._prefix}{key}: unknown key; remove it or correct its spelling"
                )

    def text(self, key: str, default: str | None = None) -> str:
        """A string, not blank unless that is its default."""
        value = self._take(key, "text", default)
        if not isinstance(value, str) or (not value.strip() and value != default):
            self.refuse(key, value, "text")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        """A string that `pattern` describes wholly."""
        value = self.text(key)
        if not pattern.fullmatch(value):
            self.refuse(key, value, expected)
        return value

    def choice(self, key: str, choices: Sequence[Choice], default: Choice | None = None) -> Choice:
        """One of `choices`."""
        value = self._take(key, f"one of {list(choices)}", default)
        if value not in choices:
            self.refuse(key, value, f"one of {', '.join(map(str, choices))}")
        return cast(Choice, value)

    def choices(self, key: str, choices: Sequence[str]) -> tuple[str, ...]:
        """Some of `choices`; none when the key is absent."""
        values = self.texts(key)
        for value in values:
            if value not in choices:
                self.refuse(key, value, f"some of {', '.join(choices)}")
        return values

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty when the key is absent."""
        values = self._take(key, "a list of text", [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            self.refuse(key, values, "a list of text")
        return tuple(values)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value = self._take(key, "true or false", _ABSENT if default is None else default)
        if not isinstance(value, bool):
            self.refuse(key, value, "true or false")
        return value

    def integer(self, key: str, *, at_least: int) -> int:
        """A whole number."""
        value = self._take(key, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            self.refuse(key, value, f"a whole number of at least {at_least}")
        return value

    def number(self, key: str, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
        """A finite number."""
        value = self._take(key, "a number")
        if not _is_number(value) or value <= above or value < at_least:
            bound = f" above {above}" if above > -math.inf else f" of at least {at_least}"
            self.refuse(key, value, f"a number{bound}")
        return float(value)

    def pair(self, key: str) -> tuple[float, float]:
        """Two finite numbers, the first not above the second."""
        value = self._take(key, "[low, high]")
        if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)) or value[0] > value[1]:
            self.refuse(key, value, "[low, high], two numbers with low <= high")
        return float(value[0]), float(value[1])

    def scalars(self) -> dict[str, int | float | bool | str]:
        """The whole table, whose values must be numbers, flags or text."""
        for key in self._content:
            value = self._take(key, "a number, a flag or text")
            if not isinstance(value, int | float | bool | str):
                self.refuse(key, value, "a number, a flag or text")
        return dict(self._content)

    def table(self, key: str, optional: bool = False) -> Table:
        """A table in this one; empty when optional and absent."""
        value = self._take(key, "a table", {} if optional else _ABSENT)
        if not isinstance(value, dict):
            self.refuse(key, value, f"a table [{self._prefix}{key}]")
        return Table(value, self._path, f"{self._prefix}{key}.")

    def tables(self, key: str) -> tuple[Table, ...]:
        """An array of at least one table."""
        values = self._take(key, f"tables [[{self._prefix}{key}]]")
        if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
            self.refuse(key, values, f"at least one table [[{self._prefix}{key}]]")
        return tuple(Table(value, self._path, f"{self._prefix}{key}[{index}].") for index, value in enumerate(values))

    def _take(self, key: str, expected: str, default: Any = _ABSENT) -> Any:
        self._read.add(key)
        if key in self._content:
            return self._content[key]
        if default is _ABSENT or default is None:
            raise ManifestError(f"{self._path}: {self._prefix}{key}: missing, expected {expected}")
        return default


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

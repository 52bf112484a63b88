"""Where each setting in use came from: its default, the settings file or a variable. Secrets stay hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PREFIX, DELIMITER = "ATHANOR_", "__"
HIDDEN = "not shown"
DEFAULT, FILE, ENVIRONMENT = "default", "file", "environment"

# what may hold a secret, by a word in its name: so one that is added later is hidden, too
_SECRET = re.compile(
    r"(^|_)(urls?|secrets?|passwords?|tokens?|keys?|passphrase|credentials?|senders|syslog|webhooks?)(_|$)"
)
_UNITS = {"_bytes_per_s": "bytes/s", "_bytes": "bytes", "_days": "days", "_ms": "ms", "_mm": "mm", "_s": "seconds"}


@dataclass(frozen=True, slots=True)
class Given:
    """What the file and the environment gave: dotted keys in lower case, of the environment with the variable."""

    file: Path | None = None
    modified_ns: int = 0
    in_file: frozenset[str] = frozenset()
    in_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_old(self) -> bool:
        """Whether the file was changed after it was read: a restart is due."""
        try:
            return self.file is not None and self.file.stat().st_mtime_ns != self.modified_ns
        except OSError:
            return True


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting in use; `origin` is default, file or environment, `source` says which file or variable."""

    key: str
    value: str
    default: str
    unit: str
    help: str
    origin: str
    source: str


def given_by(file: Path | None, values: Mapping[str, Any], environment: Mapping[str, str]) -> Given:
    """What `file`, which holds `values`, and the environment say."""
    variables: dict[str, str] = {}
    for name, text in environment.items():
        if name.upper().startswith(PREFIX):
            key = name[len(PREFIX) :].lower().replace(DELIMITER, ".")
            variables |= dict.fromkeys((key, *_keys(_table(text), key)), name)
    modified_ns = file.stat().st_mtime_ns if file else 0
    return Given(file and file.resolve(), modified_ns, frozenset(_keys(values)), variables)


def _table(text: str) -> Mapping[str, Any]:
    """The table that a variable holds as JSON, else none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        key = f"{prefix}.{name}".lower().lstrip(".")
        yield key
        if isinstance(value, dict):
            yield from _keys(value, key)


def effective(settings: BaseModel, given: Given, text: str = "", *, only_given: bool = False) -> list[EffectiveSetting]:
    """Every setting in use, in the order of the declarations, whose key, help or source holds `text`."""
    wanted = text.strip().lower()
    return [
        one
        for one in _walk(settings, given, "")
        if (one.origin != DEFAULT or not only_given) and wanted in f"{one.key} {one.help} {one.source}".lower()
    ]


def _walk(table: BaseModel, given: Given, prefix: str) -> Iterator[EffectiveSetting]:
    for name, declared in type(table).model_fields.items():
        key, value = f"{prefix}{name}", getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, given, f"{key}.")
        elif isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values()):
            for inner, one in value.items():
                yield from _walk(one, given, f"{key}.{inner}.")
        else:
            yield _setting(key, name, value, declared, given)


def _setting(key: str, name: str, value: Any, declared: FieldInfo, given: Given) -> EffectiveSetting:
    default = declared.get_default(call_default_factory=True, validated_data={})
    is_secret = _SECRET.search(name) is not None and "Path" not in str(declared.annotation)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    words = _hidden if is_secret else _words
    origin, source = _origin(key.lower(), given)
    return EffectiveSetting(
        key, words(value), "required" if default is PydanticUndefined else words(default),
        next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix) and is_number), ""),
        declared.description or "", origin, source,
    )  # fmt: skip


def _origin(key: str, given: Given) -> tuple[str, str]:
    """Where a key came from; the keys of a table that is one setting count, too."""
    below = f"{key}."
    for known, variable in given.in_environment.items():
        if known == key or known.startswith(below):
            return ENVIRONMENT, variable
    if any(known == key or known.startswith(below) for known in given.in_file):
        return FILE, str(given.file)
    return DEFAULT, DEFAULT


def _words(value: Any) -> str:
    """A value as a person would write it."""
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} = {_words(one)}" for key, one in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(_words, value))
    return str(value) or "empty"


def _hidden(value: Any) -> str:
    """That there is a value, and no more of it than helps: names of a table, scheme and host of a URL without user."""
    if isinstance(value, bool | int | float) or not value:
        return _words(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key} ({HIDDEN})" for key in value)
    try:
        parts = urlsplit(str(value))
    except ValueError:
        return HIDDEN
    if not parts.scheme or not parts.netloc or "@" in str(value):
        return HIDDEN
    return f"{parts.scheme}://{parts.netloc}" + (f"/… ({HIDDEN})" if parts.path.strip("/") or parts.query else "")

"""What is wrong with a setting, in words: its key, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails


def words_of(problem: ErrorDetails, settings: type[BaseModel]) -> str:
    """One problem that pydantic found in `settings`; the value of a URL, which may hold a password, is left out."""
    path = problem["loc"]
    where = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        return f"{where}: {unknown_key(str(path[-1]), _keys_beside(path, settings))}"
    if problem["type"] == "missing":
        return f"{where}: found none; expected a value"
    expected = (
        problem["msg"]
        .removeprefix("Value error, ")
        .replace("Input should be", "expected")
        .replace("String should have", "expected")
    )
    # our own validators say what they found
    hidden = problem["type"] == "value_error" or path[-1] == "url"
    return f"{where}: {expected}" if hidden else f"{where}: found {problem['input']!r}; {expected}"


def unknown_key(key: str, known: Collection[str]) -> str:
    """What to say of `key`, with the nearest of the known ones."""
    near = get_close_matches(key, known, n=1)
    return f"found an unknown key; expected {near[0] if near else 'one of ' + ', '.join(known)}"


def _keys_beside(path: tuple[int | str, ...], settings: type[BaseModel]) -> Collection[str]:
    """The keys of the table in which `path` ends."""
    table: Any = settings
    for part in path[:-1]:
        inner = get_args(table)[1] if get_origin(table) is dict else table.model_fields[part].annotation
        if get_origin(inner) is dict:
            table = inner
        else:  # Table, or Table | None
            table = next((one for one in get_args(inner) if hasattr(one, "model_fields")), inner)
    return list(table.model_fields)

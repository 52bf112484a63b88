"""settings.toml says all there is to say: every key, its default, and what it means."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.settings import Settings, read_settings

FILE = Path(__file__).parents[3] / "settings.toml"
TEXT = FILE.read_text(encoding="utf-8")


def declared(table: type[BaseModel] = Settings, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """(table, key, default) of every setting of the code; a destination stands under the name of an example."""
    for key, field in table.model_fields.items():
        inner: Any = field.annotation
        where = f"{path}.{key}".removeprefix(".")
        if get_origin(inner) is dict and hasattr(get_args(inner)[1], "model_fields"):
            inner, where = get_args(inner)[1], f"{where}.pacs"
        elif not hasattr(inner, "model_fields"):
            inner = next((one for one in get_args(inner) if hasattr(one, "model_fields")), None)
        if inner is not None:
            yield from declared(inner, where)
        else:
            yield path, key, field.get_default(call_default_factory=True)


ALL = list(declared())
KEYS = {(table, key) for table, key, _ in ALL}
# what is commented out in the file, for a line of it would mean something: a path, or a table of its own
COMMENTED = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", TEXT)


def lines_of(text: str) -> dict[tuple[str, ...], str]:
    """The line of each key, by table and key."""
    found: dict[tuple[str, ...], str] = {}
    table = ""
    for line in text.splitlines():
        if heading := re.match(r"\[([a-z_.]+)\]", line):
            table = heading[1]
            if (own := tuple(table.rpartition(".")[::2])) in KEYS:  # a setting that is a table of its own
                found[own] = line
        elif key := re.match(r"([a-z_]+) = ", line):
            found[table, key[1]] = line
    return found


LINES = lines_of(COMMENTED)


@pytest.mark.parametrize(("table", "key", "default"), ALL, ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_stands_in_the_file_with_its_default_and_a_comment(table: str, key: str, default: Any) -> None:
    assert (table, key) in LINES, "not in settings.toml"
    comment = LINES[table, key].rpartition("  # ")[2]
    assert len(comment.split()) >= 2, "no comment says what it means"
    if default is PydanticUndefined or (table.startswith("destinations") and key in {"ae_title", "host", "port"}):
        return  # the file shows an example
    value = tomllib.loads(COMMENTED)
    for part in (*filter(None, table.split(".")), key):
        value = value[part]
    if default in (None, {}):
        live = lines_of(TEXT)
        assert (table, key) not in live, "a line of it would change what the code does without it"
        return
    value = tuple(value) if isinstance(default, tuple) else value
    value = {key: tuple(one) for key, one in value.items() if key in default} if isinstance(default, dict) else value
    assert value == (str(default) if isinstance(default, Path) else default)


def test_every_line_of_the_file_is_a_setting() -> None:
    assert set(LINES) == KEYS


def test_the_file_means_what_no_file_means_but_for_destinations() -> None:
    from_file = read_settings(FILE)
    without = read_settings()
    here = Path.cwd()

    def comparable(settings: Settings, folder: Path) -> str:
        return settings.model_dump_json(exclude={"destinations"}).replace(str(folder), "FOLDER")

    assert comparable(from_file, FILE.parent) == comparable(without, here)
    assert set(from_file.destinations) == {"pacs"}


def test_every_setting_has_help() -> None:
    def tables(table: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield table
        for field in table.model_fields.values():
            for one in (field.annotation, *get_args(field.annotation)):
                if hasattr(one, "model_fields"):
                    yield from tables(one)  # type: ignore[arg-type]

    for table in tables(Settings):
        for key, field in table.model_fields.items():
            if not hasattr(field.annotation, "model_fields"):
                assert field.description, f"{table.__name__}.{key}"

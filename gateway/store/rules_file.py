"""Rules as a TOML file that people edit: read with all its errors named, and written to be read again."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT, Array, InlineTable, Item, Table

from gateway.domain.rule_tables import rule_to_table, rules_from_table
from gateway.domain.rules import Rule
from gateway.errors import ConfigurationError


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of the file, in order. Raises ConfigurationError with the file, the place and what was found."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}); expected a TOML file in UTF-8") from None
    return parse_rules(text, str(path))


def parse_rules(text: str, source: str = "rules") -> tuple[Rule, ...]:
    """The rules of a TOML text; `source` names it in errors. Raises ConfigurationError."""
    try:
        return rules_from_table(tomllib.loads(text))
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    except (ValueError, RecursionError) as error:  # also numbers and nestings beyond what the parser takes
        raise ConfigurationError(f"{source}: found no TOML: {error}") from None


def format_rules(rules: Sequence[Rule]) -> str:
    """TOML text from which `parse_rules` reads these rules; one condition a line."""
    document = tomlkit.document()
    entries = AoT([])
    for rule in rules:
        entries.append(_table(rule_to_table(rule)))
    document.append("rules", entries)
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for key, value in values.items():
        if key == "when":
            table.append(key, _condition(value))
        elif key == "inputs":
            inputs = AoT([])
            for entry in value:
                inputs.append(_table(entry))
            table.append(key, inputs)
        else:
            table.append(key, tomlkit.item(value))
    return table


def _condition(values: Mapping[str, Any]) -> Table:
    """The outermost condition: a table of its own, its list with one condition a line."""
    table = tomlkit.table()
    for key, value in values.items():
        table.append(key, _lines(value) if key in ("all", "any") else _inline(value))
    return table


def _lines(entries: Sequence[Mapping[str, Any]]) -> Array:
    array = tomlkit.array().multiline(True)
    for entry in entries:
        array.append(_inline(entry))
    return array


def _inline(value: Any) -> Item:
    if isinstance(value, dict):
        table: InlineTable = tomlkit.inline_table()
        for key, inner in value.items():
            table.append(key, _inline(inner))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for inner in value:
            array.append(_inline(inner))
        return array
    scalar: Item = tomlkit.item(value)
    return scalar

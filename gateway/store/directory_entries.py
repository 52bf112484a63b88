"""Senders and destinations that administrators keep in the database, beside those of the settings.

Every change is a row that stays: the last row of a name counts, and one without a definition removed it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy.engine import Connection

from gateway.dicom.provenance import encoding_of
from gateway.errors import ConfigurationError
from gateway.settings import Destination, Settings
from gateway.settings.values import AETitle, Networks
from gateway.settings.words import words_of
from gateway.store import destinations
from gateway.store.database import LOCK_OF_THE_DIRECTORY, now
from gateway.store.tables import directory_entry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_FILES = ("token_file", "tls.ca", "tls.certificate", "tls.key")


class Kind(StrEnum):
    """What an entry is."""

    SENDER = "sender"
    DESTINATION = "destination"


class Sender(BaseModel):
    """From where an AE title may call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: Networks = Field(min_length=1, max_length=32)
    note: str = Field("", max_length=200)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in force; `created_at` in seconds since 1970."""

    kind: Kind
    name: str
    version: int
    definition: Mapping[str, Any]
    author: str
    reason: str
    created_at: float


class InvalidEntry(ConfigurationError):  # noqa: N818 - the statement, not the suffix, says what it is
    """An entry that cannot be kept; `problems` has the words for each field."""

    def __init__(self, what: str, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__(f"{what}: " + "; ".join(f"{field}: {words}" for field, words in problems.items()))


def revision(connection: Connection) -> int:
    """A number that grows with every change."""
    return connection.execute(sa.select(sa.func.max(directory_entry.c.id))).scalar_one() or 0


def entries(connection: Connection) -> list[Entry]:
    """The entries in force, by kind and name."""
    last = sa.select(sa.func.max(directory_entry.c.id)).group_by(directory_entry.c.kind, directory_entry.c.name)
    rows = connection.execute(
        sa.select(directory_entry)
        .where(directory_entry.c.id.in_(last))
        .order_by(directory_entry.c.kind, directory_entry.c.name)
    )
    return [_entry(row) for row in rows if row.definition is not None]


def find(connection: Connection, kind: Kind, name: str) -> Entry | None:
    """The entry in force of that name."""
    if not name.isprintable():  # PostgreSQL takes no NUL
        return None
    row = connection.execute(_versions(kind, name).limit(1)).one_or_none()
    return _entry(row) if row is not None and row.definition is not None else None


def history(connection: Connection, kind: Kind, name: str) -> list[dict[str, Any]]:
    """Every version, the latest first; the definition of one that removed it is None."""
    return [dict(row._mapping) for row in connection.execute(_versions(kind, name))]


def put_sender(
    connection: Connection,
    settings: Settings,
    ae_title: str,
    definition: Mapping[str, Any],
    *,
    author: str,
    reason: str = "",
    expected_version: int | None = None,
) -> Entry:
    """Let an AE title call from these addresses and no others. Raises InvalidEntry."""
    title, sender = require_sender(settings, ae_title, definition)
    return _keep(connection, Kind.SENDER, title, sender.model_dump(mode="json"), author, reason, expected_version)


def require_sender(settings: Settings, ae_title: str, definition: Mapping[str, Any]) -> tuple[str, Sender]:
    """The AE title as it is kept, and from where it may call. Raises InvalidEntry."""
    problems: dict[str, str] = {}
    title = _checked(AETitle, ae_title, "ae_title", problems)
    if title == "*":
        problems["ae_title"] = 'found *; expected one AE title: what any may do stands in settings.toml, "*" = ...'
    elif title in settings.listener.peers:
        problems["ae_title"] = f"found {title} in [listener.peers] of the settings; change it there"
    sender = _checked(Sender, definition, "", problems)
    if problems:
        raise InvalidEntry("sender", problems)
    return title, sender


def allow(connection: Connection, settings: Settings, ae_title: str, address: str, *, author: str) -> Entry:
    """Let an AE title call from one more address. Raises InvalidEntry."""
    known = find(connection, Kind.SENDER, ae_title.strip())
    definition = dict(known.definition) if known else {}
    definition["addresses"] = [*dict.fromkeys([*definition.get("addresses", ()), address])]
    return put_sender(
        connection, settings, ae_title, definition, author=author, reason=f"allowed {address}",
        expected_version=known.version if known else None,
    )  # fmt: skip


def put_destination(
    connection: Connection,
    settings: Settings,
    name: str,
    definition: Mapping[str, Any],
    *,
    author: str,
    reason: str = "",
    expected_version: int | None = None,
) -> Entry:
    """Keep a destination. Raises InvalidEntry."""
    checked = require_destination(settings, name, definition)
    table = checked.model_dump(mode="json", exclude_defaults=True)
    return _keep(connection, Kind.DESTINATION, name, table, author, reason, expected_version)


def require_destination(settings: Settings, name: str, definition: Mapping[str, Any]) -> Destination:
    """The destination of this name and definition; files are taken from `web.files_dir`. Raises InvalidEntry."""
    problems: dict[str, str] = {}
    if not _NAME.fullmatch(name):
        problems["name"] = f"found {name!r}; expected 1 to 64 letters, digits, dots, dashes or underscores"
    elif name in settings.destinations:
        problems["name"] = f"found {name} in [destinations] of the settings; change it there"
    table = _with_files(definition, settings.web.files_dir, problems)
    for field, value in [*table.items(), *_fields_of("tls", table.get("tls"))]:
        if isinstance(value, str) and not value.isprintable():
            problems[field] = "found control characters; expected none"
    destination = _checked(Destination, table, "", problems)
    if not problems:
        try:
            encoding_of(destination, settings)
        except ConfigurationError as error:
            problems["transfer_syntax"] = str(error)
    if problems:
        raise InvalidEntry("destination", problems)
    return destination  # type: ignore[no-any-return] # checked against that very class


def remove(connection: Connection, settings: Settings, kind: Kind, name: str, *, author: str, reason: str = "") -> bool:
    """Take an entry away; False when there is none. Raises ConfigurationError when it is in use, or in the settings."""
    section = "listener.peers" if kind is Kind.SENDER else "destinations"
    if name in (settings.listener.peers if kind is Kind.SENDER else settings.destinations):
        raise ConfigurationError(f"{name}: found it in [{section}] of the settings; remove it there, then restart")
    _alone(connection)
    if find(connection, kind, name) is None:
        return False
    if kind is Kind.DESTINATION:
        if users := destinations.users_of(connection, name):
            raise ConfigurationError(f"destination {name} is in use: {'; '.join(users)}; end that first")
        destinations.forget(connection, name)
    _add(connection, kind, name, None, author, reason)
    return True


def _keep(
    connection: Connection,
    kind: Kind,
    name: str,
    definition: dict[str, Any],
    author: str,
    reason: str,
    expected_version: int | None,
) -> Entry:
    _alone(connection)
    known = find(connection, kind, name)
    found = known.version if known else 0
    if expected_version is not None and found != expected_version:
        raise ConfigurationError(
            f"{kind} {name}: found version {found}; expected version {expected_version}, with which this was begun; "
            "somebody else changed it: load the page again"
        )
    if known is not None and known.definition == definition:
        return known
    _add(connection, kind, name, definition, author, reason)
    kept = find(connection, kind, name)
    assert kept is not None, "it was just added"
    return kept


def _add(
    connection: Connection, kind: Kind, name: str, definition: dict[str, Any] | None, author: str, reason: str
) -> None:
    latest = sa.select(sa.func.coalesce(sa.func.max(directory_entry.c.version), 0) + 1).where(
        directory_entry.c.kind == kind, directory_entry.c.name == name
    )
    connection.execute(
        sa.insert(directory_entry).values(
            kind=kind, name=name, version=latest.scalar_subquery(), definition=definition,
            author=author[:64], reason=_printable(reason[:500]), created_at=now(),
        )
    )  # fmt: skip


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in text)


def _alone(connection: Connection) -> None:
    """One change at a time: who looks at the revision must not see a later one before an earlier one."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer as it is
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_OF_THE_DIRECTORY)))


def _versions(kind: Kind, name: str) -> sa.Select[Any]:
    return (
        sa.select(directory_entry)
        .where(directory_entry.c.kind == kind, directory_entry.c.name == name)
        .order_by(directory_entry.c.version.desc())
    )


def _entry(row: Any) -> Entry:
    return Entry(Kind(row.kind), row.name, row.version, row.definition, row.author, row.reason, row.created_at)


def _checked(model: Any, value: Any, field: str, problems: dict[str, str]) -> Any:
    """`value` as `model` takes it; what is wrong goes into `problems`, by field."""
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        for one in error.errors():
            place = ".".join(map(str, one["loc"])) or field
            words = words_of(one, model) if one["loc"] else one["msg"].removeprefix("Value error, ")
            problems.setdefault(place, words.removeprefix(f"{place}: "))
        return None


def _fields_of(section: str, table: Any) -> list[tuple[str, Any]]:
    return [(f"{section}.{key}", value) for key, value in table.items()] if isinstance(table, dict) else []


def _file_in(folder: Path, place: str) -> Path | None:
    """The file of that place, when it is below `folder` and nowhere else."""
    try:
        path = (folder / place).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def _with_files(definition: Mapping[str, Any], folder: Path | None, problems: dict[str, str]) -> dict[str, Any]:
    """`definition` with the paths of its files made whole; each has to exist below `folder`."""
    table = {key: dict(value) if isinstance(value, Mapping) else value for key, value in definition.items()}
    for field in _FILES:
        section, _, key = field.rpartition(".")
        place = table.get(section) if section else table
        if not isinstance(place, dict) or not place.get(key):
            continue
        if folder is None:
            problems[field] = "found a file; expected none as long as web.files_dir names no folder of such files"
            continue
        path = _file_in(folder, str(place[key]))
        if path is None:
            problems[field] = f"found no such file in {folder}; expected one there (web.files_dir)"
        else:
            place[key] = str(path)
    return table

"""A copy of what a gateway knows and holds, taken while it works; and a gateway that begins again from such a copy.

    FOLDER/database.sqlite or database.dump   one snapshot of the database
    FOLDER/spool.list                         every file that the snapshot names: path, bytes, SHA-256, what of
    FOLDER/spool/                             those files, if they were asked for
    FOLDER/rules.toml settings.toml           for people; passwords are left out
    FOLDER/manifest.json                      written last: with it the copy is whole

The snapshot comes first and the files after: what it names was there, and retention may have deleted it meanwhile,
which the manifest counts. Files are copied, never linked: a link is lost with the disk, and a second name of a file
has a meaning in the spool.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import tomlkit
from sqlalchemy.engine import Connection

from gateway.errors import ConfigurationError, Unavailable
from gateway.store import heartbeats, intake, rulebook
from gateway.store.database import Database, head, now
from gateway.store.rules_file import format_rules
from gateway.store.spool import Spool
from gateway.store.tables import derived, instance, job, quarantine, series

FORMAT = 1
_MANIFEST, _LIST = "manifest.json", "spool.list"
_DUMP = {"sqlite": "database.sqlite", "postgresql": "database.dump"}
_PASSWORD = re.compile(r"://([^:/@]*):[^@]*@")
_ROWS_AT_A_TIME = 1000
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the spool as a row names it. `of` is what its SHA-256 is taken of: ``file``, ``data-set`` or nothing.

    `sha256` is empty for what was received a moment ago.
    """

    path: str
    size_bytes: int | None
    sha256: str
    of: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of the files that the database names."""

    files: int
    size_bytes: int
    missing: tuple[str, ...]


def save(
    database: Database, spool_dir: Path, settings_file: Path | None, folder: Path, version: str, *, with_spool: bool
) -> dict[str, Any]:
    """Save into `folder`, which is made and has to be empty; the manifest. Raises ConfigurationError, Unavailable."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"backup: found files in {folder}; expected an empty or a new folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kind = database.url.get_backend_name()
    with _snapshot(database) as connection:
        made_at = connection.execute(sa.select(now())).scalar_one()
        schema = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        _dump(database, connection, folder / _DUMP[kind])
        _write_list(connection, folder / _LIST)
        rules = format_rules([active.rule for active in rulebook.active(connection)])
    (folder / "rules.toml").write_text(rules, encoding="utf-8")
    if settings_file is not None:
        (folder / "settings.toml").write_text(_without_secrets(settings_file), encoding="utf-8")
    copied = _copy_spool(folder / _LIST, spool_dir, folder / "spool") if with_spool else None
    manifest = {
        "format": FORMAT, "athanor": version, "made_at": made_at, "database": kind, "schema": schema,
        "files": {file.name: _digest(file) for file in sorted(folder.iterdir()) if file.is_file()},
        "spool": copied and {"files": copied.files, "size_bytes": copied.size_bytes, "missing": list(copied.missing)},
    }  # fmt: skip
    os.sync()
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    os.sync()
    return manifest


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    """A transaction that sees one moment, however long it lasts."""
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def _dump(database: Database, connection: Connection, file: Path) -> None:
    """Copy what `connection` sees."""
    if database.is_sqlite:
        source = connection.connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        copy = sqlite3.connect(file)
        source.backup(copy)
        copy.close()
        return
    seen = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
    _run_postgresql(database, "pg_dump", "--format=custom", f"--snapshot={seen}", f"--file={file}")


def _run_postgresql(database: Database, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's tools on the database; the password stands in no command line."""
    found = shutil.which(program)
    if found is None:
        raise ConfigurationError(f"found no {program} on the PATH; expected it; apt-get install postgresql-client")
    url = database.url
    place = {"-h": url.host, "-p": url.port and str(url.port), "-U": url.username, "-d": url.database}
    options = [part for option, value in place.items() if value for part in (option, str(value))]
    environment = {**os.environ, **({"PGPASSWORD": url.password} if url.password else {})}
    ran = subprocess.run(  # noqa: S603 - a tool of the system with our own words
        [found, "--no-password", *options, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise Unavailable(f"{program}: {ran.stderr.strip()}")


def _write_list(connection: Connection, file: Path) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for listed in _listed(connection):
            lines.write(json.dumps([listed.path, listed.size_bytes, listed.sha256, listed.of]) + "\n")


def _listed(connection: Connection) -> Iterator[Listed]:
    columns = (instance.c.path, instance.c.size_bytes, instance.c.sha256, sa.literal("data-set"))
    made = (derived.c.path, derived.c.size_bytes, derived.c.sha256, sa.literal("file"))
    # results of a series whose files retention gave up are rows only
    kept = sa.select(*made).where(~_is_purged())
    for query in (sa.select(*columns), kept):
        for row in connection.execute(query.execution_options(yield_per=_ROWS_AT_A_TIME)):
            yield Listed(*row)
    for path in connection.execute(sa.select(quarantine.c.path).where(quarantine.c.path.is_not(None))).scalars():
        yield Listed(path, None, "", "")


def _is_purged() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        job.c.id == derived.c.job_id,
        series.c.id == job.c.series_id,
        sa.or_(series.c.purged_at.is_not(None), job.c.superseded),
    )


def _read_list(file: Path) -> Iterator[Listed]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield Listed(*json.loads(line))


def _copy_spool(listing: Path, source: Path, target: Path) -> Copied:
    """Copy every listed file; those that are not there (any more) are counted and named."""
    files, size, missing = 0, 0, []
    target.mkdir(parents=True, mode=0o700)
    for listed in _read_list(listing):
        place = target / listed.path
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            shutil.copy2(source / listed.path, place)
        except FileNotFoundError:
            missing.append(listed.path)
            continue
        files += 1
        size += place.stat().st_size
    return Copied(files, size, tuple(missing))


def _without_secrets(settings_file: Path) -> str:
    document = tomlkit.parse(settings_file.read_text(encoding="utf-8"))
    for section in ("database", "broker"):
        table = document.get(section, {})
        if "url" in table:
            table["url"] = _PASSWORD.sub(r"://\1:***@", str(table["url"]))
    return tomlkit.dumps(document)


def _digest(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        return {"sha256": hashlib.file_digest(opened, "sha256").hexdigest(), "size_bytes": file.stat().st_size}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, once every file that it names has its digest. Raises ConfigurationError."""
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"restore: found no {_MANIFEST} in {folder}; expected a whole backup") from None
    if manifest.get("format") != FORMAT or manifest["schema"] > head():
        raise ConfigurationError(
            f"restore: found format {manifest.get('format')} and schema {manifest.get('schema')}; expected format "
            f"{FORMAT} and schema {head()} or earlier; install Athanor {manifest.get('athanor')}"
        )
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise ConfigurationError(f"restore: {name} is not what was saved; take another backup")
    return manifest


def restore(database: Database, spool_dir: Path, folder: Path) -> Copied:
    """Begin again from a backup: files first, then the database, which is what makes it a gateway.

    A backup without the spool is put beside the spool that is there. Raises ConfigurationError when there is a
    database already, or files where some are to be put.
    """
    manifest = read_manifest(folder)
    kind = database.url.get_backend_name()
    if manifest["database"] != kind:
        raise ConfigurationError(
            f"restore: found a backup of {manifest['database']}; expected {kind}: see database.url"
        )
    _require_empty(database, spool_dir if manifest["spool"] else None)
    if manifest["spool"]:
        # under another name until it is whole, so that an interrupted restore can be repeated
        partial = spool_dir.with_name(spool_dir.name + ".restoring")
        shutil.rmtree(partial, ignore_errors=True)
        _copy_spool(folder / _LIST, folder / "spool", partial)
        os.sync()
        shutil.rmtree(spool_dir, ignore_errors=True)
        partial.rename(spool_dir)
    _load(database, folder / _DUMP[kind])
    database.upgrade()
    with database.write() as connection:
        heartbeats.forget_all(connection)
    Spool(spool_dir, "restore").look_everywhere()
    return _compare(database, folder / _LIST, spool_dir)


def _require_empty(database: Database, spool_dir: Path | None) -> None:
    if database.revision() is not None:
        raise ConfigurationError("restore: found a database; expected none; move it away, or set another database.url")
    if spool_dir is None:
        return
    for name in ("received", "derived", "quarantine"):
        if any(file.is_file() for file in (spool_dir / name).rglob("*")):
            raise ConfigurationError(f"restore: found files in {spool_dir / name}; expected none; move them away")


def _load(database: Database, dump: Path) -> None:
    if not database.is_sqlite:
        _run_postgresql(database, "pg_restore", "--single-transaction", "--no-owner", "--exit-on-error", str(dump))
        return
    database.close()
    place = Path(str(database.url.database))
    for name in (f"{place.name}-wal", f"{place.name}-shm"):
        place.with_name(name).unlink(missing_ok=True)
    partial = place.with_name(place.name + ".restoring")
    shutil.copyfile(dump, partial)
    partial.chmod(0o600)
    os.sync()
    partial.rename(place)


def _compare(database: Database, listing: Path, spool_dir: Path) -> Copied:
    """Look for every listed file, and at its bytes. What had just been received gets its digest: no one else makes it.

    The receiver that would have made it knew of the file by its second name, which is not part of a backup.
    """
    files, size, wrong = 0, 0, []
    unsealed: dict[str, str] = {}
    for listed in _read_list(listing):
        try:
            content = (spool_dir / listed.path).read_bytes()
        except FileNotFoundError:
            wrong.append(listed.path)
            continue
        if listed.of and (sha256 := _sha256(content, listed.of)) != listed.sha256:
            if listed.sha256:
                wrong.append(listed.path)
                continue
            unsealed[listed.path] = sha256
        files += 1
        size += len(content)
    with database.write() as connection:
        intake.seal(connection, unsealed)
    return Copied(files, size, tuple(wrong))


def _sha256(content: bytes, of: str) -> str:
    # PS3.10 7.1: the group length says where the data set begins
    start = 144 + int.from_bytes(content[140:144], "little") if of == "data-set" else 0
    return hashlib.sha256(content[start:]).hexdigest()


def few(paths: tuple[str, ...]) -> str:
    """Some of them, for people."""
    return ", ".join(paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")

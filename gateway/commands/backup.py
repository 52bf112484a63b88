"""``athanor backup`` and ``athanor restore``."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say


def backup(
    folder: Annotated[Path, typer.Argument(help="new or empty folder, on another disk")],
    spool: Annotated[bool, typer.Option("--spool", help="copy the received and derived files, too")] = False,
    json: Json = False,
) -> None:
    """Save the database, the rules, the settings without passwords and, if wanted, the spool, while everything runs.

    Exit code 1 when files that the database names are not there.
    """
    from gateway.store.backup import few, save

    settings = console.settings()
    with console.database() as database:
        manifest = save(
            database, settings.spool_dir, _settings_file(), folder, version("athanor"), with_spool=spool
        )  # fmt: skip
    copied = manifest["spool"] or {"files": 0, "size_bytes": 0, "missing": []}
    if json:
        console.show_json(manifest)
    else:
        files = f"{copied['files']} files, {copied['size_bytes'] / 1e9:.2f} GB" if spool else "left where it is"
        say(f"{folder}: schema {manifest['schema']} of {manifest['database']}; spool: {files}", mark=console.TICK)
    if copied["missing"]:
        console.fail(f"named by the database, and not there: {len(copied['missing'])} files: "
                     f"{few(tuple(copied['missing']))}")  # fmt: skip


def restore(
    folder: Annotated[Path, typer.Argument(help="what `athanor backup` saved", exists=True, file_okay=False)],
    json: Json = False,
) -> None:
    """Begin again from a backup: where there is no database and, if the backup holds the spool, no spool.

    A backup without the spool is put beside the spool that is there. Work that was open goes on at the next start.
    Exit code 1 when files that the database names are not there, or hold other bytes.
    """
    from gateway.store.backup import few
    from gateway.store.backup import restore as begin_again
    from gateway.store.database import Database

    settings = console.settings()
    database = Database(settings.database_url)
    try:
        found = begin_again(database, settings.spool_dir, folder)
    finally:
        database.close()
    report: dict[str, Any] = {"files": found.files, "size_bytes": found.size_bytes, "missing": list(found.missing)}
    if json:
        console.show_json(report)
    else:
        say(f"{found.files} files as they were, {found.size_bytes / 1e9:.2f} GB", mark=console.TICK)
    if found.missing:
        console.fail(f"named by the database, and not there or not as they were: {len(found.missing)} files: "
                     f"{few(found.missing)}")  # fmt: skip


def _settings_file() -> Path | None:
    """The settings file in use, if there is one."""
    from gateway.settings import DEFAULT_FILE

    file = console.chosen.settings_file or Path(os.environ.get("ATHANOR_SETTINGS", DEFAULT_FILE))
    return file if file.exists() else None


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(backup)
    app.command()(restore)

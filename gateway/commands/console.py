"""What every command needs: the settings in use, output for people or for scripts, and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 not found, 4 unhealthy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from gateway.dicom.provenance import require_sound
from gateway.settings import Settings, read_settings
from gateway.store.database import Database

FAILED, USAGE, NOT_FOUND, UNHEALTHY = 1, 2, 3, 4

# a table in a pipe or a log is not folded at 80 columns
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@dataclass(slots=True)
class Chosen:
    """What stands before the command: the settings file."""

    settings_file: Path | None = None


chosen = Chosen()


def settings() -> Settings:
    """The settings in use."""
    return require_sound(read_settings(chosen.settings_file))


@contextmanager
def database() -> Iterator[Database]:
    """The database in use, with its schema; an absent one is not made by looking at it."""
    in_use = settings()
    opened = Database(in_use.database_url)
    if opened.is_sqlite and not Path(str(opened.url.database)).exists():
        fail(f"no database in {in_use.node.state_dir}; start the gateway once with `athanor up`", NOT_FOUND)
    try:
        yield opened
    finally:
        opened.close()


def show_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong on standard error and leave."""
    err.print(message, style="red", markup=False)
    raise typer.Exit(code)


def local_time(at: float | None) -> str:
    """Epoch seconds as local time, empty for None."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(at: float | None) -> str:
    """How long ago, for people."""
    if at is None:
        return ""
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

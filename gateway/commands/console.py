"""What every command needs: the settings in use, output for people or for scripts, and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 not found, 4 unhealthy. Results go to standard output, all
else to standard error. On a terminal text is wrapped at words; in a pipe one line stays one line.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from gateway.domain.durations import duration

if TYPE_CHECKING:  # loaded when a command asks for them: `athanor --help` needs none of it
    from rich.progress import Progress, ProgressColumn

    from gateway.settings import Settings
    from gateway.store.database import Database

FAILED, USAGE, NOT_FOUND, UNHEALTHY = 1, 2, 3, 4

# a pipe has no width: what is not printed with `say` or `show_table` should not be folded at 80 columns either
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, soft_wrap=True)

TICK, CROSS = Text("✓ ", "green"), Text("✗ ", "red")


Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]


@dataclass(slots=True)
class Chosen:
    """What stands before the command: the settings file."""

    settings_file: Path | None = None


chosen = Chosen()


def settings() -> Settings:
    """The settings in use, for commands that look."""
    from gateway.settings import read_settings

    return read_settings(chosen.settings_file)


def settings_in_force() -> Settings:
    """The settings with the senders and destinations of the database; those of the file alone while it cannot say."""
    from gateway.errors import AthanorError
    from gateway.store.database import Database
    from gateway.store.directory import Directory

    in_use = settings()
    try:
        if is_new_database(in_use):
            return in_use
        opened = Database(in_use.database_url)
        try:
            opened.require_current()
            return Directory(in_use, opened).settings
        finally:
            opened.close()
    except AthanorError as error:
        say(f"only what the settings file has is known here: {error}", to=err)
        return in_use


def sound_settings() -> Settings:
    """The settings in use, for commands that make derived series: with what only their writer can judge."""
    from gateway.dicom.provenance import require_sound

    return require_sound(settings())


@contextmanager
def database() -> Iterator[Database]:
    """The database in use. Leaves with what to do when it has not been made yet."""
    from gateway.store.database import Database

    in_use = settings()
    if is_new_database(in_use):
        place = in_use.node.state_dir if in_use.database_url.startswith("sqlite") else "database.url"
        fail(f"found no database in {place}; `athanor up` or `athanor migrate` makes it", NOT_FOUND)
    opened = Database(in_use.database_url)
    try:
        opened.require_current()
        yield opened
    finally:
        opened.close()


def is_new_database(in_use: Settings) -> bool:
    """Whether the database has yet to be made: it is absent or empty. Looking does not make it."""
    from gateway.store.database import Database

    url = in_use.database_url
    if url.startswith("sqlite") and not Path(url.partition("///")[2]).exists():
        return True
    opened = Database(url)
    try:
        with opened.read() as connection:
            return not connection.dialect.has_table(connection, "series")
    finally:
        opened.close()


def show_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")


def say(text: str, *, mark: Text | None = None, indent: int = 0, style: str = "", to: Console = out) -> None:
    """Print one paragraph behind `mark`; on a terminal its lines begin below each other."""
    lead = Text(" " * indent) + (mark or Text())
    lines = text.splitlines() or [""]
    if to.is_terminal:
        width = max(20, to.width - len(lead))
        # a path or a UID stays whole: the terminal itself breaks what is too long
        lines = [
            part
            for line in lines
            for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        ]
    to.print(lead + Text(lines[0], style))
    for line in lines[1:]:
        to.print(Text(" " * len(lead)) + Text(line, style))


def label(word: str) -> Text:
    """A word as the mark of `say`: what follows stands in a column."""
    return Text(f"{word:<12}")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal long cells are folded, in a pipe they are not."""
    if out.is_terminal:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        out.print(table)
        return
    lines = [columns, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on standard error while something lasts; in a pipe nothing."""
    from rich.progress import Progress

    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong on standard error and leave."""
    say(message, style="red", to=err)
    raise typer.Exit(code)


def operator() -> str:
    """Who gives the command, for what is kept with it."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def local_time(at: float | None) -> str:
    """Epoch seconds as local time, empty for None."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age(at: float | None) -> str:
    """How long ago, for people; empty for None."""
    return "" if at is None else duration(time.time() - at)


def files_below(path: Path) -> list[Path]:
    """`path` itself when it is a file, else every file below it, in the order of their names."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())

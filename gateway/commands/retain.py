"""``athanor retain``: delete now what retention would delete by and by, or say what that is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, say


def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False, json: Json = False
) -> None:
    """Delete what is older than the settings of retention allow and every destination has; the clock does so too.

    Files follow some seconds after their rows, so that the last of them are left to the next run or to the clock.
    """
    from gateway.stages.retain import Retain, limits_of
    from gateway.store import retention

    settings = console.settings()
    with console.database() as database:
        with database.read() as connection:
            due = retention.due(connection, limits_of(settings.retention))
        if not dry_run:
            stage = Retain(database, settings.spool_dir, settings.retention)
            while stage.one_pass():
                pass
    if json:
        console.show_json(asdict(due))
        return
    say(
        f"{due.series} series with {due.instances} instances and their results, {due.size_bytes / 1e9:.2f} GB; "
        f"{due.quarantined} refused or kept beside; the history of {due.history} series",
        mark=console.label("would go" if dry_run else "went"),
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(retain)

"""``athanor settings``: the settings in use, and where each came from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, err, say, show_table
from gateway.settings.origin import effective


def settings(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="only those with this in key, help or source")] = "",
    given: Annotated[bool, typer.Option("--given", help="only those that are no defaults")] = False,
    json: Json = False,
) -> None:
    """Show the settings in use, their defaults, and where each came from. Secrets are never shown."""
    in_use = console.settings()
    rows = effective(in_use, in_use.given, text, only_given=given)
    if json:
        console.show_json([asdict(row) for row in rows])
    elif not rows:
        say("no setting fits", to=err)
    else:
        show_table(
            ("setting", "value", "default", "from"),
            [(row.key, f"{row.value} {row.unit}".strip(), row.default, row.source) for row in rows],
        )
    if not rows:
        raise typer.Exit(console.NOT_FOUND)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("settings")(settings)

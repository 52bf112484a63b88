"""``athanor refusals``: who was refused, how often, why, and what lets him in."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table


def refusals(
    limit: Annotated[int, typer.Option(help="how many, the latest first", min=1, max=1000)] = 50,
    clear: Annotated[bool, typer.Option("--clear", help="forget all of them instead")] = False,
    json: Json = False,
) -> None:
    """List refused attempts to associate: one line for each address, pair of AE titles and reason."""
    from gateway.store import refusals as book

    settings = console.settings()
    with console.database() as database:
        if clear:
            with database.write() as connection:
                say(f"forgotten: {book.forget(connection)}")
            return
        with database.read() as connection:
            rows = book.latest(connection, limit, settings.node.ae_title)
    if json:
        console.show_json(rows)
        return
    if not rows:
        say("nobody was refused")
        return
    show_table(
        ("last", "times", "address", "calling", "called", "reason", "what to do"),
        [
            (
                console.local_time(row["last_at"]),
                str(row["count"]),
                row["address"],
                row["calling_ae_title"],
                row["called_ae_title"],
                row["reason"],
                row["remedy"],
            )
            for row in rows
        ],
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(refusals)

"""``athanor destinations``: how each destination stands; hold its deliveries back, let them go."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.stages.deliver import places_at, quiet_now
from gateway.store import destinations

app = typer.Typer(help="How each destination stands; hold its deliveries back, let them go.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a destination of the settings")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """How each destination stands; hold its deliveries back, let them go."""
    if context.invoked_subcommand is None:
        list_destinations()


@app.command("ls")
def list_destinations(json: Json = False) -> None:
    """List the destinations: open, quiet, held or down; what waits for them and why; the last error."""
    settings = console.settings()
    with console.database() as database, database.read() as connection:
        rows = destinations.standing(connection, quiet_now(settings))
    if json:
        console.show_json(rows)
        return
    show_table(
        ("destination", "state", "queued", "sending", "failed", "oldest", "why", "last error"),
        [
            (
                row["name"],
                row["state"],
                *(str(row[key]) for key in ("queued", "sending", "failed")),
                console.age(row["oldest_at"]),
                row["waits_for"] or "",
                row["error"] or "",
            )
            for row in rows
        ],
    )


@app.command("hold")
def hold(
    name: Name,
    reason: Annotated[str, typer.Option(help="why, for whoever wonders")],
    json: Json = False,
) -> None:
    """Begin no transfer to a destination until it is released; what is being sent is finished. Nothing is lost."""
    _require_known(name)
    with console.database() as database, database.write() as connection:
        held = destinations.hold(connection, name, by=console.operator(), reason=reason)
    if json:
        console.show_json({"held": held})
    else:
        say(f"{name} is held" if held else f"{name} is held already; see `athanor destinations`")
    if not held:
        raise typer.Exit(console.FAILED)


@app.command("release")
def release(name: Name, json: Json = False) -> None:
    """Let the deliveries to a held destination go, at once. The time that they were held does not count."""
    settings = console.settings()
    places = places_at(settings.destinations.get(name), settings.deliver)
    with console.database() as database, database.write() as connection:
        released = destinations.release(connection, name, places)
    if json:
        console.show_json({"released": released})
    else:
        say(f"{name} is released" if released else f"{name} is not held")
    if not released:
        raise typer.Exit(console.FAILED)


def _require_known(name: str) -> None:
    known = console.settings().destinations
    if name not in known:
        console.fail(f"found no destination {name!r}; expected one of: {', '.join(known) or 'none'}", console.NOT_FOUND)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="destinations")

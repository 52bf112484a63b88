"""``athanor destinations``: how each destination stands; hold its deliveries back, let them go."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.stages.deliver import places_at, quiet_now
from gateway.store import destinations, directory_entries

app = typer.Typer(help="How each destination stands; hold it, let it go, add, remove.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="a destination")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """How each destination stands; hold it, let it go, add, remove."""
    if context.invoked_subcommand is None:
        list_destinations()


@app.command("ls")
def list_destinations(json: Json = False) -> None:
    """List the destinations: open, quiet, held or down; what waits for them and why; the last error."""
    settings = console.settings_in_force()
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
    settings = console.settings_in_force()
    places = places_at(settings.destinations.get(name), settings.deliver)
    with console.database() as database, database.write() as connection:
        released = destinations.release(connection, name, places)
    if json:
        console.show_json({"released": released})
    else:
        say(f"{name} is released" if released else f"{name} is not held")
    if not released:
        raise typer.Exit(console.FAILED)


@app.command("set")
def set_destination(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the name that rules use")],
    values: Annotated[list[str], typer.Argument(metavar="KEY=VALUE", help="as in settings.toml: host=10.1.2.3")],
    reason: Annotated[str, typer.Option(help="why, for whoever wonders")] = "",
) -> None:
    """Add a destination, or give one that was added other settings; in force within two seconds."""
    definition: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            console.fail(f"found {value!r}; expected KEY=VALUE, such as host=10.1.2.3", console.USAGE)
        section, dot, inner = key.partition(".")
        if dot:
            definition.setdefault(section, {})[inner] = text
        else:
            definition[key] = text
    with console.database() as database, database.write() as connection:
        entry = directory_entries.put_destination(
            connection, console.settings(), name, definition, author=console.operator(), reason=reason
        )
    say(f"{entry.name} is kept, version {entry.version}; ask it: athanor echo {entry.name}")


@app.command("remove")
def remove(name: Name, reason: Annotated[str, typer.Option(help="why, for whoever wonders")] = "") -> None:
    """Remove a destination that was added, unless rules in force, jobs or deliveries need it."""
    with console.database() as database, database.write() as connection:
        removed = directory_entries.remove(
            connection, console.settings(), directory_entries.Kind.DESTINATION, name,
            author=console.operator(), reason=reason,
        )  # fmt: skip
    if not removed:
        console.fail(f"found no destination {name!r} that was added; see `athanor destinations`", console.NOT_FOUND)
    say(f"{name} is removed")


def _require_known(name: str) -> None:
    known = console.settings_in_force().destinations
    if name not in known:
        console.fail(f"found no destination {name!r}; expected one of: {', '.join(known) or 'none'}", console.NOT_FOUND)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="destinations")

"""``athanor senders``: who may call; let an AE title in, or out, without a restart."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table

app = typer.Typer(help="Who may call; let an AE title in, or out, without a restart.")

Title = Annotated[str, typer.Argument(metavar="AE_TITLE", help="calling AE title")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """Who may call; let an AE title in, or out, without a restart."""
    if context.invoked_subcommand is None:
        list_senders()


@app.command("ls")
def list_senders(json: Json = False) -> None:
    """List who may call: those of the settings, and those that were added since."""
    from gateway.store.directory import Directory, senders

    with console.database() as database:
        rows = senders(Directory(console.settings(), database))
    if json:
        console.show_json(rows)
        return
    show_table(
        ("AE title", "from", "note", "kept in"),
        [
            (
                row["ae_title"],
                ", ".join(row["addresses"]) or "nowhere",
                row["note"],
                "settings" if not row["version"]
                else f"database, by {row['author']}{', but the settings have one' if row['overruled'] else ''}",
            )
            for row in rows
        ],
    )  # fmt: skip


@app.command("allow")
def allow(
    ae_title: Title,
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="address, network such as 10.1.0.0/16")],
    note: Annotated[str, typer.Option(help="for whoever wonders: the room, whom to ring")] = "",
) -> None:
    """Let an AE title call from these addresses, and from no others; in force within two seconds."""
    from gateway.store import directory_entries

    definition = {"addresses": addresses, "note": note}
    with console.database() as database, database.write() as connection:
        entry = directory_entries.put_sender(
            connection, console.settings(), ae_title, definition, author=console.operator()
        )
    say(f"{entry.name} may call from {', '.join(entry.definition['addresses'])}")


@app.command("remove")
def remove(ae_title: Title) -> None:
    """Let an AE title that was added call no more; in force within two seconds."""
    from gateway.store import directory_entries

    with console.database() as database, database.write() as connection:
        removed = directory_entries.remove(
            connection, console.settings(), directory_entries.Kind.SENDER, ae_title, author=console.operator()
        )
    if not removed:
        console.fail(f"found no sender {ae_title!r} that was added; see `athanor senders`", console.NOT_FOUND)
    say(f"{ae_title} may call no more")


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="senders")

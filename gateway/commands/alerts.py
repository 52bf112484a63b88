"""``athanor alerts``: what needs somebody, one for each cause; acknowledge it; try the channels that tell of them."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import Json, say, show_table
from gateway.domain.alerts import Channel

app = typer.Typer(help="What needs somebody, one for each cause; send a test message.")


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """What needs somebody, one for each cause; send a test message."""
    if context.invoked_subcommand is None:
        list_alerts()


@app.command("ls")
def list_alerts(
    over: Annotated[int, typer.Option(help="how many of those that are over, the latest first", min=0, max=1000)] = 0,
    json: Json = False,
) -> None:
    """List the open alerts, each with what to do; with --over the latest that are over, too."""
    from gateway.store import alerts
    from gateway.store.paging import Cut

    with console.database() as database, database.read() as connection:
        rows = alerts.open_ones(connection)
        rows += alerts.resolved(connection, Cut(), over).rows if over else []
    if json:
        console.show_json(rows)
        return
    if not rows:
        say("nothing needs anybody")
        return
    show_table(
        ("id", "severity", "since", "over", "affected", "what", "what to do", "acknowledged", "told"),
        [
            (
                str(row["id"]), row["severity"], console.local_time(row["first_at"]),
                console.local_time(row["resolved_at"]), str(row["times"]), row["title"], row["advice"],
                row["acknowledged_by"] or "",
                ", ".join(f"{one['channel']} {one['change']}" for one in row["messages"] if one["sent_at"]),
            )
            for row in rows
        ],
    )  # fmt: skip


@app.command("acknowledge")
def acknowledge(
    alert: Annotated[int, typer.Argument(metavar="ALERT", help="the id of an open alert", min=1)], json: Json = False
) -> None:
    """Say that you look after an alert: there are no more reminders of it."""
    from gateway.store import alerts

    with console.database() as database, database.write() as connection:
        done = alerts.acknowledge(connection, alert, console.operator())
    if json:
        console.show_json({"acknowledged": done})
    else:
        say(f"{alert} is acknowledged" if done else f"{alert} is no open alert that nobody acknowledged")
    if not done:
        raise typer.Exit(console.FAILED)


@app.command("test")
def send_test(
    channel: Annotated[Channel, typer.Argument(metavar="CHANNEL", help="email or webhook")], json: Json = False
) -> None:
    """Send a test message over a channel of the settings, and say which step fails."""
    from gateway.stages.alert import try_channel

    failure = try_channel(console.settings(), channel)
    if json:
        console.show_json(
            {
                "channel": channel.value, "taken": failure is None,
                "step": failure.step.value if failure else None,
                "explanation": failure.explanation if failure else "the server took the message",
            }
        )  # fmt: skip
    elif failure is None:
        say("the server took the message", mark=console.TICK)
    else:
        say(str(failure), mark=console.CROSS)
    if failure is not None:
        raise typer.Exit(console.FAILED)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="alerts")

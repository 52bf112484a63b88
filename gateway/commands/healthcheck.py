"""``athanor healthcheck``: whether the processes of one role on this host give signs of life, for a container."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import say
from gateway.metrics import PORT_OFFSETS
from gateway.store import heartbeats
from gateway.store.health import STALE_AFTER_S
from gateway.store.heartbeats import Heartbeat


def healthcheck(role: Annotated[str, typer.Argument(metavar="ROLE", help=f"one of {', '.join(PORT_OFFSETS)}")]) -> None:
    """Say whether a process of ROLE on this host gave a sign of life within the last 15 seconds; exit code 1 if not."""
    if role not in PORT_OFFSETS:
        console.fail(f"ROLE: found {role!r}; expected one of {', '.join(PORT_OFFSETS)}", console.USAGE)
    with console.database() as database, database.read() as connection:
        here = [beat for beat in heartbeats.all_of(connection) if _is_meant(beat, role, socket.gethostname())]
    if not here:
        console.fail(f"{role}: found no process of it on this host; its log says why it did not start")
    for beat in here:
        if beat.age_s >= STALE_AFTER_S:
            console.fail(f"{beat.process}: no sign of life for {beat.age_s:.0f} s; its log says why")
    say(", ".join(beat.process for beat in here), mark=console.TICK)


def _is_meant(beat: Heartbeat, role: str, host: str) -> bool:
    name, _, on_host = beat.process.partition("@")
    return name.split("-")[0] == role and on_host in {"", host}


def add_to(app: typer.Typer) -> None:
    """Add this command to the command line."""
    app.command()(healthcheck)

"""``athanor up`` and the four kinds of process that it supervises, each a command of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway import logs
from gateway.commands import console
from gateway.commands.console import chosen
from gateway.flow import PROCESS_QUEUE, TRANSFER_QUEUE
from gateway.services.stopping import stop_event


def up() -> None:
    """Run the whole gateway: broker, workers, clock and SCP, until SIGTERM or Ctrl-C."""
    from gateway.services.supervisor import Supervisor

    settings = console.settings()
    logs.set_up(settings.log_format, process="supervisor")
    raise typer.Exit(Supervisor(settings, settings_file(), stop_event()).run())


def scp() -> None:
    """Run the storage SCP alone (for systemd and containers)."""
    from gateway.services import scp as service

    settings = console.settings()
    logs.set_up(settings.log_format, process="scp")
    service.run(settings, stop_event())


def clock() -> None:
    """Run the clock alone: completeness, announcements, expired leases."""
    from gateway.services import clock as service

    settings = console.settings()
    logs.set_up(settings.log_format, process="clock")
    service.run(settings, stop_event())


def worker(
    queue: Annotated[str, typer.Option(help="process (generators) or transfer (routing and the PACS)")],
    index: Annotated[int, typer.Option(help="number of this worker; of the GPU, for process", min=0)] = 0,
) -> None:
    """Run one Celery worker alone."""
    from gateway.services import worker as service

    if queue not in {PROCESS_QUEUE, TRANSFER_QUEUE}:
        console.fail(f"--queue: found {queue!r}; expected process or transfer", console.USAGE)
    settings = console.settings()
    logs.set_up(settings.log_format, process=f"{queue}-{index}")
    service.run(settings, queue, index)


def migrate() -> None:
    """Bring the database schema up to date and seed the rules of an empty database (``up`` does it by itself)."""
    from gateway.store.database import Database
    from gateway.store.rulebook import seed_rules

    settings = console.settings()
    database = Database(settings.database_url)
    database.upgrade()
    seed_rules(database, settings)
    database.close()


def settings_file() -> Path | None:
    """The settings file that child processes are told to read."""
    if chosen.settings_file:
        return chosen.settings_file
    named = os.environ.get("ATHANOR_SETTINGS")
    return Path(named) if named else None


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (up, scp, clock, worker, migrate):
        app.command()(command)

"""``athanor up`` and the four kinds of process that it supervises, each a command of its own."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gateway import audit, killpoints, logs, metrics
from gateway.commands import console
from gateway.commands.console import chosen
from gateway.errors import AthanorError, ConfigurationError
from gateway.flow import PROCESS_QUEUE, TRANSFER_QUEUE
from gateway.services.stopping import stop_event
from gateway.settings import Settings


def up() -> None:
    """Run the whole gateway: broker, workers, clock and SCP, until SIGTERM or Ctrl-C.

    The database is made and brought up to date, and an empty one is given the rules of `rules.seed`.
    """
    from gateway.services.supervisor import Supervisor

    with _process("supervisor") as settings, _alone(settings.run_dir):
        code = Supervisor(settings, settings_file(), stop_event()).run()
    raise typer.Exit(code)


def scp(
    index: Annotated[int | None, typer.Option(help="be this one of several, hidden", min=0, hidden=True)] = None,
    channel: Annotated[int, typer.Option(help="descriptor that connections come from", hidden=True)] = -1,
    ports: Annotated[str, typer.Option(help="ports listened on, JSON", hidden=True)] = "{}",
) -> None:
    """Run the storage SCP, which receives: as many processes as `listener.processes` says, on one port."""
    from gateway.services import scp as service
    from gateway.services.receivers import Receivers

    if index is None and service.count_processes(console.sound_settings()) > 1:
        with _process("scp") as settings:
            Receivers(settings, settings_file(), stop_event()).run()
        return
    with _service(f"scp-{index or 0}") as settings:
        given = service.Channel(socket.socket(fileno=channel), json.loads(ports)) if channel >= 0 else None
        service.run(settings, stop_event(), index or 0, given)


def clock(
    index: Annotated[int, typer.Option(help="number of this clock, where a host has several", min=0)] = 0,
) -> None:
    """Run the process that closes complete series, announces work, takes back what was lost and deletes what is over.

    Of several, one leads and the others stand by.
    """
    from gateway.services import clock as service

    with _service("clock") as settings:
        service.run(settings, stop_event(), index)


def worker(
    queue: Annotated[str, typer.Option(help="process (generators) or transfer (routing and the PACS)")],
    index: Annotated[int, typer.Option(help="number of this worker; for process, of its GPU", min=0)] = 0,
) -> None:
    """Run one Celery worker. Those of the process queue run generators, those of transfer route and deliver."""
    from gateway.services import worker as service

    if queue not in {PROCESS_QUEUE, TRANSFER_QUEUE}:
        console.fail(f"--queue: found {queue!r}; expected process or transfer", console.USAGE)
    with _service(f"{queue}-{index}") as settings:
        service.run(settings, queue, index)


def web() -> None:
    """Run the web process: what is stored over HTTP (STOW-RS) is received as by C-STORE."""
    from gateway.services import web as service

    with _service("web") as settings:
        service.run(settings, stop_event())


def migrate() -> None:
    """Bring the database up to date, and give an empty one the rules of `rules.seed`; `up` does it by itself."""
    from gateway.store.database import Database
    from gateway.store.rulebook import seed_rules

    with _process("migrate") as settings:
        database = Database(settings.database_url)
        database.upgrade()
        seed_rules(database, settings)
        database.close()
        logs.get("migrate").info("the database is up to date")


@contextmanager
def _process(name: str) -> Iterator[Settings]:
    """What a process of the service begins with, and how it ends on an error of ours: a line of its log."""
    settings = console.sound_settings()
    logs.set_up(settings.log_format, process=name)
    try:
        killpoints.arm()
        yield settings
    except AthanorError as error:
        logs.get(name).critical("ended", reason=str(error))
        raise typer.Exit(console.USAGE if isinstance(error, ConfigurationError) else console.FAILED) from error


@contextmanager
def _service(name: str) -> Iterator[Settings]:
    """What a process needs that works on the database: that it has the schema for which this program was written."""
    from gateway.store.database import Database

    with _process(name) as settings:
        database = Database(settings.database_url)
        database.require_current()
        database.close()
        metrics.serve(settings.metrics, name)
        metrics.watch_disk(settings.spool_dir, settings.reserve_bytes)
        with audit.set_up(settings, name):
            yield settings


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raise ConfigurationError when another `up` runs in this folder: we would take its broker away."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "up.lock").open("w") as lock:  # the system unlocks it however the process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"node.state_dir: found another `athanor up` in {folder.parent}; expected none; stop it first"
            ) from None
        yield


def settings_file() -> Path | None:
    """The settings file that child processes are told to read."""
    if chosen.settings_file:
        return chosen.settings_file
    named = os.environ.get("ATHANOR_SETTINGS")
    return Path(named) if named else None


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (up, scp, clock, worker, web, migrate):
        app.command()(command)

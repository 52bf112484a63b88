"""``athanor doctor``: checks what the gateway needs, each with what was found and what to do."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import typer

from gateway.commands import console
from gateway.commands.console import Json, out
from gateway.errors import AthanorError
from gateway.network.contexts import decodable_transfer_syntaxes
from gateway.network.scu import echo
from gateway.services import broker
from gateway.services.doorbell import Doorbell, make_app
from gateway.services.supervisor import count_devices
from gateway.settings import Destination, Settings
from gateway.stages.deliver import address_of
from gateway.store import outbox
from gateway.store.database import Database
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError

_CLOCK_DRIFT_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do when it is not well."""

    check: str
    well: bool
    found: str
    fix: str = ""


def doctor(json: Json = False) -> None:
    """Check ports, disk, clock, GPU, codecs, broker, database, weights and destinations."""
    findings = list(_examine(console.settings()))
    if json:
        console.show_json([{"check": f.check, "well": f.well, "found": f.found, "fix": f.fix} for f in findings])
    else:
        for finding in findings:
            mark = "[green]✓[/green]" if finding.well else "[red]✗[/red]"
            out.print(f"{mark} {finding.check:<13}", end=" ")
            out.print(finding.found, markup=False)
            if not finding.well:
                out.print(f"    {finding.fix}", style="yellow", markup=False)
    if not all(finding.well for finding in findings):
        raise typer.Exit(console.UNHEALTHY)


def _examine(settings: Settings) -> Iterator[Finding]:
    yield _port(settings)
    yield _disk(settings)
    yield _database(settings)
    yield _clock(settings)
    yield _broker(settings)
    yield _devices(settings)
    yield _codecs()
    yield from _weights(settings)
    yield from _destinations(settings)


def _port(settings: Settings) -> Finding:
    listener = settings.listener
    place = f"{listener.address}:{listener.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.address, listener.port))
        except PermissionError:
            return Finding("port", False, f"{place} may not be bound", "choose listener.port above 1023")
        except OSError as error:
            return _port_in_use(settings, place, error)
    return Finding("port", True, f"{place} is free for the SCP")


def _port_in_use(settings: Settings, place: str, error: OSError) -> Finding:
    listener = settings.listener
    host = "127.0.0.1" if listener.address == "0.0.0.0" else listener.address  # noqa: S104 - compared, not bound
    us = Destination(ae_title=settings.node.ae_title, host=host, port=listener.port or 1)
    if listener.port and echo(address_of(us, settings.deliver, settings.node.ae_title)).is_answered:
        return Finding("port", True, f"{place}: our SCP answers C-ECHO")
    return Finding(
        "port", False, f"{place}: {error.strerror}", "stop the program that holds it or change listener.port"
    )


def _disk(settings: Settings) -> Finding:
    folder = settings.node.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    reserve = settings.spool.reserve_bytes
    found = f"{free / 1e9:.1f} GB free, reserve {reserve / 1e9:.1f} GB"
    if not os.access(folder, os.W_OK):
        return Finding("disk", False, f"{folder} cannot be written", "give this user the folder of node.state_dir")
    return Finding("disk", free > reserve, found, "free some space or lower spool.reserve_bytes")


def _asked(check: str, question: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(check, True, question())
    except AthanorError as error:
        return Finding(check, False, str(error), fix)


def _database(settings: Settings) -> Finding:
    def ask() -> str:
        database = Database(settings.database_url)
        try:
            with database.read() as connection:
                return f"{connection.dialect.name} answers"
        finally:
            database.close()

    return _asked("database", ask, "check database.url and that the server runs")


def _clock(settings: Settings) -> Finding:
    def ask() -> str:
        database = Database(settings.database_url)
        try:
            drift = abs(database.now_s() - time.time())
        finally:
            database.close()
        if drift > _CLOCK_DRIFT_S:
            raise AthanorError(f"this host and the database differ by {drift:.1f} s")
        return f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, {drift * 1000:.0f} ms from the database"

    return _asked("clock", ask, "run an NTP client (chrony) on both hosts")


def _broker(settings: Settings) -> Finding:
    def ask() -> str:
        if settings.broker_is_embedded and not settings.broker_socket.exists():
            return f"embedded, will be started: {broker.find_server()}"
        waiting = Doorbell(make_app(settings)).queue_length(outbox.PROCESS)
        return f"answers, {waiting} messages wait for the process workers"

    return _asked("broker", ask, "start `athanor up`, or check broker.url")


def _devices(settings: Settings) -> Finding:
    cards = os.path.isdir("/proc/driver/nvidia/gpus")  # noqa: PTH112 - a bool is all that is asked
    workers = count_devices(settings.process.device)
    kind = "GPU" if cards and settings.process.device != "cpu" else f"CPU, {os.cpu_count()} cores"
    if settings.process.device.startswith("cuda") and not cards:
        return Finding(
            "device", False, "process.device asks for CUDA, found no NVIDIA driver", "install it, or set auto"
        )
    return Finding("device", True, f"{workers} process worker{'s' * (workers > 1)} on {kind}")


def _codecs() -> Finding:
    return Finding("codecs", True, f"{len(decodable_transfer_syntaxes())} transfer syntaxes can be decoded")


def _weights(settings: Settings) -> Iterator[Finding]:
    try:
        catalog = Catalog.read(settings.models_dir)
    except PipelineError as error:
        yield Finding("weights", False, str(error), "restore the folder of weights_dir from the release")
        return
    if not catalog:
        yield Finding("weights", False, f"no pipeline in {settings.models_dir}", "set weights_dir")
    for pipeline_id in catalog:
        try:
            catalog.verify(pipeline_id)
        except PipelineError as error:
            yield Finding("weights", False, str(error), "restore this folder from the release")
        else:
            spec = catalog[pipeline_id]
            yield Finding("weights", True, f"{spec.id} {spec.version}, sha256 {spec.generator.sha256[:12]} verified")


def _destinations(settings: Settings) -> Iterator[Finding]:
    if not settings.destinations:
        yield Finding("destination", False, "none", "add [destinations.NAME] to settings.toml")
    for name, destination in settings.destinations.items():
        report = echo(address_of(destination, settings.deliver, settings.node.ae_title))
        yield Finding(
            "destination", report.is_answered, f"{name}: {report.explanation}",
            "check host, port and AE titles with the PACS administrator",
        )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(doctor)

"""``athanor doctor``: checks what the gateway needs, each with what was found and what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import typer
from rich.text import Text

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, label, say
from gateway.commands.send import this_gateway
from gateway.errors import AthanorError
from gateway.network.commitment_out import require_support
from gateway.network.contexts import decodable_transfer_syntaxes
from gateway.network.destination import DestinationAddress
from gateway.network.scu import echo
from gateway.network.tls import TlsFiles
from gateway.network.transfer import Address, ask
from gateway.services import broker
from gateway.services.doorbell import Doorbell, make_app
from gateway.services.supervisor import count_devices
from gateway.settings import Settings
from gateway.stages.deliver import address_of
from gateway.store import outbox, rulebook
from gateway.store.database import Database
from gateway.store.health import existing
from gateway.store.rules_file import read_rules
from pipelines import runtime_choices
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError
from pipelines.runtime_choices import Machine

_CLOCK_DRIFT_S = 2.0
_ECHO_WITHIN_S = 5.0
_TRANSFER_SYNTAXES = 13  # docs/conformance.md


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do when it is not well."""

    check: str
    well: bool
    found: str
    fix: str = ""


def doctor(json: Json = False) -> None:
    """Check what the gateway needs, and say what to do about what it lacks. Exit code 4 when it lacks something."""
    findings = []
    for finding in _examine(console.sound_settings()):
        findings.append(finding)
        if not json:
            say(finding.found, mark=(TICK if finding.well else CROSS) + label(finding.check))
        if not json and not finding.well:
            say(finding.fix, mark=Text("  ") + label(""), style="yellow")
    if json:
        console.show_json([{"check": f.check, "well": f.well, "found": f.found, "fix": f.fix} for f in findings])
    if not all(finding.well for finding in findings):
        raise typer.Exit(console.UNHEALTHY)


def _examine(settings: Settings) -> Iterator[Finding]:
    yield _port(settings)
    yield _disk(settings)
    yield from (database := list(_database(settings)))
    if database[0].well:
        settings = console.settings_in_force()
        yield _rules(settings)
    yield _broker(settings)
    yield _devices(settings)
    yield _codecs()
    yield from _weights(settings)
    yield from _certificates(settings)
    yield from _destinations(settings)
    yield from _identity_provider(settings)


def _identity_provider(settings: Settings) -> Iterator[Finding]:
    from gateway.admin.openid import Provider

    web = settings.web
    if openid := web.oidc:
        yield _asked(
            "login",
            lambda: asyncio.run(Provider(openid, web).answers()),
            "compare [web.oidc] with the client at the identity provider; its certificate needs web.oidc.ca if the "
            "machine does not trust it",
        )


def _port(settings: Settings) -> Finding:
    listener = settings.listener
    place = f"{listener.address}:{listener.port}"
    with socket.socket(socket.AF_INET6 if ":" in listener.address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.address, listener.port))
        except PermissionError:
            fix = "choose listener.port above 1023, or give the SCP CAP_NET_BIND_SERVICE"
            return Finding("port", False, f"{place} may not be bound by this user", fix)
        except OSError as error:
            return _port_in_use(settings, place, error)
    return Finding("port", True, f"{place} is free for the SCP")


def _port_in_use(settings: Settings, place: str, error: OSError) -> Finding:
    us = this_gateway(settings, settings.node.ae_title)
    if echo(replace(us, connect_timeout_s=_ECHO_WITHIN_S, response_timeout_s=_ECHO_WITHIN_S)).is_answered:
        return Finding("port", True, f"{place}: our SCP answers C-ECHO")
    fix = "stop the program that holds it, or change listener.address and listener.port"
    return Finding("port", False, f"{place}: {error.strerror}", fix)


def _disk(settings: Settings) -> Finding:
    folder = existing(settings.node.state_dir)
    free = shutil.disk_usage(folder).free
    reserve = settings.reserve_bytes
    found = f"{free / 1e9:.1f} GB free, reserve {reserve / 1e9:.1f} GB"
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("disk", False, f"{folder} cannot be written", "give this user the folder of node.state_dir")
    return Finding("disk", free > reserve, found, "free some space or lower spool.reserve_bytes")


def _asked(check: str, question: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(check, True, question())
    except AthanorError as error:
        return Finding(check, False, str(error), fix)


def _database(settings: Settings) -> Iterator[Finding]:
    """The database, and our clock beside its own. One that is absent is not made by looking."""
    try:
        if console.is_new_database(settings):
            yield Finding("database", True, "will be made at start")
            return
        database = Database(settings.database_url)
        drift = abs(database.now_s() - time.time())
        database.close()
    except AthanorError as error:
        yield Finding("database", False, str(error), "check database.url and that the server runs")
        return
    yield Finding("database", True, f"{database.url.get_backend_name()} answers")
    found = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, {drift:.1f} s from that of the database"
    yield Finding("clock", drift <= _CLOCK_DRIFT_S, found, "run an NTP client, such as chrony, on both hosts")


def _rules(settings: Settings) -> Finding:
    """The rules in force, or those that an empty database would be given."""
    try:
        if console.is_new_database(settings):
            rules = list(read_rules(settings.rules.seed)) if settings.rules.seed else []
        else:
            with console.database() as database, database.read() as connection:
                rules = [version.rule for version in rulebook.active(connection)]
        rulebook.require_usable(rules, settings)
    except (AthanorError, PipelineError) as error:
        return Finding("rules", False, str(error), "correct it, then `athanor rules apply FILE`")
    enabled = [rule.name for rule in rules if rule.enabled]
    fix = "without one every series ends UNMATCHED; `athanor rules enable RULE` or `athanor rules apply FILE`"
    return Finding("rules", bool(enabled), f"enabled: {', '.join(enabled) or 'none'}", fix)


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
    number = len(decodable_transfer_syntaxes())
    found = f"{number} of {_TRANSFER_SYNTAXES} transfer syntaxes can be decoded"
    return Finding("codecs", number == _TRANSFER_SYNTAXES, found, "install athanor again, with what it depends on")


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
    yield _runtimes(settings, catalog)


def _runtimes(settings: Settings, catalog: Catalog) -> Finding:
    """Of how many models the fastest runtime is known on this processor. Not to know it costs time, nothing else."""
    enabled = [spec.generator.sha256 for spec in catalog.values() if spec.enabled]
    machine = Machine.here(settings.process.cpu_threads)
    measured = {
        each.weights_sha256
        for each in runtime_choices.read(settings.runtimes_file)
        if each.machine == machine and each.weights_sha256 in enabled
    }
    found = f"the fastest was measured for {len(measured)} of {len(enabled)} enabled pipelines"
    hint = "" if len(measured) == len(enabled) else "; PyTorch computes the others: `athanor bench inference --record`"
    return Finding("runtime", True, found + hint)


def _certificates(settings: Settings) -> Iterator[Finding]:
    sections = {"listener.tls": settings.listener.tls} | {
        f"{kind}.{name}.tls": entity.tls
        for kind, entities in (("destinations", settings.destinations), ("peers", settings.peers))
        for name, entity in entities.items()
    }
    for section, tls in sections.items():
        if tls is None:
            continue
        try:
            problems = list(TlsFiles(tls.certificate, tls.key, tls.ca).warnings(datetime.now(UTC)))
        except AthanorError as error:
            problems = [str(error)]
        found = f"{section}: {'; '.join(problems) or 'certificates and key are in order'}"
        yield Finding("TLS", not problems, found, f"correct the files of {section}, then restart")


def _destinations(settings: Settings) -> Iterator[Finding]:
    if not settings.destinations:
        yield Finding("destination", False, "none", "add [destinations.NAME] to settings.toml")
    for name, destination in settings.destinations.items():
        address = address_of(destination, settings.deliver, settings.node.ae_title)
        report = ask(replace(address, response_timeout_s=_ECHO_WITHIN_S))
        yield Finding(
            "destination", report.is_answered, f"{name}: {report.explanation}",
            "check host, port, AE titles and certificates with the PACS administrator",
        )  # fmt: skip
        if destination.commitment and report.is_answered:
            yield _commitment(name, replace(address, response_timeout_s=_ECHO_WITHIN_S))


def _commitment(name: str, address: Address) -> Finding:
    def question() -> str:
        assert isinstance(address, DestinationAddress), "the settings allow it for storage SCPs only"
        require_support(address)
        return f"{name} takes questions"

    return _asked("commitment", question, f"set destinations.{name}.commitment = false, or have the PACS provide it")


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(doctor)

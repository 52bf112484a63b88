"""``athanor send`` and ``athanor echo``: speak to another application entity by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, err, say
from gateway.errors import NotDicom
from gateway.network.destination import DestinationAddress
from gateway.network.outgoing import OutgoingInstance
from gateway.network.stow import StowAddress
from gateway.network.transfer import Address, ask, name_of, transfer
from gateway.settings import Settings
from gateway.stages.deliver import address_of

To = Annotated[str, typer.Option(help="a destination of the settings, or HOST:PORT/AE_TITLE; default: this gateway")]


def send_folder(
    path: Annotated[Path, typer.Argument(help="a Part 10 file, or a folder that is searched through", exists=True)],
    to: To = "",
    calling: Annotated[str, typer.Option(help="our AE title in this association")] = "ATHANOR-SEND",
    json: Json = False,
) -> None:
    """Send DICOM files with C-STORE, by default to this gateway, as a modality would."""
    instances = list(_instances(path))
    if not instances:
        console.fail(f"found no DICOM file in {path}; expected Part 10 files", console.NOT_FOUND)
    address = _address(console.settings(), to, calling)
    receiver = address.url if isinstance(address, StowAddress) else address.ae_title
    with console.progress() as progress:
        bar = progress.add_task(f"to {receiver}", total=len(instances))
        report = transfer(address, instances, lambda *_: progress.advance(bar))
    refused = [outcome for outcome in report.outcomes if not outcome.is_delivered]
    if json:
        console.show_json(
            {
                "instances": len(instances),
                "accepted": len(instances) - len(refused),
                "seconds": round(report.seconds, 3),
                "failure": str(report.failure) if report.failure else None,
                "outcomes": [
                    {"sop_instance_uid": o.sop_instance_uid, "status": o.status, "explanation": o.explanation}
                    for o in report.outcomes
                ],
            }
        )
    else:
        say(
            f"{len(instances) - len(refused)} of {len(instances)} instances accepted by {receiver} "
            f"in {report.seconds:.2f} s",
            mark=CROSS if refused else TICK,
        )
        for words in dict.fromkeys(outcome.explanation for outcome in refused):
            say(words, style="red", to=err)
    if refused:
        raise typer.Exit(console.FAILED)


def echo_destination(
    destination: Annotated[str, typer.Argument(help="a destination of the settings, or HOST:PORT/AE_TITLE")] = "",
    json: Json = False,
) -> None:
    """C-ECHO a destination (by default this gateway) and say which step failed."""
    settings = console.settings()
    address = _address(settings, destination, settings.node.ae_title)
    report = ask(address)
    steps = {str(step): round(value, 1) for step, value in report.milliseconds.items()}
    if json:
        console.show_json({"answered": report.is_answered, "explanation": report.explanation, "milliseconds": steps})
    else:
        say(
            f"{name_of(address)}: {report.explanation}",
            mark=TICK if report.is_answered else CROSS,
        )
        say(", ".join(f"{step} {value} ms" for step, value in steps.items()), indent=2)
    if not report.is_answered:
        raise typer.Exit(console.FAILED)


def this_gateway(settings: Settings, calling: str) -> DestinationAddress:
    """Our own SCP."""
    listener = settings.listener
    # what listens on all interfaces is reached on the loopback
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.address, listener.address)  # noqa: S104 - not bound here
    return DestinationAddress(settings.node.ae_title, host, listener.port, calling)


def _address(settings: Settings, to: str, calling: str) -> Address:
    """A destination by name, by HOST:PORT/AE_TITLE, or this gateway for an empty text."""
    if not to:
        return this_gateway(settings, calling)
    destinations = settings.destinations
    if to not in destinations:
        destinations = console.settings_in_force().destinations
    if to in destinations:
        return address_of(destinations[to], settings.deliver, calling)
    host, colon, rest = to.rpartition(":")
    port, slash, ae_title = rest.partition("/")
    if not (host and colon and slash and port.isdecimal()):
        known = ", ".join(destinations) or "none"
        console.fail(f"found no destination {to!r}; expected one of: {known}; or HOST:PORT/AE_TITLE", console.NOT_FOUND)
    return DestinationAddress(
        ae_title=ae_title,
        host=host.strip("[]"),
        port=int(port),
        calling_ae_title=calling,
        connect_timeout_s=settings.deliver.connect_timeout_s,
        response_timeout_s=settings.deliver.response_timeout_s,
    )


def _instances(path: Path) -> Iterator[OutgoingInstance]:
    for file in console.files_below(path):
        try:
            yield OutgoingInstance.read(file)
        except NotDicom:
            say(f"not DICOM, left out: {file}", to=err)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("send")(send_folder)
    app.command("echo")(echo_destination)

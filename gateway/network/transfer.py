"""One way to send to, and to ask after, destinations of both kinds: storage SCPs and STOW-RS servers."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.network import scu, stow
from gateway.network.destination import DestinationAddress
from gateway.network.outcomes import EchoReport, OnAnswer, SendReport
from gateway.network.outgoing import OutgoingInstance
from gateway.network.pace import Pace, at_once
from gateway.network.stow import StowAddress

Address = DestinationAddress | StowAddress


def transfer(
    address: Address, instances: Sequence[OutgoingInstance], on_answer: OnAnswer, pace: Pace = at_once
) -> SendReport:
    """Send every instance. Never raises for what the peer does; raises TransferStopped when `pace` does."""
    if isinstance(address, StowAddress):
        return stow.store(address, instances, on_answer, pace)
    return scu.send(address, instances, on_answer, pace)


def ask(address: Address) -> EchoReport:
    """Ask whether it is there, with C-ECHO or with OPTIONS; never raises for what the peer does."""
    return stow.ask(address) if isinstance(address, StowAddress) else scu.echo(address)


def name_of(address: Address) -> str:
    """How people know it: AE title and place, or URL."""
    if isinstance(address, StowAddress):
        return address.url
    return f"{address.ae_title} at {address.host}:{address.port}"

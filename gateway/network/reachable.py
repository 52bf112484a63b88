"""Where a connection may go that somebody on a web page, or a line of the settings, asks for.

Nobody may use this node as a way to what only its own host reaches: the services of a cloud for the machine itself
lie on link-local addresses. What is judged is the address and never the name, after the name was resolved, and the
connection goes to the address that was judged: a name that changes its address in between gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.network.destination import DestinationAddress, Step, StepFailed
from gateway.network.requestor import Place, connect, resolve

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int, float], list[Place]]
"""Host, port and deadline; gives addresses or raises StepFailed."""

# where clouds serve the machine itself, besides 169.254.0.0/16
_METADATA = frozenset(
    ipaddress.ip_address(one) for one in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")  # Linux takes some of it for itself (RFC 1122 3.2.1.3)
# other ways to write the IPv4 address in their last 32 bits (RFC 4291 2.5.5, RFC 6052 2.1)
_WRITES_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))


def refusal_of(address: str, *, allow_private: bool) -> str | None:
    """Why no connection may go to this address, in words; None when it may.

    Never to link-local, multicast, unspecified and reserved addresses, nor to those where clouds serve the machine
    itself; to loopback and private ones only with `allow_private`.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "is no address"
    return next((words for one in _meant_by(ip) if (words := _refusal(one, allow_private)) is not None), None)


def places(host: str, port: int, deadline: float, *, allow_private: bool, resolver: Resolver = resolve) -> list[Place]:
    """The addresses of `host` to which a connection may go. Raises StepFailed when there is none."""
    found = resolver(host, port, deadline)
    refusals = {place[0]: refusal_of(place[0], allow_private=allow_private) for _, place in found}
    allowed = [(family, place) for family, place in found if refusals[place[0]] is None]
    if allowed:
        return allowed
    words = "; ".join(f"{address} {refusal}" for address, refusal in refusals.items()) or "it has no address"
    raise StepFailed(Step.RESOLVE, f"{host}: no connection is made there: {words}", worth_retrying=False)


def open_socket(
    host: str, port: int, deadline: float, *, allow_private: bool, resolver: Resolver = resolve
) -> socket.socket:
    """A connection to `host` at an address to which one may go. Raises StepFailed."""
    return connect(host, port, places(host, port, deadline, allow_private=allow_private, resolver=resolver), deadline)


def pinned(destination: DestinationAddress, deadline: float, resolver: Resolver = resolve) -> DestinationAddress:
    """The same application entity at an address that was judged, in a hospital's own network or anywhere else.

    Raises StepFailed. The name in its certificate stays what it was.
    """
    found: Sequence[Place] = places(destination.host, destination.port, deadline, allow_private=True, resolver=resolver)
    _, (address, _) = found[0]
    return replace(destination, host=address, tls_server_name=destination.tls_server_name or destination.host)


def _refusal(ip: IPAddress, allow_private: bool) -> str | None:
    if ip.is_link_local or ip in _METADATA:
        return "is link-local, or serves the machine itself"
    if ip.is_unspecified or (ip.version == 4 and ip in _THIS_NETWORK):
        return "is unspecified"
    if ip.is_multicast:
        return "is multicast"
    if ip.is_reserved and not ip.is_loopback:
        return "is reserved"
    if not allow_private and (not ip.is_global or (isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local)):
        return "is loopback or private; `alerts.allow_private = true` lets messages go there"
    return None


def _meant_by(ip: IPAddress) -> Sequence[IPAddress]:
    """The addresses at which a packet to `ip` may end: itself, or an IPv4 address that it carries."""
    if isinstance(ip, ipaddress.IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return [ip]
    if any(ip in network for network in _WRITES_IPV4):
        return [ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)]
    return [ip, *(one for one in (ip.sixtofour, *(ip.teredo or ())) if one is not None)]

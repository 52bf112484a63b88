"""Who may come in: a listener that idle, slow or greedy peers cannot stall.

A transport connection becomes an association only once its whole A-ASSOCIATE-RQ has arrived. Until then it
waits outside the association places, and when too many wait, the one that has waited longest is sent away: a
real peer, which asks at once, always gets its turn. How long one may wait, and how long a request may be, is
the association's own deadline.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.domain.refusal import Reason
from gateway.errors import ConfigurationError
from gateway.network.tls import PeerCertificate


class Visitor(Protocol):
    """A transport connection, or the association that it became."""

    @property
    def address(self) -> str:
        """The peer's IP address."""

    def dismiss(self) -> None:
        """Close the transport at once, from any thread."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

ANY = "*"
"""Any AE title, or any address."""

_EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is let in, and how many at a time.

    `peers` says from where an AE title may call, as addresses and networks; `ANY` stands for every AE title and for
    every address. `certificates` says whose certificate a calling AE title must come with: a fingerprint or a name, as
    `PeerCertificate.is_of` takes it. An AE title that is not in it may come with any, or with none.
    """

    max_associations: int = 50
    max_associations_per_address: int = 20
    max_associations_per_peer: int = 20
    max_waiting: int = 64
    max_waiting_per_address: int = 16
    called_ae_title: str | None = None
    peers: Mapping[str, Sequence[str]] = field(default_factory=lambda: {ANY: (ANY,)})
    certificates: Mapping[str, str] = field(default_factory=dict)
    _networks: Mapping[str, tuple[Network, ...]] = field(init=False)
    _hosts: frozenset[IPAddress] = field(init=False)  # thousands of them cost a connection no time
    _wide: tuple[Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in (
            "max_associations",
            "max_associations_per_address",
            "max_associations_per_peer",
            "max_waiting",
            "max_waiting_per_address",
        ):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; at least 1 is expected")
        try:
            networks = {title: _networks(places) for title, places in self.peers.items()}
        except ValueError as error:
            raise ConfigurationError(f"addresses of peers: {error}; write 192.0.2.7, 192.0.2.0/24 or *") from None
        object.__setattr__(self, "_networks", networks)
        every = {network for one in networks.values() for network in one}
        hosts = {network.network_address for network in every if network.num_addresses == 1}
        object.__setattr__(self, "_hosts", frozenset(hosts))
        object.__setattr__(self, "_wide", tuple(network for network in every if network.num_addresses > 1))

    def knows_address(self, address: str) -> bool:
        """Whether anybody at this IP address may connect at all."""
        ip = _ip(address)
        return ip in self._hosts or any(ip in network for network in self._wide)

    def objection(self, address: str, calling_ae_title: str, called_ae_title: str) -> Reason | None:
        """Why this call is not welcome; None when it is."""
        if self.called_ae_title is not None and called_ae_title != self.called_ae_title:
            return Reason.CALLED_AE_TITLE
        ip = _ip(address)
        allowed = (*self._networks.get(calling_ae_title, ()), *self._networks.get(ANY, ()))
        return None if any(ip in network for network in allowed) else Reason.CALLING_AE_TITLE

    def owns_title(self, calling_ae_title: str, certificate: PeerCertificate | None) -> bool:
        """Whether a peer that showed this certificate may call itself so."""
        identity = self.certificates.get(calling_ae_title)
        return identity is None or (certificate is not None and certificate.is_of(identity))


def _networks(places: Sequence[str]) -> tuple[Network, ...]:
    every = (one for place in places for one in (_EVERYWHERE if place == ANY else (place,)))
    return tuple(ipaddress.ip_network(place) for place in every)


def _ip(address: str) -> IPAddress:
    return ipaddress.ip_address(address.partition("%")[0])


class Guard:
    """Counts who waits and who has an association; safe to call from every thread."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._lock = threading.Lock()
        self._waiting: dict[Visitor, None] = {}  # in order of arrival
        self._associated: dict[Visitor, str] = {}  # and their calling AE titles

    def arrive(self, visitor: Visitor) -> Visitor | None:
        """A transport connection is here and has not asked for an association yet; who was sent away for it.

        Where too many wait, one makes room for it: the longest waiting of its own address, or of the address that has
        the most, so that a crowd at one address costs nobody else his turn.
        """
        with self._lock:
            waiting = Counter(other.address for other in self._waiting)
            crowd = leaving = None
            if waiting[visitor.address] >= self._admission.max_waiting_per_address:
                crowd = visitor.address
            elif len(self._waiting) >= self._admission.max_waiting:
                crowd = waiting.most_common(1)[0][0]
            if crowd is not None:
                leaving = next(other for other in self._waiting if other.address == crowd)
                self._send_away(leaving)
            self._waiting[visitor] = None
            return leaving

    def associate(self, visitor: Visitor, calling_ae_title: str) -> bool:
        """Give a visitor whose request arrived an association place; False when there is none for it.

        Who is rejected goes on waiting, until the rejection is read or the place is needed.
        """
        with self._lock:
            at_address = sum(other.address == visitor.address for other in self._associated)
            of_peer = sum(title == calling_ae_title for title in self._associated.values())
            if (
                len(self._associated) >= self._admission.max_associations
                or at_address >= self._admission.max_associations_per_address
                or of_peer >= self._admission.max_associations_per_peer
            ):
                return False
            self._waiting.pop(visitor, None)
            self._associated[visitor] = calling_ae_title
            return True

    def leave(self, visitor: Visitor) -> None:
        """The visitor is gone, whatever it was."""
        with self._lock:
            self._waiting.pop(visitor, None)
            self._associated.pop(visitor, None)

    def dismiss_waiting(self) -> None:
        """Send away everyone who has no association."""
        with self._lock:
            for visitor in tuple(self._waiting):
                self._send_away(visitor)

    @property
    def counts(self) -> tuple[int, int]:
        """How many wait, and how many have an association."""
        with self._lock:
            return len(self._waiting), len(self._associated)

    def _send_away(self, visitor: Visitor) -> None:
        del self._waiting[visitor]
        visitor.dismiss()

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

from gateway.errors import ConfigurationError
from gateway.network.statuses import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    Rejection,
)
from gateway.network.tls import PeerCertificate


class Visitor(Protocol):
    """A transport connection, or the association that it became."""

    @property
    def address(self) -> str:
        """The peer's IP address."""

    def dismiss(self) -> None:
        """Close the transport at once, from any thread."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is let in, and how many at a time. Empty lists of addresses and AE titles let everyone in.

    `certificates` says whose certificate a calling AE title must come with: a fingerprint or a name, as
    `PeerCertificate.is_of` takes it. An AE title that is not in it may come with any, or with none.
    """

    max_associations: int = 50
    max_associations_per_address: int = 20
    max_waiting: int = 64
    max_waiting_per_address: int = 16
    called_ae_title: str | None = None
    calling_ae_titles: frozenset[str] = frozenset()
    addresses: Sequence[str] = ()
    certificates: Mapping[str, str] = field(default_factory=dict)
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in (
            "max_associations",
            "max_associations_per_address",
            "max_waiting",
            "max_waiting_per_address",
        ):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; at least 1 is expected")
        try:
            networks = tuple(ipaddress.ip_network(text) for text in self.addresses)
        except ValueError as error:
            raise ConfigurationError(f"allowed addresses: {error}; write 192.0.2.7 or 192.0.2.0/24") from None
        object.__setattr__(self, "_networks", networks)

    def knows_address(self, address: str) -> bool:
        """Whether a peer at this IP address may connect at all."""
        if not self._networks:
            return True
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self._networks)

    def check_titles(self, calling_ae_title: str, called_ae_title: str) -> Rejection | None:
        """The rejection that these AE titles earn; None when they are welcome."""
        if self.called_ae_title is not None and called_ae_title != self.called_ae_title:
            return CALLED_AE_TITLE_NOT_RECOGNISED
        if self.calling_ae_titles and calling_ae_title not in self.calling_ae_titles:
            return CALLING_AE_TITLE_NOT_RECOGNISED
        return None

    def owns_title(self, calling_ae_title: str, certificate: PeerCertificate | None) -> bool:
        """Whether a peer that showed this certificate may call itself so."""
        identity = self.certificates.get(calling_ae_title)
        return identity is None or (certificate is not None and certificate.is_of(identity))


class Guard:
    """Counts who waits and who has an association; safe to call from every thread."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._lock = threading.Lock()
        self._waiting: dict[Visitor, None] = {}  # in order of arrival
        self._associated: dict[Visitor, None] = {}

    def arrive(self, visitor: Visitor) -> None:
        """A transport connection is here and has not asked for an association yet."""
        with self._lock:
            neighbours = [other for other in self._waiting if other.address == visitor.address]
            if len(neighbours) >= self._admission.max_waiting_per_address:
                self._send_away(neighbours[0])
            elif len(self._waiting) >= self._admission.max_waiting:
                self._send_away(next(iter(self._waiting)))
            self._waiting[visitor] = None

    def associate(self, visitor: Visitor) -> Rejection | None:
        """Give a visitor whose request arrived an association place; None, or the rejection for want of one.

        Who is rejected goes on waiting, until the rejection is read or the place is needed.
        """
        with self._lock:
            places = Counter(other.address for other in self._associated)
            if (
                len(self._associated) >= self._admission.max_associations
                or places[visitor.address] >= self._admission.max_associations_per_address
            ):
                return LOCAL_LIMIT_EXCEEDED
            self._waiting.pop(visitor, None)
            self._associated[visitor] = None
            return None

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

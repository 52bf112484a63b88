"""The Storage SCP: it listens, and every association gets a thread of its own."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from gateway import logs
from gateway.domain.refusal import Reason, Refusal
from gateway.errors import ConfigurationError
from gateway.network.acceptor import AcceptedAssociation, AcceptorTerms
from gateway.network.commitment_in import Commitments
from gateway.network.contexts import supported_contexts
from gateway.network.dimse import MessageLimits
from gateway.network.guard import ANY, Admission, Guard
from gateway.network.part10 import part10_prefix
from gateway.network.receiver import AssociationEnd, AssociationInfo, Incoming, Receiver, StoreAnswer, StoreRequest
from gateway.network.socket_input import Buffers

__all__ = [
    "AssociationEnd",
    "AssociationInfo",
    "Incoming",
    "Receiver",
    "ScpConfig",
    "StorageScp",
    "StoreAnswer",
    "StoreRequest",
    "part10_prefix",
]

log = logs.get("scp")

# Linux drops whoever its queue has no room for, and that peer asks again after a second. So a flood is to fit in, and
# to be passed soon: these are sent away within a third of a second (net.core.somaxconn may allow fewer).
_BACKLOG = 512
_MIN_PDU_BYTES = 4096
_STALL_S = 0.2


@dataclass(frozen=True, slots=True)
class ScpConfig:
    """How the Storage SCP listens. Port 0 takes a free one.

    `acse_timeout_s` is how long a peer may take to ask for its association, TLS handshake included;
    `network_timeout_s` how long an association may be idle; `dimse_timeout_s` how long a message may take
    before a minimum rate is asked of it, and how long the peer may take to read an answer.
    `peers` and `certificates` are those of `Admission`; `private_sop_classes` are stored like those of the standard.
    """

    ae_title: str
    address: str = "127.0.0.1"
    port: int = 11112
    require_called_ae_title: bool = True
    peers: Mapping[str, Sequence[str]] = field(default_factory=lambda: {ANY: (ANY,)})
    certificates: Mapping[str, str] = field(default_factory=dict)
    max_associations: int = 50
    max_associations_per_address: int = 20
    max_associations_per_peer: int = 20
    max_waiting: int = 64
    max_waiting_per_address: int = 16
    private_sop_classes: tuple[str, ...] = ()
    max_pdu_bytes: int = 131072
    max_instance_bytes: int = 8 * 1024**3
    acse_timeout_s: float = 10.0
    dimse_timeout_s: float = 30.0
    network_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.ae_title) <= 16 or self.ae_title != self.ae_title.strip():
            raise ConfigurationError(
                f"AE title {self.ae_title!r}; 1 to 16 characters without outer spaces are expected"
            )
        if self.max_pdu_bytes < _MIN_PDU_BYTES:
            raise ConfigurationError(f"max_pdu_bytes is {self.max_pdu_bytes}; at least {_MIN_PDU_BYTES} are expected")
        for name in ("max_instance_bytes", "acse_timeout_s", "dimse_timeout_s", "network_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; more than 0 is expected")
        self.admission()

    def admission(self) -> Admission:
        """Who is let in, and how many at a time; raises ConfigurationError when that cannot work."""
        return Admission(
            max_associations=self.max_associations,
            max_associations_per_address=self.max_associations_per_address,
            max_associations_per_peer=self.max_associations_per_peer,
            max_waiting=self.max_waiting,
            max_waiting_per_address=self.max_waiting_per_address,
            called_ae_title=self.ae_title if self.require_called_ae_title else None,
            peers=self.peers,
            certificates=self.certificates,
        )


class StorageScp:
    """Listens for associations and hands every stored object to `receiver`; also answers C-ECHO.

    `tls` is a server-side context: with it, every association is over TLS (PS3.15 B.12), without it none is.
    `refused` is told of everybody who got no association; it is called by several threads, and must not wait.
    With `commitments` it also takes requests and reports of storage commitment (PS3.4 Annex J).
    """

    def __init__(
        self,
        config: ScpConfig,
        receiver: Receiver,
        *,
        tls: ssl.SSLContext | None = None,
        refused: Callable[[Refusal], None] = lambda _: None,
        commitments: Commitments | None = None,
    ) -> None:
        self._config = config
        self._receiver = receiver
        self._terms = AcceptorTerms(
            admission=config.admission(),
            max_pdu_bytes=config.max_pdu_bytes,
            request_s=config.acse_timeout_s,
            answer_s=config.dimse_timeout_s,
            messages=MessageLimits(config.network_timeout_s, config.dimse_timeout_s, config.max_instance_bytes),
            buffers=Buffers(),
            # asks the decoders now, not the first peer
            contexts=supported_contexts(config.private_sop_classes, commitment=commitments is not None),
            tls=tls,
            refused=refused,
            commitments=commitments,
        )
        self._guard = Guard(self._terms.admission)
        self._lock = threading.Lock()
        self._running: dict[AcceptedAssociation, threading.Thread] = {}
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._wake_accept, self._wake = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="storage-scp")

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        assert self._listener is not None, "start() comes first"
        return int(self._listener.getsockname()[1])

    def admit(self, peers: Mapping[str, Sequence[str]]) -> None:
        """From now on these may call, as `Admission.peers` says; associations that are open go on."""
        if peers != self._terms.admission.peers:
            self._terms = replace(self._terms, admission=replace(self._terms.admission, peers=peers))

    @property
    def associations(self) -> int:
        """How many associations are open."""
        return self._guard.counts[1]

    def start(self) -> None:
        """Listen. Raises ConfigurationError when address and port cannot be had."""
        self._listener = listen(self._config)
        self._accepting.start()

    def stop(self, drain_s: float) -> None:
        """Accept no more, give open associations `drain_s` seconds, abort the rest; all threads end."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.send(b"\0")
        if self._listener is not None:
            self._accepting.join()
            self._listener.close()
        self._wake.close()
        self._wake_accept.close()
        self._guard.dismiss_waiting()
        deadline = time.monotonic() + drain_s
        for thread in self._threads().values():
            thread.join(max(0.0, deadline - time.monotonic()))
        for association in self._threads():
            association.abort()
        for thread in self._threads().values():
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0.0)

    def _threads(self) -> dict[AcceptedAssociation, threading.Thread]:
        with self._lock:
            return dict(self._running)

    def _accept(self) -> None:
        assert self._listener is not None, "start() comes first"
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_accept, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                try:
                    sock, peer = self._listener.accept()
                except (BlockingIOError, ConnectionError):
                    continue
                except OSError as error:  # no descriptors left: those who wait leave soon
                    log.warning("cannot take a connection", reason=error.strerror)
                    self._stopping.wait(_STALL_S)
                    continue
                self.welcome(sock, (plain_address(peer[0]), peer[1]))

    def welcome(self, sock: socket.socket, peer: tuple[str, int], gone: Callable[[], None] = lambda: None) -> None:
        """Take a transport connection that was accepted here or elsewhere; `gone` is called when it is over."""
        if not self._terms.admission.knows_address(peer[0]):
            self._refused(peer[0], Reason.ADDRESS)
            sock.close()
            gone()
            return
        association = AcceptedAssociation(sock, peer, self._terms, self._guard, self._receiver)
        if (sent_away := self._guard.arrive(association)) is not None:
            self._refused(sent_away.address, Reason.TOO_MANY_WAIT)
        thread = threading.Thread(target=self._run, args=(association, gone), name=f"association-{association.id}")
        with self._lock:
            self._running[association] = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left: this peer may try again, the others go on
            log.warning("connection closed", address=peer[0], reason="no thread could be started")
            association.refuse()
            with self._lock:
                del self._running[association]
            gone()

    def _refused(self, address: str, reason: Reason) -> None:
        log.warning("connection closed", address=address, reason=reason.value)
        self._terms.refused(Refusal(address, "", "", reason))

    def _run(self, association: AcceptedAssociation, gone: Callable[[], None]) -> None:
        try:
            association.run()
        finally:
            with self._lock:
                del self._running[association]
            gone()


def listen(config: ScpConfig) -> socket.socket:
    """A socket that listens as `config` says and never blocks. Raises ConfigurationError when that cannot be had."""
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        listener = socket.create_server(
            (config.address, config.port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=config.address == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {config.address} port {config.port}: {error.strerror}; "
            "choose a free port and an address of this machine"
        ) from None
    listener.setblocking(False)
    return listener


def plain_address(address: str) -> str:
    """The IPv4 address that an IPv6 socket shows as ::ffff:192.0.2.7; any other address as it is."""
    return address.removeprefix("::ffff:") if "." in address else address

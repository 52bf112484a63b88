"""A process that receives: the storage SCP in front of the receive stage.

It listens itself, or takes the connections that `receivers` hands to it over a channel.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from gateway import logs
from gateway.domain.refusal import Refusal
from gateway.errors import Unavailable
from gateway.network.commitment_in import Commitments
from gateway.network.scp import Receiver, ScpConfig, StorageScp
from gateway.network.tls import TlsFiles
from gateway.services.commitment import commitments_of
from gateway.services.notify import notify
from gateway.services.receiving import receiving
from gateway.settings import Settings
from gateway.settings.values import THIS_MACHINE
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.refusals import RefusalBook

_BEAT_EVERY_S = 5.0
_DRAIN_S = 20.0
# a thread that comes back from a sync waits this long at most for the one that writes rows
_SWITCH_S = 0.0005
_MOST_PROCESSES = 4  # beyond these the disk is what takes the time
READY = b"ready"
GONE = b"gone "
"""What a receiver tells over its channel: that it takes connections, and the address of one that is over."""

log = logs.get("scp")


@dataclass(frozen=True, slots=True)
class Channel:
    """Where connections come from that were accepted elsewhere; `ports` are those of the listeners, by their names."""

    socket: socket.socket
    ports: Mapping[str, int]


def run(settings: Settings, stopping: threading.Event, index: int = 0, channel: Channel | None = None) -> None:
    """Receive until `stopping` is set, or the channel ends; then let open associations end."""
    _allow_descriptors()
    sys.setswitchinterval(_SWITCH_S)
    database = Database(settings.database_url)
    directory = Directory(settings, database)
    name = f"scp-{index}@{socket.gethostname()}"
    refusals = RefusalBook(database)
    with contextlib.ExitStack() as started:
        receive = started.enter_context(receiving(directory.settings, database, name, refusals.add))
        commitments = commitments_of(settings, database, receive.spool)
        listeners = listeners_of(directory.settings, receive, refusals.add, commitments)
        started.enter_context(refusals)
        started.enter_context(directory.followed(partial(_admit, listeners.values(), directory)))
        if channel is None:
            for scp in listeners.values():
                started.enter_context(scp)
        ports = channel.ports if channel else {port: scp.port for port, scp in listeners.items()}
        heart = heartbeats.Heart(database, name, ae_title=settings.node.ae_title, **ports)
        if channel is not None:
            started.enter_context(_connections(channel, listeners, stopping))
        notify("READY=1")
        log.info("ready", ae_title=settings.node.ae_title, address=settings.listener.address, **ports)
        while not stopping.wait(_BEAT_EVERY_S):
            try:
                heart.beat()
            except Unavailable as error:
                log.warning("no heartbeat", reason=str(error))
        notify("STOPPING=1")
        with ThreadPoolExecutor() as together:
            list(together.map(lambda scp: scp.stop(_DRAIN_S), listeners.values()))
    with contextlib.suppress(Unavailable):
        heart.end()
    database.close()
    log.info("stopped")


@contextlib.contextmanager
def _connections(channel: Channel, listeners: Mapping[str, StorageScp], stopping: threading.Event) -> Iterator[None]:
    """Take connections from the channel inside the block; its end sets `stopping`."""
    telling = threading.Lock()

    def tell(message: bytes) -> None:
        with telling, contextlib.suppress(OSError):  # nobody listens any more: this process ends, too
            channel.socket.send(message)

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                message, descriptors, _, _ = socket.recv_fds(channel.socket, 1024, 1)
                if not message:
                    break
                listener, address, port = json.loads(message)
                sock = socket.socket(fileno=descriptors[0])
                listeners[listener].welcome(sock, (address, port), partial(tell, GONE + address.encode()))
        stopping.set()

    thread = threading.Thread(target=take, name="connections")
    thread.start()
    tell(READY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            channel.socket.shutdown(socket.SHUT_RD)
        thread.join()


def _admit(listeners: Iterable[StorageScp], directory: Directory) -> None:
    """Let in whom the directory names now."""
    peers = config_of(directory.settings).peers
    for scp in listeners:
        scp.admit(peers)


def listeners_of(
    settings: Settings,
    receiver: Receiver,
    refused: Callable[[Refusal], None] = lambda _: None,
    commitments: Commitments | None = None,
) -> dict[str, StorageScp]:
    """The listener and, with its settings, the one over TLS, by the names of their ports; each with its own limits."""
    config = config_of(settings)
    listeners = {"port": StorageScp(config, receiver, refused=refused, commitments=commitments)}
    tls, secure = settings.listener.tls, tls_config_of(settings)
    if tls is not None and secure is not None:
        context = TlsFiles(tls.certificate, tls.key, tls.ca).listening_context()
        listeners["tls_port"] = StorageScp(secure, receiver, tls=context, refused=refused, commitments=commitments)
    return listeners


def _allow_descriptors() -> None:
    """As many files and connections as the system lets us have: an association takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def count_processes(settings: Settings) -> int:
    """How many processes receive: as the settings say, or one for each core, at most four."""
    return settings.listener.processes or min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def _share(limit: int, *, processes: int) -> int:
    return -(-limit // processes)


def tls_config_of(settings: Settings) -> ScpConfig | None:
    """How the listener over TLS listens; None where there is none."""
    config, tls = config_of(settings), settings.listener.tls
    return replace(config, address=tls.address or config.address, port=tls.port) if tls else None


def config_of(settings: Settings) -> ScpConfig:
    """How the listener of the settings listens in one of its processes; limits on peers are shared out among them."""
    listener, ours = settings.listener, settings.node.ae_title
    share = partial(_share, processes=count_processes(settings))
    # `athanor doctor` and `athanor echo` ask under our own name
    peers = {**listener.peers, ours: (*listener.peers.get(ours, ()), *THIS_MACHINE)}
    return ScpConfig(
        ae_title=settings.node.ae_title,
        address=listener.address,
        port=listener.port,
        require_called_ae_title=listener.require_called_ae_title,
        peers=peers,
        certificates=listener.tls.peers if listener.tls else {},
        max_associations=share(listener.max_associations),
        max_associations_per_address=share(listener.max_associations_per_address),
        max_associations_per_peer=share(listener.max_associations_per_peer),
        max_waiting=share(listener.max_waiting),
        max_waiting_per_address=share(listener.max_waiting_per_address),
        private_sop_classes=listener.private_sop_classes,
        max_pdu_bytes=listener.max_pdu_bytes,
        max_instance_bytes=listener.max_instance_bytes,
        acse_timeout_s=listener.acse_timeout_s,
        dimse_timeout_s=listener.dimse_timeout_s,
        network_timeout_s=listener.network_timeout_s,
    )

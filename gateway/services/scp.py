"""The process that receives: the storage SCP in front of the receive stage."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from gateway import logs
from gateway.domain.refusal import Refusal
from gateway.errors import Unavailable
from gateway.network.scp import Receiver, ScpConfig, StorageScp
from gateway.network.tls import TlsFiles
from gateway.services.notify import notify
from gateway.settings import Settings
from gateway.stages.adopt import adopt_orphans
from gateway.stages.receive import Receive
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.refusals import RefusalBook
from gateway.store.spool import Spool

_BEAT_EVERY_S = 5.0
_DRAIN_S = 20.0

log = logs.get("scp")


def run(settings: Settings, stopping: threading.Event) -> None:
    """Receive until `stopping` is set, then let open associations end."""
    database = Database(settings.database_url)
    spool = Spool(settings.spool_dir, "scp", settings.reserve_bytes)
    judge_after_s = settings.assemble.quiet_full_s
    refusals = RefusalBook(database)
    with contextlib.ExitStack() as started:
        started.enter_context(spool.owned())
        adopt_orphans(database, spool, judge_after_s=judge_after_s)
        recorder = started.enter_context(Recorder(database, spool, judge_after_s=judge_after_s))
        listeners = listeners_of(settings, Receive(spool, recorder), refusals.add)
        started.enter_context(refusals)
        for scp in listeners.values():
            started.enter_context(scp)
        ports = {name: scp.port for name, scp in listeners.items()}
        heart = heartbeats.Heart(database, "scp", ae_title=settings.node.ae_title, **ports)
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


def listeners_of(
    settings: Settings, receiver: Receiver, refused: Callable[[Refusal], None] = lambda _: None
) -> dict[str, StorageScp]:
    """The listener and, with its settings, the one over TLS, by the names of their ports; each with its own limits."""
    config = config_of(settings)
    listeners = {"port": StorageScp(config, receiver, refused=refused)}
    tls = settings.listener.tls
    if tls is not None:
        secure = replace(config, address=tls.address or config.address, port=tls.port)
        context = TlsFiles(tls.certificate, tls.key, tls.ca).listening_context()
        listeners["tls_port"] = StorageScp(secure, receiver, tls=context, refused=refused)
    return listeners


def config_of(settings: Settings) -> ScpConfig:
    """How the listener of the settings listens."""
    listener = settings.listener
    return ScpConfig(
        ae_title=settings.node.ae_title,
        address=listener.address,
        port=listener.port,
        require_called_ae_title=listener.require_called_ae_title,
        peers=listener.peers,
        certificates=listener.tls.peers if listener.tls else {},
        max_associations=listener.max_associations,
        max_associations_per_address=listener.max_associations_per_address,
        max_associations_per_peer=listener.max_associations_per_peer,
        max_waiting=listener.max_waiting,
        max_waiting_per_address=listener.max_waiting_per_address,
        private_sop_classes=listener.private_sop_classes,
        max_pdu_bytes=listener.max_pdu_bytes,
        max_instance_bytes=listener.max_instance_bytes,
        acse_timeout_s=listener.acse_timeout_s,
        dimse_timeout_s=listener.dimse_timeout_s,
        network_timeout_s=listener.network_timeout_s,
    )

"""The process that receives: the storage SCP in front of the receive stage."""

from __future__ import annotations

import contextlib
import threading

from gateway import logs
from gateway.errors import Unavailable
from gateway.network.scp import ScpConfig, StorageScp
from gateway.services.notify import notify
from gateway.settings import Settings
from gateway.stages.receive import Receive, adopt_orphans
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.spool import Spool

_BEAT_EVERY_S = 5.0
_DRAIN_S = 20.0

log = logs.get("scp")


def run(settings: Settings, stopping: threading.Event) -> None:
    """Receive until `stopping` is set, then let open associations end."""
    database = Database(settings.database_url)
    spool = Spool(settings.spool_dir, "scp", settings.spool.reserve_bytes)
    spool.clear_incoming()
    adopt_orphans(database, spool, judge_after_s=settings.assemble.quiet_full_s)
    scp = StorageScp(config_of(settings), Receive(database, spool, judge_after_s=settings.assemble.quiet_full_s))
    scp.start()
    heart = heartbeats.Heart(database, "scp", port=scp.port, ae_title=settings.node.ae_title)
    notify("READY=1")
    log.info("ready", ae_title=settings.node.ae_title, address=settings.listener.address, port=scp.port)
    while not stopping.wait(_BEAT_EVERY_S):
        try:
            heart.beat()
        except Unavailable as error:
            log.warning("no heartbeat", reason=str(error))
    notify("STOPPING=1")
    scp.stop(_DRAIN_S)
    with contextlib.suppress(Unavailable):
        heart.end()
    database.close()
    log.info("stopped")


def config_of(settings: Settings) -> ScpConfig:
    """How the listener of the settings listens."""
    listener = settings.listener
    return ScpConfig(
        ae_title=settings.node.ae_title,
        address=listener.address,
        port=listener.port,
        require_called_ae_title=listener.require_called_ae_title,
        calling_ae_titles=frozenset(listener.calling_ae_titles),
        addresses=listener.calling_networks,
        max_associations=listener.max_associations,
        max_associations_per_address=listener.max_associations_per_address,
        max_waiting_per_address=listener.max_waiting_per_address,
        max_instance_bytes=listener.max_instance_bytes,
        acse_timeout_s=listener.acse_timeout_s,
        dimse_timeout_s=listener.dimse_timeout_s,
        network_timeout_s=listener.network_timeout_s,
    )

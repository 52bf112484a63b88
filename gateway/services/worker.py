"""The Celery workers. One kind runs generators (`process`), the other talks to the PACS (`transfer`).

The process worker is the only process of the service that loads torch. It runs one job at a time in its own process
(``solo``): a forked child could not use the GPU. The transfer worker runs routes and deliveries in threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery, signals

from gateway import logs, metrics
from gateway.dicom.decoder_process import DecoderProcess
from gateway.dicom.provenance import own_identity
from gateway.errors import Unavailable
from gateway.flow import PROCESS_QUEUE
from gateway.services.commitment import committer_of, reporter_of
from gateway.services.doorbell import Doorbell, make_app
from gateway.services.notify import notify
from gateway.services.urgency import most_urgent_first
from gateway.services.watchdog import Watchdog
from gateway.settings import Settings
from gateway.stages.deliver import Deliverer, threads_for
from gateway.stages.process import Process
from gateway.stages.route import Route
from gateway.store import confirmations, deliveries, heartbeats, jobs, outbox
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.spool import Spool
from pipelines.catalog import Catalog

_BEAT_EVERY_S = 5.0

log = logs.get("worker")


def run(settings: Settings, queue: str, index: int = 0) -> None:
    """Work on one queue until SIGTERM; what is being worked on is finished first."""
    owner = f"{queue}-{index}@{socket.gethostname()}"
    database = Database(settings.database_url)
    directory = Directory(settings, database)
    # results may use most of what receiving has to leave; the rest is for the database
    spool = Spool(settings.spool_dir, owner, settings.reserve_bytes // 10)
    app = make_app(settings)
    announce = _announcer(database, Doorbell(app))
    _take_back(database, owner)
    if queue == PROCESS_QUEUE:
        device, news = _add_process(app, directory, database, spool, announce, owner, index)
        pool, threads = "solo", 1
    else:
        _add_transfer(app, directory, database, spool, announce, owner)
        device, news = "", dict
        pool, threads = "threads", threads_for(directory.settings)
    heart = heartbeats.Heart(database, owner, device=device, **news())
    _when_ready(heart, owner, device, news)
    with directory.followed():
        app.Worker(
            queues=[queue], pool=pool, concurrency=threads, hostname=owner, loglevel="INFO",
            without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True,
        ).start()  # fmt: skip
    with contextlib.suppress(Unavailable):
        heart.end()
    database.close()
    log.info("stopped")


def _take_back(database: Database, owner: str) -> None:
    """What a predecessor of this name left undone goes back to the queue at once, not when its lease ends."""
    with database.write() as connection:
        left = jobs.take_back(connection, owner=owner)
        left += deliveries.take_back(connection, owner=owner)
        left += confirmations.take_back(connection, owner)
    if left:
        log.warning("predecessor died", taken_back=left)


def _announcer(database: Database, doorbell: Doorbell) -> Callable[[], None]:
    """Announces what waits, one thread at a time: two at once would announce the same rows twice."""
    relaying = threading.Lock()

    def announce() -> None:
        with relaying:
            outbox.relay(database, doorbell.publish)

    return announce


def _add_transfer(
    app: Celery, directory: Directory, database: Database, spool: Spool, announce: Callable[[], None], owner: str
) -> None:
    settings = directory.file
    route = Route(database, spool, own_identity(settings), settings.models_dir, settings.process.max_attempts)

    def run_route(subject: str) -> None:
        route(subject)

    _task(app, outbox.ROUTE, run_route, announce)

    def held() -> set[str]:
        with database.read() as connection:
            return deliveries.held_by(connection, owner)

    # destinations have timeouts of their own: what outlives its lease many times over hangs in something else
    watchdog = Watchdog(held, 5 * settings.deliver.lease_s, alone=False)
    _task(app, outbox.DELIVER, _watched(watchdog, Deliverer(database, spool, settings, owner, directory)), announce)
    _task(app, outbox.COMMIT, committer_of(directory, database, owner), announce)
    _task(app, outbox.VOUCH, reporter_of(directory, database, spool), announce)


def _add_process(
    app: Celery,
    directory: Directory,
    database: Database,
    spool: Spool,
    announce: Callable[[], None],
    owner: str,
    index: int,
) -> tuple[str, Callable[[], dict[str, Any]]]:
    from gateway.services.models import Models  # loads torch
    from gateway.services.self_test import tester_of

    settings = directory.file
    catalog = Catalog.read(settings.models_dir)
    models = Models(settings.process, index, settings.runtimes_file)
    models.warm(catalog)
    decoder = DecoderProcess(settings.process.max_decoder_bytes)
    process = Process(database, spool, settings, catalog, models.load, owner, decoder, directory)

    def held() -> set[str]:
        with database.read() as connection:
            return jobs.held_by(connection, owner)

    watchdog = Watchdog(held, max(5.0, settings.process.lease_s / 2), alone=True)
    _task(app, outbox.PROCESS, most_urgent_first(database, _watched(watchdog, process), announce), announce)
    _task(app, outbox.SELF_TEST, tester_of(database, catalog, models, owner), announce)
    return models.device, lambda: {"pipelines": models.standing()}


def _watched(watchdog: Watchdog, work: Callable[[str], None]) -> Callable[[str], None]:
    def watched(subject: str) -> None:
        with watchdog.watching(subject):
            work(subject)

    watchdog.start()
    return watched


def _task(app: Celery, stage: str, work: Callable[[str], None], announce: Callable[[], None]) -> None:
    """Register `work` for a stage; what it committed to the outbox is announced right after."""

    @app.task(name=f"athanor.{stage}")  # type: ignore[untyped-decorator] # Celery publishes no types
    def run_stage(subject: str) -> None:
        try:
            with metrics.working(stage):
                work(subject)
            announce()
        except Unavailable as error:
            # nothing is lost: the row waits in the outbox, or the lease ends and the clock takes it back
            log.warning("unavailable", stage=stage, reason=str(error))
        except Exception as error:  # noqa: BLE001 - Celery would log its words, which may quote the patient
            log.error("stage failed", stage=stage, **logs.failure(error))


def _when_ready(heart: heartbeats.Heart, owner: str, device: str, news: Callable[[], dict[str, Any]]) -> None:
    def beat_for_ever() -> None:
        pause = threading.Event()
        while not pause.wait(_BEAT_EVERY_S):
            told = {key: value for key, value in news().items() if heart.detail.get(key) != value}
            try:
                heart.beat(**told)
            except Unavailable as error:
                log.warning("no heartbeat", reason=str(error))

    @signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator] # Celery publishes no types
    def ready(**_: Any) -> None:
        threading.Thread(target=beat_for_ever, daemon=True, name="heartbeat").start()
        notify("READY=1")
        log.info("ready", worker=owner, device=device, pid=os.getpid())

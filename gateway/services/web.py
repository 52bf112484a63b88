"""The process of the web port: uvicorn in front of the web application and the receive stage."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway import logs
from gateway.admin.app import make_app
from gateway.admin.setup_token import SetupToken
from gateway.errors import ConfigurationError, Unavailable
from gateway.services.notify import notify
from gateway.services.receiving import receiving
from gateway.settings import Settings
from gateway.settings.watch import Web
from gateway.store import heartbeats, people
from gateway.store.database import Database
from gateway.store.directory import Directory
from gateway.store.refusals import RefusalBook

DRAIN_S = 20
"""How many seconds a request that is open when the process is told to stop may take to end."""

_BEAT_EVERY_S = 5.0
_HEAD_WITHIN_S = 10.0
_BACKLOG = 128

log = logs.get("web")


class _ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes what has not sent a whole request head in time; uvicorn itself would wait for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        self._timer.cancel()
        self._await_head()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(_HEAD_WITHIN_S, self._close_without_head)

    def _close_without_head(self) -> None:
        if self.conn.their_state is h11.IDLE:
            log.info("connection closed", reason="no whole request in time")
            self.transport.close()


def run(settings: Settings, stopping: threading.Event) -> None:
    """Serve until `stopping` is set, then let open requests end."""
    database = Database(settings.database_url)
    directory = Directory(settings, database)
    setup_token = SetupToken(settings.run_dir)
    name = f"web-0@{socket.gethostname()}"
    with (
        _listen(settings.web) as listener,
        RefusalBook(database) as refusals,
        receiving(settings, database, name, refusals.add) as receive,
        directory.followed(),
    ):
        app = make_app(settings, database, receive.spool, receive, setup_token, directory, stopping)
        server = uvicorn.Server(_config(settings.web, app))
        serving = threading.Thread(target=server.run, args=([listener],), name="uvicorn")
        serving.start()
        port = listener.getsockname()[1]
        heart = heartbeats.Heart(database, name, port=port)
        notify("READY=1")
        if settings.web.oidc is None or settings.web.oidc.passwords:
            _show_setup_token(database, setup_token)
        log.info("ready", address=settings.web.address, port=port, tls=settings.web.certificate is not None)
        while serving.is_alive() and not stopping.wait(_BEAT_EVERY_S):
            try:
                heart.beat()
            except Unavailable as error:
                log.warning("no heartbeat", reason=str(error))
        notify("STOPPING=1")
        server.should_exit = True
        serving.join()
        with contextlib.suppress(Unavailable):
            heart.end()
    database.close()
    log.info("stopped")


def _show_setup_token(database: Database, setup_token: SetupToken) -> None:
    """Print the set-up token as long as nobody can log in: it works once, for whoever reads our log."""
    with database.read() as connection:
        if people.is_anybody(connection):
            return
    log.warning("nobody can log in yet; open /setup", setup_token=setup_token.make())


def _listen(web: Web) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.address else socket.AF_INET
    try:
        return socket.create_server((web.address, web.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"web: cannot listen on {web.address} port {web.port}: {error.strerror}; "
            "choose a free port and an address of this machine"
        ) from None


def _config(web: Web, app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=web.max_connections,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=web.certificate,
        ssl_keyfile=web.key,
    )

"""The process of the web port: it ends when it is told to, though browsers listen for news."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx

from gateway.admin.access import digest_of, new_key
from gateway.commands.sandbox import free_port
from gateway.domain.roles import Role
from gateway.services import web
from gateway.settings import Settings
from gateway.settings.line import Node
from gateway.settings.watch import Web
from gateway.store import people
from gateway.store.database import Database


def test_a_browser_that_listens_for_news_does_not_keep_it(tmp_path: Path) -> None:
    settings = Settings(node=Node(state_dir=tmp_path), web=Web(enabled=True, port=free_port()))
    database = Database(settings.database_url)
    database.upgrade()
    key = new_key()
    with database.write() as connection:
        people.add_key(connection, "browser", digest_of(key), Role.VIEWER, "test")
    database.close()
    stopping = threading.Event()
    serving = threading.Thread(target=web.run, args=(settings, stopping))
    serving.start()
    try:
        headers, transport = {"Authorization": f"Bearer {key}"}, httpx.HTTPTransport(retries=10)
        with (
            httpx.Client(headers=headers, transport=transport, timeout=20) as client,
            client.stream("GET", f"http://127.0.0.1:{settings.web.port}/events") as news,
        ):
            lines = news.iter_lines()
            assert next(lines) == "event: changed"
            stopping.set()
            serving.join(web.DRAIN_S / 2)
            assert not serving.is_alive(), "it waits for the end of what never ends"
            assert set(lines) <= {"", "event: changed", "event: alive", "data: "}, "the news end in order"
    finally:
        stopping.set()
        serving.join()

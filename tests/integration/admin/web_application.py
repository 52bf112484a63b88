"""A web application that listens, as tests see it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from keeping import Keeping

from gateway.admin.access import digest_of, hash_password, new_key
from gateway.admin.app import make_app
from gateway.admin.setup_token import SetupToken
from gateway.domain.roles import Role
from gateway.settings import Settings
from gateway.store import people
from gateway.store.database import Database
from gateway.store.spool import Spool

PASSWORD = "a long enough password"
TOKEN = "the token of SCANNER3"


@dataclass(frozen=True)
class Running:
    """A web application that listens."""

    url: str
    settings: Settings
    database: Database
    setup_token: SetupToken
    keys: dict[Role, str]
    kept: Keeping

    def client(self, role: Role | None = None) -> httpx.Client:
        """A client with the API key of a role, or with none; it follows no redirect."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    @contextmanager
    def browser(self, role: Role) -> Iterator[httpx.Client]:
        """A client that logged in as the person of that role."""
        with self.client() as client:
            answer = client.post("/login", data={"name": role.value, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            yield client

    def populate(self) -> None:
        """A person of each role."""
        password_hash = hash_password(PASSWORD)
        with self.database.write() as connection:
            for role in Role:
                people.add_person(connection, role.value, role, password_hash)


@contextmanager
def serving(settings: Settings, database: Database, listener: socket.socket) -> Iterator[Running]:
    """The application of a web process, with an API key of each role."""
    setup_token = SetupToken(settings.run_dir)
    kept = Keeping()
    app = make_app(settings, database, Spool(settings.spool_dir, "web"), kept, setup_token)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    keys = {role: new_key() for role in Role}
    with database.write() as connection:
        for role, key in keys.items():
            people.add_key(connection, role.value, digest_of(key), role, "test")
    yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", settings, database, setup_token, keys, kept)
    server.should_exit = True
    server.force_exit = True
    thread.join(20)
    assert not thread.is_alive()

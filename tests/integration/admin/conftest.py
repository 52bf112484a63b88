"""A real web process's application on a real port, a person and an API key for each role."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from keeping import Keeping
from web_application import TOKEN, Running

from gateway.admin.access import digest_of, new_key
from gateway.admin.app import make_app
from gateway.admin.senders import digest_of as token_digest
from gateway.admin.setup_token import SetupToken
from gateway.domain.roles import Role
from gateway.settings import Node, Settings, Web
from gateway.store import people
from gateway.store.database import Database
from gateway.store.spool import Spool


@pytest.fixture
def empty_web(tmp_path: Path) -> Iterator[Running]:
    """A web application in which nobody can log in yet."""
    settings = Settings(node=Node(state_dir=tmp_path / "state"), web=Web(senders={"SCANNER3": token_digest(TOKEN)}))
    database = Database(f"sqlite:///{tmp_path / 'athanor.sqlite'}")
    database.upgrade()
    setup_token = SetupToken(settings.run_dir)
    kept = Keeping()
    app = make_app(settings, database, Spool(settings.spool_dir, "web"), kept, setup_token)
    with socket.create_server(("127.0.0.1", 0)) as listener:
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
    database.close()


@pytest.fixture
def web(empty_web: Running) -> Running:
    """A web application with a person of each role."""
    empty_web.populate()
    return empty_web

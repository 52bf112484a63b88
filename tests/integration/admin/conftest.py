"""A real web process's application on a real port, a person and an API key for each role."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from web_application import TOKEN, Running, serving

from gateway.admin.senders import digest_of
from gateway.settings import Settings
from gateway.settings.line import Node
from gateway.settings.watch import Web
from gateway.store.database import Database


@pytest.fixture
def empty_web(tmp_path: Path) -> Iterator[Running]:
    """A web application in which nobody can log in yet."""
    settings = Settings(node=Node(state_dir=tmp_path / "state"), web=Web(senders={"SCANNER3": digest_of(TOKEN)}))
    database = Database(f"sqlite:///{tmp_path / 'athanor.sqlite'}")
    database.upgrade()
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(settings, database, listener) as running:
        yield running
    database.close()


@pytest.fixture
def web(empty_web: Running) -> Running:
    """A web application with a person of each role."""
    empty_web.populate()
    return empty_web

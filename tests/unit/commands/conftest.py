"""A node of its own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from athanor_command import write_settings
from command_node import RULES, Node

from gateway.settings import read_settings
from gateway.store.database import Database
from gateway.store.rulebook import seed_rules


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the one that is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATHANOR_SETTINGS", raising=False)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema of today and one rule."""
    folder = tmp_path_factory.mktemp("seeded")
    settings = read_settings(write_settings(folder, RULES))
    database = Database(settings.database_url)
    database.upgrade()
    seed_rules(database, settings)
    database.close()
    return settings.node.state_dir / "athanor.sqlite"


@pytest.fixture
def node(tmp_path: Path, seeded: Path) -> Iterator[Node]:
    """A node with one rule, in which nothing has happened yet."""
    file = write_settings(tmp_path, RULES)
    settings = read_settings(file)
    settings.node.state_dir.mkdir()
    shutil.copy(seeded, settings.node.state_dir)
    database = Database(settings.database_url)
    yield Node(tmp_path, file, settings, database)
    database.close()

"""Settings of a node that is not running, and a PACS that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from athanor_command import Athanor, athanor, write_settings

from gateway.commands.sandbox import SmallPacs


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file but the one that is named, and one thread of torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATHANOR_SETTINGS", raising=False)
    torch.set_num_threads(1)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[SmallPacs]:
    """A storage SCP."""
    with SmallPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., Athanor]:
    """Gives ``athanor`` with the settings of a node that has these rules and sections."""

    def make(rules: str = "", **sections: Mapping[str, Any]) -> Athanor:
        file = write_settings(tmp_path / "node", rules, **sections)
        return lambda *arguments: athanor("--settings", file, *arguments)

    return make

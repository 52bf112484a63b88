"""No setting but those that a test names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from settings_words_of import WriteSettings


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file here and no variable of ours."""
    for name in [name for name in os.environ if name.startswith("ATHANOR_")]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def write(tmp_path: Path) -> WriteSettings:
    """Writes a settings file in a folder of its own."""

    def write_text(text: str) -> Path:
        file = tmp_path / "etc" / "settings.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write_text

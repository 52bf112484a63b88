"""The documents say what there is: commands and options, states, links, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from gateway.__main__ import COMMANDS
from gateway.domain.states import DeliveryState, JobState, SeriesState

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")


def commands() -> Iterator[tuple[str, list[str]]]:
    """(command, its long options), those of groups included."""
    for panel in COMMANDS.values():
        for name, (module, _) in panel.items():
            loaded = typer.Typer()
            loaded.callback()(lambda: None)
            import_module(f"gateway.commands.{module}").add_to(loaded)
            command = get_group(loaded).commands[name]
            for path, one in [
                (name, command),
                *((f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()),
            ]:
                if not hasattr(one, "commands"):
                    yield path, [option for p in one.params for option in p.opts if option.startswith("--")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [
        target for target, _ in LINK.findall(document.read_text()) if not (document.parent / target.strip()).exists()
    ]
    assert missing == []


def test_every_command_and_option_is_documented() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    found = dict(commands())
    assert len(found) > 15
    for command, options in found.items():
        assert command in text, command
        assert [option for option in options if option not in text] == [], command


def test_every_state_is_explained() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    states = [*SeriesState, *JobState, *DeliveryState]
    assert [state for state in states if not re.search(rf"\b{state.value}\b", text)] == []


def test_the_readme_opens_with_a_picture_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size > 10_000
    assert text.index(picture) < text.index("make demo    #") < text.index("make test    #")

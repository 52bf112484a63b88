"""The documents say what there is: commands and options, states, problems and checks, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from gateway.__main__ import app
from gateway.commands import doctor
from gateway.domain import meanings
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.store import health

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "systemd" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "weights").rglob("*.md")),
]  # fmt: skip
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)]+))?\)")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def commands_of(group: Any, path: str = "athanor") -> Iterator[tuple[str, Any]]:
    """(words, command) of every command that does something."""
    for name in group.list_commands(None):
        _, command, _ = group.resolve_command(group.make_context("athanor", [], resilient_parsing=True), [name])
        if isinstance(command, TyperGroup):
            yield from commands_of(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands_of(get_command(app)))


def section(document: str, heading: str) -> str:
    """The text below a heading, down to the next."""
    (found,) = re.findall(rf"(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", document)
    return str(found)


@pytest.mark.parametrize("words", ALL)
def test_every_command_has_a_section_with_its_options_and_arguments(words: str) -> None:
    text = section(COMMANDS, f"`{words}`")
    assert len(text.split()) >= 3
    for parameter in ALL[words].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in text, option
        if parameter.param_type_name == "argument":
            assert re.search(rf"\b{parameter.metavar or parameter.name}\b", text, re.IGNORECASE), parameter.name


def test_no_section_is_about_a_command_that_is_not_there() -> None:
    assert set(re.findall(r"(?m)^### `(athanor [^`]+)`$", COMMANDS)) == set(ALL)


def test_the_options_before_a_command_are_documented() -> None:
    for parameter in get_command(app).params:
        for option in parameter.opts:
            assert option in COMMANDS


def test_every_state_is_explained() -> None:
    text = section(OPERATIONS, "What the states mean")
    for states, kind in ((SeriesState, "series"), (JobState, "job"), (DeliveryState, "delivery")):
        table = text.partition(f"| {kind} |")[2].partition("\n\n")[0]
        assert re.findall(r"(?m)^\| ([A-Z]+) \|", table) == [state.value for state in states]


@pytest.mark.parametrize(
    "states", [meanings.SERIES, meanings.JOB, meanings.DELIVERY], ids=["series", "job", "delivery"]
)
def test_the_help_page_says_of_the_states_what_the_document_says(states: dict[Any, meanings.Meaning]) -> None:
    text = section(OPERATIONS, "What the states mean").replace("`", "")
    for state, meaning in states.items():
        assert f"| {state.value} | {meaning.says} | {meaning.follows} |" in text


def strings_of(module: Any, *functions: str) -> Iterator[str]:
    """The texts in the code of some functions, as far as they are constant."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name in functions:
            body = ast.Module(node.body[1:] if ast.get_docstring(node) else node.body, [])
            yield from (one.value for one in ast.walk(body) if isinstance(one, ast.Constant) and type(one.value) is str)


def test_every_problem_of_status_has_its_line() -> None:
    text = " ".join(section(OPERATIONS, "When `athanor status` says").split())
    problems = [words.partition(";")[0].strip(" :") for words in strings_of(health, "_problems", "_process_problems")]
    problems = [words for words in problems if len(words.split()) >= 2]
    assert len(problems) >= 8
    assert [words for words in problems if words not in text] == []


def test_every_check_of_doctor_has_its_line() -> None:
    source = Path(doctor.__file__).read_text(encoding="utf-8")
    checks = set(re.findall(r'(?:Finding|_asked)\(\s*"(\w+)"', source))
    assert len(checks) >= 10
    text = section(OPERATIONS, "When `athanor doctor` says")
    assert set(re.findall(r"(?m)^\| (\w+) \|", text)) - {"check"} == checks


def anchors_of(document: Path) -> set[str]:
    """The anchors of its headings, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        place = (document.parent / target).resolve() if target else document
        assert place.exists(), target
        assert ROOT in place.parents, f"{target} leads out of the project"
        if anchor and place.suffix == ".md":
            assert anchor in anchors_of(place), f"{target}#{anchor}"


def test_the_readme_opens_with_a_picture_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert all((ROOT / picture).stat().st_size > 10_000 for picture in pictures)
    picture = pictures[0]
    assert text.index(picture) < text.index("make demo    #") < text.index("make test    #")

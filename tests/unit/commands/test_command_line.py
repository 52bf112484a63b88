"""What holds for every command: help, exit codes, words instead of tracebacks, quick starts, plain output."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from athanor_command import athanor, write_settings
from command_node import Node
from typer.core import TyperGroup
from typer.main import get_command

from gateway.__main__ import COMMANDS, app
from gateway.domain.states import JobState

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")


def paths_below(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    for name in group.list_commands(None):
        _, command, _ = group.resolve_command(group.make_context("athanor", [], resilient_parsing=True), [name])
        yield (*path, name)
        if isinstance(command, TyperGroup):
            yield from paths_below(command, (*path, name))


ALL = list(paths_below(get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    ran = athanor(*path, "--help")
    assert ran.code == 0
    assert ran.err == ""
    _, usage, words = ran.out.partition("Usage: athanor " + " ".join(path))
    assert usage, ran.out
    explanation = words.partition("╭")[0].split("]", 1)[-1]
    assert len(explanation.split()) >= 3, f"no sentence says what it does: {words}"
    assert "``" not in ran.out, "markup of docstrings is not for a terminal"


def test_the_list_of_commands_is_grouped_and_whole() -> None:
    ran = athanor("--help")
    for panel, commands in COMMANDS.items():
        assert panel in ran.out
        for name in commands:
            assert re.search(rf"│ {name} ", ran.out), name
    assert {path[0] for path in ALL} == {name for commands in COMMANDS.values() for name in commands}


def test_help_loads_none_of_the_libraries_that_the_commands_need() -> None:
    program = (
        "import sys; sys.argv = ['athanor', '--help']\n"
        "from gateway.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(ran.stderr.split())
    heavy = {"torch", "celery", "numpy", "pydicom", "pynetdicom", "sqlalchemy", "alembic", "redis", "PIL"}
    assert heavy.isdisjoint(loaded), heavy & loaded


def test_looking_loads_no_torch_no_celery_and_no_pixels(node: Node) -> None:
    program = (
        f"import sys; sys.argv = ['athanor', '--settings', {str(node.settings_file)!r}, 'status']\n"
        "from gateway.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"torch", "celery", "numpy", "pydicom", "pynetdicom", "PIL"}
    assert heavy.isdisjoint(ran.stderr.split())
    assert "gateway.store.reports" in ran.stderr.split()


def test_version() -> None:
    ran = athanor("--version")
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", ran.out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Usage: athanor"),
        (("statsu",), "Did you mean 'status'?"),
        (("status", "more"), "unexpected extra argument"),
        (("jobs", "ls", "--state", "lost"), "'lost' is not one of 'queued', 'running'"),
        (("jobs", "ls", "--limit", "0"), "'--limit'"),
        (("worker", "--queue", "gpu"), "--queue: found 'gpu'; expected process or transfer"),
        (("phantom", "out", "--sequence", "t3"), "--sequence: found 't3'; expected one of: t1w, t2w, stir"),
        (("send", "absent"), "does not exist"),
        (("rules", "apply", "absent.toml"), "does not exist"),
        (("--settings", "absent.toml", "status"), "found no file absent.toml; expected a TOML file"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_words(arguments: tuple[str, ...], words: str) -> None:
    ran = athanor(*arguments)
    assert ran.code == 2
    assert words in re.sub(r"[│\s]+", " ", ran.out + ran.err)
    assert "Traceback" not in ran.err


NEEDS_DATABASE = [
    ("status",), ("jobs", "ls"), ("jobs", "series"), ("jobs", "show", "1"), ("jobs", "retry", "1"),
    ("jobs", "resend", "1"), ("rules", "ls"), ("rules", "export"), ("rules", "enable", "stir"),
]  # fmt: skip


@pytest.mark.parametrize("command", NEEDS_DATABASE, ids=" ".join)
def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path: Path, command: tuple[str, ...]) -> None:
    ran = athanor("--settings", write_settings(tmp_path), *command)
    assert ran.code == 3
    assert ran.out == ""
    assert "found no database" in ran.err
    assert "`athanor up` or `athanor migrate` makes it" in ran.err
    assert not (tmp_path / "state").exists()


def test_an_empty_database_is_as_good_as_none(tmp_path: Path) -> None:
    file = write_settings(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "athanor.sqlite").touch()
    ran = athanor("--settings", file, "status")
    assert ran.code == 3
    assert "found no database" in ran.err


def test_a_database_that_does_not_answer_is_a_failure_in_words(tmp_path: Path) -> None:
    url = "postgresql://athanor:secret-word@127.0.0.1:1/athanor"
    ran = athanor("--settings", write_settings(tmp_path, database={"url": url}), "status")
    assert ran.code == 1
    assert "database postgresql: " in ran.err
    assert "Connection refused" in ran.err
    assert "secret-word" not in ran.err
    assert "Traceback" not in ran.err


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = athanor("phantom", tmp_path / "file" / "out", "--slices", "1", "--matrix", "64")
    assert ran.code == 1
    assert f"{tmp_path}/file/out: Not a directory" in ran.err


def test_settings_are_found_by_option_then_environment_then_here(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert athanor("rules", "ls", "--json").json[0]["name"] == "stir", "settings.toml here"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert athanor("rules", "ls").code == 3
    monkeypatch.setenv("ATHANOR_SETTINGS", str(node.settings_file))
    assert athanor("rules", "ls").code == 0
    assert athanor("--settings", "absent.toml", "rules", "ls").code == 2


def in_terminal(columns: int, *arguments: object, **environment: str) -> str:
    """What ``athanor`` writes on a terminal of so many columns."""
    leader, follower = pty.openpty()
    ran = subprocess.Popen(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        stdout=follower,
        stderr=follower,
        stdin=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment},
    )
    os.close(follower)
    written = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # EIO: the program has ended
            break
        if not piece:
            break
        written += piece
    os.close(leader)
    ran.wait(30)
    return written.decode()


def test_colour_is_for_terminals_whose_user_wants_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    arguments = ("--settings", node.settings_file, "status")
    assert COLOUR.search(in_terminal(100, *arguments))
    assert not COLOUR.search(in_terminal(100, *arguments, NO_COLOR="1"))
    assert "\x1b" not in node("status").out


LONG = "Modality MR and a very long reason " + "of many words that no terminal can show on one line " * 6


def test_a_pipe_gets_one_line_for_one_thing(node: Node) -> None:
    node.receive(SeriesDescription="T2 TSE SAG WITH A DESCRIPTION OF THE FULL SIXTY-FOUR CHARACTERS")
    node.route()
    node.end_job(JobState.REFUSED, LONG.strip())
    listed = node("jobs", "ls").out.splitlines()
    assert len(listed) == 2
    assert listed[1].endswith(LONG.strip())
    assert all(line == line.rstrip() for line in listed)
    assert sum(LONG.strip() in line for line in node("jobs", "show", 1).out.splitlines()) == 2  # job and timeline


def test_a_terminal_breaks_lines_at_words(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    node.receive()
    node.route()
    node.end_job(JobState.REFUSED, LONG.strip())
    shown = in_terminal(60, "--settings", node.settings_file, "jobs", "show", "1", NO_COLOR="1")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, plain)) <= 60
    begin = next(index for index, line in enumerate(plain) if "a very long reason" in line)
    words = set(LONG.split())
    assert set(" ".join(plain[begin : begin + 3]).split()) <= words, "a word is broken"
    assert plain[begin + 1].startswith("    "), "the second line stands below the first"

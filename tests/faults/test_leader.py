"""One leader among clocks: killed or cut off, another takes over at once, and never two at once."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fault_fixtures import CountFault
from fork_server import Forked, ForkServer
from postgresql_server import PostgresqlServer

from gateway.settings import read_settings
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.leadership import leadership_of

_TAKES_OVER_WITHIN_S = 6.0  # one on a quiet machine
_LOOK_EVERY_S = 0.02


class Clocks:
    """Clocks of one gateway, and which of them leads by its heartbeat."""

    def __init__(self, folder: Path, url: str, forks: ForkServer) -> None:
        self.folder = folder
        self._forks = forks
        self._settings = folder / "settings.toml"
        self._settings.write_text(
            f'log_format = "json"\n[node]\nstate_dir = "state"\n[database]\nurl = "{url}"\n'
            "[assemble]\nquiet_full_s = 0.3\n"
        )
        self.settings = read_settings(self._settings)
        self.database = Database(self.settings.database_url)
        self.database.upgrade()
        self.running: dict[int, Forked] = {}

    def start(self, index: int) -> None:
        environment = {"ATHANOR_SETTINGS": str(self._settings), "PATH": "/usr/bin:/bin"}
        arguments = ["clock", "--index", str(index)]
        self.running[index] = self._forks.start(arguments, environment, self.folder / f"clock-{index}.log")

    def leaders(self) -> list[int]:
        """Numbers of the living clocks that say that they lead."""
        with self.database.read() as connection:
            beats = {beat.detail["pid"]: beat.detail["leads"] for beat in heartbeats.all_of(connection)}
        return [index for index, process in self.running.items() if process.poll() is None and beats.get(process.pid)]

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = 60.0) -> float:
        """Seconds until `condition()` held."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s: {what}"
            time.sleep(_LOOK_EVERY_S)
        return time.monotonic() - started

    def said(self, event: str) -> int:
        """How often the clocks, together, have logged `event`."""
        return sum(log.read_text().count(f'"event": "{event}"') for log in self.folder.glob("clock-*.log"))

    def beating(self) -> int:
        with self.database.read() as connection:
            return len(heartbeats.all_of(connection))

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
        self.database.close()


@contextmanager
def clocks(folder: Path, url: str, forks: ForkServer) -> Iterator[Clocks]:
    """Two of them; number 0 leads."""
    with ExitStack() as ending:
        two = Clocks(folder, url, forks)
        ending.callback(two.stop)
        two.start(0)
        two.wait_for("the first leads", lambda: two.leaders() == [0])
        two.start(1)
        two.wait_for("the second stands by", lambda: two.beating() == 2)
        assert two.leaders() == [0]
        yield two


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    running = PostgresqlServer()
    running.start()
    running.wait_until_ready()
    yield running
    running.stop()


def test_on_sqlite_the_second_takes_over_from_a_killed_leader(
    tmp_path: Path, forks: ForkServer, count_fault: CountFault
) -> None:
    with clocks(tmp_path, f"sqlite:///{tmp_path / 'a.sqlite'}", forks) as two:
        two.running[0].kill()
        count_fault("kill")
        assert two.wait_for("the second leads", lambda: two.leaders() == [1]) < _TAKES_OVER_WITHIN_S


def test_on_postgresql_the_second_takes_over_however_the_first_is_lost(
    tmp_path: Path, forks: ForkServer, server: PostgresqlServer, count_fault: CountFault
) -> None:
    with clocks(tmp_path, server.create_database(), forks) as two:
        two.running[0].kill()
        assert two.wait_for("the second leads", lambda: two.leaders() == [1]) < _TAKES_OVER_WITHIN_S
        two.start(0)
        two.wait_for("the first stands by", lambda: two.beating() == 2)
        two.running[1].terminate()
        assert two.wait_for("the first leads", lambda: two.leaders() == [0]) < _TAKES_OVER_WITHIN_S
        two.start(1)
        two.wait_for("the second stands by", lambda: two.beating() == 2)
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)  # a fast restart: both lose their sessions
        server.process.wait(30)
        server.start()
        server.wait_until_ready()
        two.database.close()
        # by the logs first: the heartbeats in the database are those from before the restart until one has led again
        two.wait_for("the loss of the session is noticed", lambda: two.said("stands by") == 1)
        two.wait_for("one leads again", lambda: two.said("leads") == 4)
        two.wait_for("it says so, and the other does not", lambda: len(two.leaders()) == 1)
        count_fault("kill", 2)
        count_fault("database fault")


def test_who_has_lost_the_session_does_not_lead(server: PostgresqlServer, tmp_path: Path) -> None:
    database = Database(server.create_database())
    first, second = leadership_of(database, tmp_path), leadership_of(database, tmp_path)
    assert (first.leads(), second.leads(), first.leads()) == (True, False, True)
    psql = ["psql", server.url, "-Atc", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"]
    subprocess.run(psql, check=True, capture_output=True)
    # whoever asks first has it: the other learns that it is no leader before it does anything
    assert (second.leads(), first.leads(), second.leads()) == (True, False, True)
    second.resign()
    assert first.leads()
    first.resign()
    database.close()

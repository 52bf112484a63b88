"""``athanor bench web``: how long each page and API list takes to its first byte, with a database full of rows.

A real web process serves them, of a folder and a database of their own. What is asked comes from its OpenAPI document:
a page that is added is measured, or the bench says why it was not.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import tomlkit
from rich.progress import Progress
from rich.table import Table

from gateway.admin.access import COOKIE, digest_of, new_key
from gateway.commands import console
from gateway.commands.bench_web_beside import DESTINATIONS
from gateway.commands.bench_web_examples import NOT_MEASURED, Examples, examples_of
from gateway.commands.bench_web_rows import Filling
from gateway.commands.console import err, out
from gateway.commands.sandbox import free_port
from gateway.domain.roles import Role
from gateway.errors import ConfigurationError
from gateway.services.notify import ReadyChannel
from gateway.settings import Settings, read_settings
from gateway.store import people
from gateway.store.database import Database

GOAL_MS = 200.0

_START_WITHIN_S = 120.0
_ANSWER_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Question:
    """One address to ask for, and the path of the OpenAPI document that it is an example of."""

    path: str
    address: str


@dataclass(frozen=True, slots=True)
class Timing:
    """What one address took to its first byte, milliseconds, and the status that it was answered with."""

    path: str
    address: str
    status: int
    median_ms: float
    worst_ms: float

    @property
    def is_good(self) -> bool:
        """It was answered in time; slow once, when the machine did something else, is not slow."""
        return self.status < 400 and self.median_ms < GOAL_MS


@dataclass(frozen=True, slots=True)
class Found:
    """What the bench found: seconds to fill the database, each address, and paths that were left out, with why."""

    filled_s: float
    timings: Sequence[Timing]
    left_out: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """Everything was in time, and what was left out is known to be no page."""
        return all(timing.is_good for timing in self.timings) and self.left_out.keys() <= NOT_MEASURED.keys()


def measure(instances: int, studies: int, rounds: int, postgresql: str | None, json_output: bool) -> bool:
    """Fill a database, ask for everything `rounds` times, print what it took; whether all of it was in time."""
    folder = Path(tempfile.mkdtemp(prefix="athanor-web-"))
    try:
        with _database_url(folder, postgresql) as url, Progress(console=err, transient=True) as progress:
            settings = _settings(folder, url)
            database = Database(settings.database_url)
            database.upgrade()
            bar = progress.add_task("rows", total=instances)
            began = time.perf_counter()
            Filling(database, instances, studies).fill(lambda rows: progress.advance(bar, rows))
            _settle(database)
            filled_s = time.perf_counter() - began
            examples = examples_of(database, settings, studies)
            database.close()
            with _web(folder, settings) as asking:
                questions, left_out = _questions(asking.document(), examples)
                bar = progress.add_task("requests", total=(rounds + 1) * len(questions))
                timings = _ask(asking, questions, rounds, lambda: progress.advance(bar))
    finally:
        shutil.rmtree(folder)
    found = Found(filled_s, timings, left_out)
    title = f"{instances:,} instances in {studies:,} studies, {'PostgreSQL' if postgresql else 'SQLite'}"
    _report(title, found, json_output)
    return found.is_good


def _ask(asking: _Asking, questions: Sequence[Question], rounds: int, advance: Callable[[], None]) -> list[Timing]:
    """Everything is asked once for nothing, for a new process has its templates to read, then in rounds."""
    took: list[list[float]] = [[] for _ in questions]
    status = [0] * len(questions)
    for number in range(rounds + 1):
        for at, question in enumerate(questions):
            seconds, answered = asking.seconds(question.address)
            if number:
                took[at].append(1000.0 * seconds)
            status[at] = max(status[at], answered)
            advance()
    return [
        Timing(one.path, one.address, status[at], round(statistics.median(took[at]), 1), round(max(took[at]), 1))
        for at, one in enumerate(questions)
    ]


def _settings(folder: Path, url: str) -> Settings:
    values: dict[str, Any] = {
        "node": {"state_dir": "state"}, "database": {"url": url}, "spool": {"reserve_bytes": 0}, "log_format": "json",
        "rules": {"seed": ""}, "web": {"enabled": True, "port": free_port()},
        "destinations": {
            name: {"ae_title": name.upper()[:16], "host": "127.0.0.1", "port": 11112} for name in DESTINATIONS
        },
    }  # fmt: skip
    file = folder / "settings.toml"
    file.write_text(tomlkit.dumps(values))
    return read_settings(file)


@contextmanager
def _database_url(folder: Path, postgresql: str | None) -> Iterator[str]:
    """URL of a new, empty database: a file in `folder`, or one on the server of `postgresql` that is dropped again."""
    if postgresql is None:
        yield f"sqlite:///{folder / 'athanor.sqlite'}"
        return
    server = Database(postgresql)
    if server.is_sqlite:
        raise ConfigurationError("--postgresql: found a URL of SQLite; expected postgresql://USER@HOST/DATABASE")
    name = f"athanor_bench_{uuid.uuid4().hex[:12]}"
    _command(server, f"CREATE DATABASE {name}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        _command(server, f"DROP DATABASE {name} WITH (FORCE)")
        server.close()


def _settle(database: Database) -> None:
    """What autovacuum does to a PostgreSQL database within minutes; SQLite has nothing of the kind."""
    if not database.is_sqlite:
        _command(database, "VACUUM ANALYZE")


def _command(database: Database, statement: str) -> None:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


class _Asking:
    """Asks a web process as an administrator: with a key for the REST API, with a session for the pages."""

    def __init__(self, port: int, key: str, cookie: str) -> None:
        self._port = port
        self._key = {"Authorization": f"Bearer {key}"}
        self._cookie = {"Cookie": f"{COOKIE}={cookie}"}

    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_WITHIN_S)
        connection.request("GET", "/api/openapi.json")
        found: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return found

    def seconds(self, address: str) -> tuple[float, int]:
        """From the connection to the first byte of the body, of which news send more for ever; and the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_WITHIN_S)
        began = time.perf_counter()
        connection.request("GET", address, headers=self._key if address.startswith("/api/") else self._cookie)
        answer = connection.getresponse()
        answer.read(1)
        took = time.perf_counter() - began
        if "event-stream" not in answer.getheader("content-type", ""):
            answer.read()
        connection.close()
        return took, answer.status


@contextmanager
def _web(folder: Path, settings: Settings) -> Iterator[_Asking]:
    """`athanor web`, ready, and one who asks it."""
    database = Database(settings.database_url)
    key, cookie = new_key(), secrets.token_urlsafe(32)
    with database.write() as connection:
        people.add_key(connection, "bench", digest_of(key), Role.ADMINISTRATOR, "bench")
        people.add_person(connection, "bench", Role.ADMINISTRATOR, None)
        account = people.account(connection, "bench")
        assert account is not None, "it was just made"
        people.open_session(connection, account.person_id, digest_of(cookie), "127.0.0.1", "bench")
    database.close()
    with ReadyChannel() as channel, (folder / "log").open("ab") as log:
        environment = {
            **os.environ, "ATHANOR_SETTINGS": str(folder / "settings.toml"), "NOTIFY_SOCKET": channel.address,
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "gateway", "web"], env=environment, stderr=log)
        try:
            if not channel.wait(_START_WITHIN_S):
                raise ConfigurationError(f"athanor web: not ready within {_START_WITHIN_S:g} s")
            yield _Asking(settings.web.port, key, cookie)
        finally:
            process.terminate()
            process.wait(60)


def _questions(document: Mapping[str, Any], examples: Examples) -> tuple[list[Question], dict[str, str]]:
    """Every GET operation with each example of its parameters, one at a time; and what was left out, with why."""
    questions, left_out = [], {}
    for path, operations in document["paths"].items():
        if "get" not in operations:
            continue
        if path in NOT_MEASURED:
            left_out[path] = NOT_MEASURED[path]
            continue
        parameters = operations["get"].get("parameters", [])
        addresses = list(_addresses(path, parameters, examples))
        questions += [Question(path, address) for address in addresses]
        if not addresses:
            left_out[path] = "found no example of a parameter; expected one in bench_web_examples"
    return questions, left_out


def _addresses(path: str, parameters: Sequence[Mapping[str, Any]], examples: Examples) -> Iterator[str]:
    places = [path]
    needed: dict[str, str] = {}
    for one in parameters:
        values = examples.of(path, one["name"])
        if one["in"] == "path":
            places = [place.replace(f"{{{one['name']}}}", quote(value)) for place in places for value in values]
        elif one.get("required"):
            if not values:
                return
            needed[one["name"]] = values[0]
    for place in places:
        yield f"{place}?{urlencode(needed)}" if needed else place
    for one in parameters if places else ():
        if one["in"] == "query":
            for value in examples.of(path, one["name"]):
                if {one["name"]: value} != needed:
                    yield f"{places[0]}?{urlencode({**needed, one['name']: value})}"


def _report(title: str, found: Found, json_output: bool) -> None:
    slowest = sorted(found.timings, key=lambda timing: -timing.median_ms)
    if json_output:
        console.show_json(
            {
                "database": title, "goal_ms": GOAL_MS, "fill_s": round(found.filled_s, 1),
                "left_out": dict(found.left_out),
                "pages": [asdict(timing) | {"good": timing.is_good} for timing in slowest],
            }
        )  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, title=f"{title}: time to the first byte")
    for column in ("", "median", "worst", "status", "address"):
        table.add_column(column, justify="right" if column in {"median", "worst", "status"} else "left")
    for timing in slowest:
        mark = console.TICK if timing.is_good else console.CROSS
        took = f"{timing.median_ms:.0f} ms", f"{timing.worst_ms:.0f} ms"
        table.add_row(mark, *took, str(timing.status), timing.address)
    out.print(table)
    for path, why in found.left_out.items():
        console.say(f"left out: {path}: {why}")
    slow = sum(not timing.is_good for timing in slowest)
    console.say(f"{len(slowest)} addresses, {slow} of them refused or not within {GOAL_MS:g} ms at the median")

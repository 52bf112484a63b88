"""A whole gateway as processes of its own that a test starts, kills and starts again, without a supervisor."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import checker
import psutil
import sqlalchemy as sa
import tomlkit
from checker import Answer, Arrived, Report
from fork_server import Forked, ForkServer
from postgresql_server import PostgresqlServer
from recording_pacs import RecordingPacs

from gateway.commands.sandbox import free_port
from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, SERIES_ENDED
from gateway.errors import Unavailable
from gateway.killpoints import VARIABLE
from gateway.services import broker
from gateway.services.notify import ReadyChannel
from gateway.settings import Settings, read_settings
from gateway.store.database import Database
from gateway.store.rulebook import seed_rules
from gateway.store.tables import delivery, instance, job, series

READY_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
_SETTLES_WITHIN_S = 15.0

RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { attribute = "Modality", equals = "MR" }
"""

QUICK: dict[str, Any] = {
    "log_format": "json",
    "node": {"state_dir": "state"},
    "listener": {"processes": 1},
    "spool": {"reserve_bytes": 0},
    "assemble": {"quiet_s": 0.6, "quiet_full_s": 0.3, "fallback_s": 1.5},
    # a job that was killed with its worker ten times is no poison here
    "process": {"device": "cpu", "threads": 1, "lease_s": 3.0, "max_attempts": 1000},
    "deliver": {
        "lease_s": 5.0, "first_retry_s": 0.2, "longest_retry_s": 1.0, "connect_timeout_s": 2.0,
        "response_timeout_s": 3.0,
    },
}  # fmt: skip
"""Settings that wait for tenths of seconds where a hospital's wait for seconds."""


@dataclass
class Part:
    """One process of a gateway: ``python -m gateway`` with `arguments`."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    log_file: Path
    forks: ForkServer
    process: Forked | subprocess.Popen[bytes] | None = None
    kills: int = 0
    is_armed: bool = False  # told to kill itself at a point
    _channel: ReadyChannel | None = None
    _ready: bool = False

    def start(self, **environment: str) -> None:
        """Start it, with more variables in its environment; `wait_until_ready` says when it works."""
        self._forget_channel()
        self._channel, self._ready = ReadyChannel(), False
        self.is_armed = VARIABLE in environment
        variables = {**os.environ, **self.environment, **environment, "NOTIFY_SOCKET": self._channel.address}
        self.process = self._launch(variables)

    def _launch(self, variables: Mapping[str, str]) -> Forked | subprocess.Popen[bytes]:
        return self.forks.start(self.arguments, variables, self.log_file)

    def wait_until_ready(self) -> None:
        """Return when it says that it is ready; fail when that takes too long."""
        until = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            self.look_after()
            assert time.monotonic() < until, f"{self.name} is not ready; see {self.log_file}"

    def look_after(self) -> None:
        """Start it again when it ended by itself, as a supervisor does: it does so when there is no database."""
        assert self.process is not None, f"{self.name} was not started"
        code = self.process.poll()
        if code is not None:
            assert code == 1, f"{self.name} ended with {code}; see {self.log_file}"
            self.start()

    def _is_ready(self) -> bool:
        if not self._ready and self._channel is not None:
            self._ready = self._channel.wait(_LOOK_EVERY_S)
        return self._ready

    def kill(self) -> None:
        """SIGKILL, and gone."""
        assert self.process is not None, f"{self.name} was not started"
        self.process.kill()
        self.process.wait(30)
        self.kills += 1

    def kill_child(self) -> None:
        """SIGKILL the oldest of its own processes that live, which it then starts again by itself."""
        assert self.process is not None, f"{self.name} was not started"
        until = time.monotonic() + READY_WITHIN_S
        while not self._kill_oldest_child(self.process.pid):
            # the one before it was killed, or ended for want of a database, and the next is not there yet
            assert time.monotonic() < until, f"{self.name} has no process of its own; see {self.log_file}"
            time.sleep(_LOOK_EVERY_S)
        self.kills += 1

    @staticmethod
    def _kill_oldest_child(pid: int) -> bool:
        try:
            children = [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
            for child in sorted(children, key=psutil.Process.create_time)[:1]:
                child.kill()
                return True
        except psutil.NoSuchProcess:
            pass  # it ended while it was looked at
        return False

    def wait_killed(self, timeout_s: float = 60.0) -> None:
        """Return when it has died by SIGKILL; fail when it lives on or ended in another way."""
        assert self.process is not None, f"{self.name} was not started"
        code = self.process.wait(timeout_s)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}; see {self.log_file}"

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        self._forget_channel()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(30)

    def _forget_channel(self) -> None:
        if self._channel is not None:
            self._channel.__exit__()
            self._channel = None


@dataclass
class BrokerPart(Part):
    """The embedded broker, which does not tell when it is ready: it is asked."""

    settings: Settings | None = None

    def _launch(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            # whatever becomes of the tests, nothing of it stays
            command = ["setpriv", "--pdeathsig", "KILL", *self.arguments]
            return subprocess.Popen(command, env=variables, stdout=log, stderr=log)

    def _is_ready(self) -> bool:
        assert self.settings is not None
        try:
            broker.wait_until_ready(self.settings, _LOOK_EVERY_S)
        except Unavailable:
            return False
        return True


@dataclass
class DatabasePart(Part):
    """A PostgreSQL server, which runs already."""

    server: PostgresqlServer | None = None

    def __post_init__(self) -> None:
        assert self.server is not None
        self.process = self.server.process

    def look_after(self) -> None:
        """It does not end by itself."""

    def start(self, **_: str) -> None:
        """Start it on the data that it had."""
        assert self.server is not None
        self.server.start()
        self.process = self.server.process

    def wait_until_ready(self) -> None:
        assert self.server is not None
        self.server.wait_until_ready(READY_WITHIN_S)

    def kill(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.kills += 1

    def stop(self) -> int:
        assert self.server is not None
        self.server.stop()
        return 0


@dataclass
class Gateway:
    """The parts of one gateway, its settings, and what can be asked of all of it.

    `pacs` is its only destination, if the settings in `overrides` name no other; `server` a PostgreSQL that runs and
    that the gateway takes over.
    """

    folder: Path
    weights_dir: Path
    forks: ForkServer
    pacs: RecordingPacs
    server: PostgresqlServer | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: str = RULES
    settings: Settings = field(init=False)
    parts: dict[str, Part] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.toml").write_text(self.rules, encoding="utf-8")
        values: dict[str, Any] = {
            **QUICK,
            "weights_dir": str(self.weights_dir),
            "listener": {**QUICK["listener"], "port": free_port()},
            "rules": {"seed": "rules.toml"},
            "destinations": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs.port}},
        }
        if self.server is not None:
            values["database"] = {"url": self.server.create_database()}
        for section, table in self.overrides.items():
            values[section] = {**values.get(section, {}), **table}
        self.settings_file = self.folder / "settings.toml"
        self.settings_file.write_text(tomlkit.dumps(values), encoding="utf-8")
        self.settings = read_settings(self.settings_file)
        self.parts = self._make_parts()

    def _make_parts(self) -> dict[str, Part]:
        environment = {"ATHANOR_SETTINGS": str(self.settings_file), "OMP_NUM_THREADS": "1"}

        def part(name: str, *arguments: str) -> Part:
            return Part(name, list(arguments), environment, self.folder / f"{name}.log", self.forks)

        log = self.folder / "broker.log"
        parts = [
            BrokerPart("broker", broker.command(self.settings), {}, log, self.forks, settings=self.settings),
            part("transfer", "worker", "--queue", "transfer"),
            part("process", "worker", "--queue", "process"),
            part("clock", "clock"),
            part("receiver", "scp"),
        ]
        if self.server is not None:
            parts.insert(0, DatabasePart("database", [], {}, log, self.forks, server=self.server))
        return {one.name: one for one in parts}

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.settings.listener.port

    def start(self) -> None:
        """Make the schema and start every part; return when all are ready."""
        database = self.database()
        database.upgrade()
        seed_rules(database, self.settings)
        database.close()
        for one in self.parts.values():
            if one.process is None:
                one.start()
            if isinstance(one, BrokerPart):
                one.wait_until_ready()
        self.wait_until_ready()

    def look_after(self) -> None:
        """Start again what ended by itself."""
        for one in self.parts.values():
            one.look_after()

    def wait_until_ready(self) -> None:
        """Return when every part is ready."""
        for one in self.parts.values():
            one.wait_until_ready()

    def stop(self) -> None:
        """Stop every part, the receiver first."""
        for one in reversed(self.parts.values()):
            one.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def database(self) -> Database:
        """Its database."""
        return Database(self.settings.database_url)

    def under_way(self, database: Database, down: Collection[str] = ()) -> int:
        """How many series, jobs and deliveries have not ended; those that wait for a destination in `down` have."""
        open_delivery = sa.and_(delivery.c.state.not_in(DELIVERY_ENDED), delivery.c.destination.not_in(down))
        open_rows = [
            sa.select(sa.func.count()).select_from(series).where(series.c.state.not_in(SERIES_ENDED)).scalar_subquery(),
            sa.select(sa.func.count()).select_from(job).where(job.c.state.not_in(JOB_ENDED)).scalar_subquery(),
            sa.select(sa.func.count()).select_from(delivery).where(open_delivery).scalar_subquery(),
        ]
        with database.read() as connection:
            return int(connection.execute(sa.select(sum(open_rows[1:], open_rows[0]))).scalar_one())

    def drain(self, answers: Iterable[Answer], *, down: Collection[str] = (), timeout_s: float = 120.0) -> None:
        """Return when every acknowledged instance has its row and nothing is under way, or after `timeout_s`.

        A drain that does not end is not reported here: the checker says what did not, and the log of each part what
        its threads were doing.
        """
        wanted = {answer.sop_instance_uid for answer in answers if answer.is_acknowledged}
        database = self.database()
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            self.require_running()
            try:
                if self._all_recorded() and self.under_way(database, down) == 0 and self._all_known(database, wanted):
                    break
            except Unavailable:
                pass  # it is being started again
            time.sleep(_LOOK_EVERY_S)
        else:
            for one in self.parts.values():
                if isinstance(one.process, Forked):
                    one.process.write_stacks()
        database.close()

    def require_running(self) -> None:
        """Fail when a part has ended that nobody killed or stopped."""
        for one in self.parts.values():
            code = one.process.poll() if one.process is not None else None
            assert code is None or code <= 0, f"{one.name} ended with {code}; see {one.log_file}"

    def _all_recorded(self) -> bool:
        """Whether no received file waits for its row: until then it has a second name in incoming/."""
        return not any((self.settings.spool_dir / "incoming").glob("*/*"))

    @staticmethod
    def _all_known(database: Database, wanted: set[str]) -> bool:
        with database.read() as connection:
            return wanted <= set(connection.execute(sa.select(instance.c.sop_instance_uid)).scalars())

    def check(
        self,
        answers: Iterable[Answer],
        destinations: Mapping[str, Iterable[Arrived]] | None = None,
        *,
        down: Collection[str] = (),
    ) -> Report:
        """Drain, then compare: see `checker.check`. What came to the destinations is asked for after the drain."""
        self.drain(answers, down=down)
        until = time.monotonic() + _SETTLES_WITHIN_S
        while True:
            report = checker.check(self.settings, answers, {"pacs": self.pacs, **(destinations or {})}, down=down)
            # the row of a refusal follows its answer; a promise that is broken stays so
            if not report.violations or time.monotonic() > until:
                return report
            time.sleep(_LOOK_EVERY_S)


def write_tiny_model(weights_dir: Path, shipped: Path) -> Path:
    """The released model `shipped` with a generator of a few thousand weights, which takes slices of 16 pixels."""
    import torch
    from safetensors.torch import save_file

    from pipelines.networks import GENERATORS

    manifest = tomlkit.parse((shipped / "manifest.toml").read_text(encoding="utf-8"))
    folder = weights_dir / shipped.name
    folder.mkdir(parents=True)
    parameters = {"in_channels": 1, "out_channels": 1, "ngf": 4, "downs": 3}
    torch.manual_seed(5)
    state = GENERATORS["unet"](**parameters).state_dict()
    save_file({name: value.half() for name, value in state.items()}, folder / "generator.safetensors")
    digest = hashlib.sha256((folder / "generator.safetensors").read_bytes()).hexdigest()
    manifest["generator"].update(architecture="unet", sha256=digest, parameters=parameters)
    manifest["geometry"]["multiple"] = 8
    manifest["inputs"][0]["ranges"].update(matrix=[16, 1024], field_of_view_mm=[10, 450])
    (folder / "manifest.toml").write_text(tomlkit.dumps(manifest), encoding="utf-8")
    return folder

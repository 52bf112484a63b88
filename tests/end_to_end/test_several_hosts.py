"""One node on several hosts, by settings alone: one spool, PostgreSQL, and Redis or RabbitMQ as the broker.

Each process has a host name of its own (unshare(1)); what it shares with the others is the folder of the spool, the
database and the broker.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import sqlalchemy as sa
import tomlkit
from amqp import Connection, PreconditionFailed
from behaviour import QUICK, WriteSeries, destination, rules
from modality import detail_of, made_from
from pydicom import dcmread
from rabbitmq_server import PROGRAM, RabbitmqServer
from sqlalchemy.engine import make_url

from gateway.commands.sandbox import SmallPacs, free_port
from gateway.network.scu import DestinationAddress, OutgoingInstance, send
from gateway.services.notify import ReadyChannel
from gateway.store import heartbeats, reports
from gateway.store.database import Database

ROOT = Path(__file__).parents[2]
_ATHANOR = (sys.executable, "-m", "gateway")


class Broker(Protocol):
    """A broker that can be killed and started again on what it had stored."""

    url: str

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...


class RedisServer:
    """Debian's Redis on a TCP port, with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self._port), "--dir", self._folder, "--appendonly", "yes", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                assert time.monotonic() < until, "Redis did not start"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    stop = kill


class Node:
    """The processes of one node, each on a host of its own."""

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder = folder
        self.settings = folder / "settings.toml"
        self.settings.write_text(tomlkit.dumps(values))
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._ready: list[tuple[str, ReadyChannel]] = []

    def run(self, *arguments: str) -> None:
        """Run an ``athanor`` command to its end."""
        environment = {**os.environ, "ATHANOR_SETTINGS": str(self.settings)}
        subprocess.run([*_ATHANOR, *arguments], env=environment, check=True, timeout=60)

    def start(self, host: str, *arguments: str) -> None:
        """Start an ``athanor`` command on `host`; `wait_until_ready` tells when it works."""
        channel = ReadyChannel()
        own_name = ["unshare", "--uts", *(["--map-root-user"] if os.geteuid() else [])]
        with (self.folder / f"{host}.log").open("ab") as log:
            self.running[host] = subprocess.Popen(
                [*own_name, "sh", "-c", f'hostname {host} && exec "$@"', "-", *_ATHANOR, *arguments],
                env={**os.environ, "ATHANOR_SETTINGS": str(self.settings), "NOTIFY_SOCKET": channel.address},
                stdout=log, stderr=log,
            )  # fmt: skip
        self._ready.append((host, channel))

    def wait_until_ready(self) -> None:
        for host, channel in self._ready:
            assert channel.wait(90), self.log(host)
            channel.__exit__()
        self._ready = []

    def log(self, host: str) -> str:
        return (self.folder / f"{host}.log").read_text()

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(60)


@pytest.fixture(
    params=[
        "redis",
        pytest.param("rabbitmq", marks=pytest.mark.skipif(not PROGRAM.exists(), reason="needs rabbitmq-server")),
    ]
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    server: Broker = RabbitmqServer() if request.param == "rabbitmq" else RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(postgresql: str) -> Iterator[Database]:
    """An empty database of PostgreSQL."""
    name = f"t{uuid.uuid4().hex}"
    admin = sa.create_engine(make_url(postgresql).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    opened = Database(make_url(postgresql).set(database=name).render_as_string(hide_password=False))
    yield opened
    opened.close()
    admin.dispose()


@pytest.fixture
def node(tmp_path: Path, broker: Broker, database: Database, pacs: SmallPacs) -> Iterator[Node]:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "t2-to-stir").symlink_to(ROOT / "weights" / "t2-to-stir")
    (tmp_path / "rules.toml").write_text(rules({"PLAIN": (["pacs"], "normal")}))
    started = Node(
        tmp_path,
        {
            "log_format": "json",
            "weights_dir": "weights",
            "node": {"state_dir": "state"},
            "listener": {"port": free_port(), "processes": 1},
            "spool": {"reserve_bytes": 0},
            "database": {"url": database.url.render_as_string(hide_password=False)},
            "broker": {"url": broker.url},
            "rules": {"seed": "rules.toml"},
            "destinations": {"pacs": destination(pacs.port)},
            **QUICK,
            # nobody here starts a worker again that a busy machine made too slow
            "process": {"lease_s": 60.0},
        },
    )
    started.run("migrate")
    started.start("host-a", "scp")
    started.start("host-b", "clock")
    started.start("host-c", "clock")
    started.start("host-d", "worker", "--queue", "transfer")
    started.start("host-e", "worker", "--queue", "process")
    started.wait_until_ready()
    yield started
    started.stop()


@pytest.mark.timeout(600)
def test_a_node_of_several_hosts_outlives_its_broker_and_its_leader(
    node: Node, broker: Broker, database: Database, pacs: SmallPacs, series: WriteSeries
) -> None:
    with database.read() as connection:
        names = {beat.process for beat in heartbeats.all_of(connection)}
    hosts = {name.partition("@")[2] for name in names}
    assert hosts == {"host-a", "host-b", "host-c", "host-d", "host-e"}

    first = series()
    store(node, first)
    finished(database, first)
    if isinstance(broker, RabbitmqServer):
        assert_quorum_queues(broker)
        # it writes what it knows of a new quorum queue within 5 s (meta.dets); killed before, it cannot open it again
        time.sleep(6)

    broker.kill()
    second = series()
    store(node, second)  # receiving needs no broker
    eventually(lambda: state_of(database, second) == "COMPLETE", "the second series is complete")
    broker.start()
    finished(database, second)

    with database.read() as connection:
        leader = next(beat for beat in heartbeats.all_of(connection) if beat.detail.get("leads"))
    host = leader.process.partition("@")[2]
    node.running.pop(host).kill()
    third = series()
    store(node, third)
    finished(database, third)

    for paths in (first, second, third):
        assert len(made_from(paths, pacs)) == len(paths)


def assert_quorum_queues(broker: RabbitmqServer) -> None:
    """RabbitMQ refuses to have a queue declared as of another type than it is."""
    with Connection(host=f"127.0.0.1:{broker.port}") as connection:
        for queue in ("process", "transfer"):
            with pytest.raises(PreconditionFailed, match="x-queue-type"):
                connection.channel().queue_declare(queue, durable=True, auto_delete=False)


def store(node: Node, paths: list[Path]) -> None:
    port = int(tomlkit.parse(node.settings.read_text())["listener"]["port"])  # type: ignore[index, arg-type]
    address = DestinationAddress("ATHANOR", "127.0.0.1", port, "SCANNER")
    report = send(address, [OutgoingInstance.read(path) for path in paths], lambda *_: None)
    assert report.is_delivered, report


def uid_of(paths: list[Path]) -> str:
    return str(dcmread(paths[0], stop_before_pixels=True).SeriesInstanceUID)


def state_of(database: Database, paths: list[Path]) -> str:
    with database.read() as connection:
        if reports.find_series(connection, uid_of(paths)) is None:
            return ""
    return str(detail_of(database, uid_of(paths))["state"])


def finished(database: Database, paths: list[Path]) -> None:
    def is_delivered() -> bool:
        if state_of(database, paths) != "ROUTED":
            return False
        (job,) = detail_of(database, uid_of(paths))["jobs"]
        return [row["state"] for row in job["deliveries"]] == ["DELIVERED"]

    # the broker starts slowly on a busy machine, and workers ask for it again less and less often
    eventually(is_delivered, "the result is delivered", 180)


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)

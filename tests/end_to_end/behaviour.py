"""One gateway that the tests of behaviour share, peers of every kind around it, and what people see of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomlkit
from fault_pacs import FaultPacs
from modality import MakeGateway, detail_of, made_from
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from small_series import write_small_series

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port
from gateway.store import heartbeats, outbox, reports, timeline
from gateway.store.database import Database

WriteSeries = Callable[..., list[Path]]

# which destinations a series goes to is the station that it says it comes from
_ROUTES: dict[str, tuple[list[str], str]] = {
    "PLAIN": (["pacs"], "normal"),
    "LOW": (["pacs"], "low"),
    "URGENT": (["pacs"], "urgent"),
    "FAULT": (["fault"], "normal"),
    "SPLIT": (["pacs", "jpeg2000", "rle", "implicit"], "normal"),
}

QUICK: dict[str, Any] = {
    "assemble": {"quiet_s": 0.6, "quiet_full_s": 0.3, "fallback_s": 1.5},
    "process": {"lease_s": 3.0},
    "deliver": {
        "first_retry_s": 0.2, "longest_retry_s": 1.0, "connect_timeout_s": 2.0, "response_timeout_s": 3.0,
    },
}  # fmt: skip
"""Settings that wait for tenths of seconds where a hospital's wait for seconds."""


def rules(routes: dict[str, tuple[list[str], str]]) -> str:
    """The rules file of `routes`: station -> destinations and priority."""
    table = [
        {
            "name": station.lower(), "pipeline": "t2-to-stir", "destinations": destinations, "priority": priority,
            "when": {"all": [
                {"attribute": "Modality", "equals": "MR"}, {"attribute": "StationName", "equals": station},
            ]},
        }
        for station, (destinations, priority) in routes.items()
    ]  # fmt: skip
    return tomlkit.dumps({"rules": table})


def destination(port: int, **values: Any) -> dict[str, Any]:
    """A destination on the loopback."""
    return {"ae_title": "PACS", "host": "127.0.0.1", "port": port, **values}


@dataclass
class Node:
    """A running gateway with its peers, as its users see it."""

    gateway: Sandbox
    database: Database
    pacs: SmallPacs
    peers: dict[str, FaultPacs]

    @property
    def fault(self) -> FaultPacs:
        """The destination of the station FAULT, up and well."""
        pacs = self.peers["fault"]
        pacs.stop()
        pacs.clear()
        return pacs.start()

    def send(self, paths: list[Path], calling_ae_title: str = "SCANNER") -> None:
        """C-STORE over one association; every instance is accepted."""
        report = self.gateway.send(paths, calling_ae_title)
        assert report.is_delivered, report

    def detail(self, uid: str) -> dict[str, Any]:
        """Everything known of a series, nothing when it is not known yet."""
        with self.database.read() as connection:
            known = reports.find_series(connection, uid) is not None
        return detail_of(self.database, uid) if known else {"state": "", "jobs": [], "revision": 0}

    def finished(self, uid: str, revision: int = 1) -> dict[str, Any]:
        """Everything known of a series when it has come to its visible end."""
        self.gateway.wait_until_finished(self.database, uid, 60, revision=revision)
        return self.detail(uid)

    def succeeded(self, uid: str, revision: int = 1) -> dict[str, Any]:
        """The same, after a look that the latest job has a result."""
        detail = self.finished(uid, revision)
        assert detail["jobs"], detail["reason"]
        assert detail["jobs"][-1]["state"] == "SUCCEEDED", detail["jobs"][-1]["error"]
        return detail

    def job(self, uid: str) -> dict[str, Any]:
        """The latest job of a series, nothing before there is one."""
        jobs = self.detail(uid)["jobs"]
        return jobs[-1] if jobs else {"state": "", "attempt": 0, "deliveries": []}

    def delivery(self, uid: str) -> dict[str, Any]:
        """The only delivery of the latest job of a series, nothing before there is one."""
        deliveries = self.job(uid)["deliveries"]
        return deliveries[0] if deliveries else {"state": "", "attempt": 0}

    def states(self, uid: str) -> dict[str, str]:
        """The states of the deliveries of the latest job of a series, by destination."""
        return {row["destination"]: row["state"] for row in self.job(uid)["deliveries"]}

    def errors(self, uid: str) -> dict[str, str]:
        """What went wrong in the deliveries of the latest job of a series, by destination."""
        return {row["destination"]: row["error"] for row in self.job(uid)["deliveries"] if row["error"]}

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait until `condition()` holds; fail with `what`."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
            time.sleep(0.01)

    def timeline(self, uid: str) -> list[timeline.Event]:
        """What happened to a series, in order."""
        with self.database.read() as connection:
            return timeline.of_series(connection, self.detail(uid)["id"])

    def results(self, paths: list[Path]) -> dict[str, list[Path]]:
        """The files in the PACS that were made from a series: Series Instance UID -> files as they came."""
        found: dict[str, list[Path]] = {}
        for ds in made_from(paths, self.pacs):
            found.setdefault(str(ds.SeriesInstanceUID), []).append(Path(ds.filename))
        return found

    def assert_came_back_once(self, paths: list[Path]) -> None:
        """The PACS got one result of the series, an instance for each, each once."""
        ((_, files),) = self.results(paths).items()
        assert len(files) == len(paths)
        assert set(Counter(files).values()) == {1}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """An ``athanor`` command beside the gateway."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", "--settings", str(self.gateway.settings_file), *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def log(self) -> str:
        """What the processes of the gateway have logged."""
        return self.gateway.log_file.read_text()

    def status(self) -> dict[str, Any]:
        """What ``athanor status --json`` says."""
        return dict(json.loads(self.run("status", "--json").stdout))

    def pid(self, name: str) -> int:
        """The pid of a running process by (the start of) its name, such as ``process-0``."""
        with self.database.read() as connection:
            (found,) = [beat for beat in heartbeats.all_of(connection) if beat.process.startswith(name)]
        return int(found.detail["pid"])

    @contextmanager
    def worker(self, queue: str, index: int) -> Iterator[psutil.Process]:
        """One more worker of the same node, until the end of the block."""
        environment = {**os.environ, "ATHANOR_SETTINGS": str(self.gateway.settings_file)}
        with (self.gateway.folder / f"{queue}-{index}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "worker", "--queue", queue, "--index", str(index)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            self.wait_for(f"{queue}-{index} is ready", lambda: self._beats(process.pid), 60)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            assert process.wait(60) == 0

    def unannounced(self) -> int:
        """How many rows of the outbox are due and not yet announced to the broker."""
        with self.database.read() as connection:
            due = outbox.next_due_in_s(connection)
        return int(due is not None and due <= 0)

    def _beats(self, pid: int) -> bool:
        with self.database.read() as connection:
            return pid in {beat.detail["pid"] for beat in heartbeats.all_of(connection)}


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing until the end of the block, SIGSTOP to SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="session")
def node(make_shared_gateway: MakeGateway, pacs: SmallPacs) -> Iterator[Node]:
    """The gateway that all tests of behaviour share, with every destination of `_ROUTES`."""
    syntaxes = {"jpeg2000": JPEG2000Lossless, "rle": RLELossless, "implicit": ImplicitVRLittleEndian}
    peers = {name: FaultPacs(free_port(), (syntax,)).start() for name, syntax in syntaxes.items()}
    peers["fault"] = FaultPacs(free_port())
    destinations = {
        "pacs": destination(pacs.port),
        "fault": destination(peers["fault"].port),
        "jpeg2000": destination(peers["jpeg2000"].port, transfer_syntax=str(JPEG2000Lossless)),
        "rle": destination(peers["rle"].port, transfer_syntax=str(RLELossless)),
        "implicit": destination(peers["implicit"].port),
    }
    gateway = make_shared_gateway(rules(_ROUTES), destinations=destinations, **QUICK)
    database = gateway.database()
    yield Node(gateway, database, pacs, peers)
    database.close()
    for peer in peers.values():
        peer.stop()


_seeds = iter(range(10_000, 99_999))


@pytest.fixture
def series(tmp_path: Path) -> WriteSeries:
    """Writes the small T2W series of a new patient, from a station that decides on its destinations."""

    def write(slices: int = 4, station: str = "PLAIN", **options: Any) -> list[Path]:
        seed = next(_seeds)
        return write_small_series(tmp_path / f"patient-{seed}", seed, slices, StationName=station, **options)

    return write

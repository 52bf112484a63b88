"""``athanor bench ingest``: instances received a second, beside other receivers, by the same sender in the same run."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from rich.progress import Progress
from rich.table import Table

from gateway.commands import console
from gateway.commands.console import err, out
from gateway.commands.sandbox import free_port
from gateway.dicom.acquired import Acquisition, write_mr_series
from gateway.network.scu import DestinationAddress, OutgoingInstance, echo, send
from gateway.services.notify import ReadyChannel
from pipelines.volume import Volume

_START_WITHIN_S = 30.0
# Debian's DCMTK and Orthanc leave Nagle's algorithm on unless told otherwise, which costs 44 ms an instance
_NO_DELAY = {**os.environ, "TCP_NODELAY": "1"}


@dataclass(frozen=True, slots=True)
class Workload:
    """Studies to send at once, one association each."""

    name: str
    matrix: int
    instances: int
    associations: int


@dataclass(frozen=True, slots=True)
class Receiver:
    """A storage SCP to be measured; `start` gives its process, listening on a port."""

    name: str
    ae_title: str
    durable: bool
    start: Callable[[Path, int], subprocess.Popen[bytes]]


def ingest(rounds: int, instances: int, json_output: bool) -> None:
    """Run every workload against every receiver in alternating rounds; print medians and ratios."""
    workloads = (
        Workload("ct", 512, instances, 1),
        Workload("mr", 256, instances, 1),
        Workload("ct4", 512, max(instances // 4, 1), 4),
    )
    receivers = [receiver for receiver in RECEIVERS if receiver.name == "athanor" or _is_installed(receiver.name)]
    rates: dict[str, dict[str, list[float]]] = {w.name: {r.name: [] for r in receivers} for w in workloads}
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("ingest", total=rounds * len(workloads) * len(receivers))
        for _ in range(rounds):
            for workload in workloads:
                for receiver in receivers:
                    progress.update(bar, description=f"{workload.name} to {receiver.name}")
                    rates[workload.name][receiver.name].append(_measure(workload, receiver))
                    progress.advance(bar)
    _report(workloads, receivers, rates, json_output)


def _measure(workload: Workload, receiver: Receiver) -> float:
    """Instances per second from the first request to the last answer, over all associations together."""
    folder = Path(tempfile.mkdtemp(prefix="athanor-ingest-"))
    try:
        studies = [_write_study(folder / f"study-{n}", workload) for n in range(workload.associations)]
        port = free_port()
        with _running(receiver, folder / "receiver", port):
            address = DestinationAddress(receiver.ae_title, "127.0.0.1", port, "BENCH")
            return _send_all(address, studies)
    finally:
        shutil.rmtree(folder)


def _write_study(folder: Path, workload: Workload) -> list[Path]:
    """A series of noise, so that nothing can be compressed away; every call has new UIDs."""
    rng = np.random.default_rng()
    shape = (workload.instances, workload.matrix, workload.matrix)
    volume = Volume(
        rng.integers(1, 4095, shape, dtype=np.uint16).astype(np.float32), (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), np.eye(3)
    )
    seed = int(rng.integers(0, 2**62))
    return write_mr_series(volume, folder, seed=seed, acquisition=Acquisition(series_description="BENCH"))


@contextmanager
def _running(receiver: Receiver, folder: Path, port: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    process = receiver.start(folder, port)
    try:
        until = time.monotonic() + _START_WITHIN_S
        address = DestinationAddress(receiver.ae_title, "127.0.0.1", port, "BENCH")
        while not echo(address).is_answered:
            if process.poll() is not None or time.monotonic() > until:
                console.fail(f"{receiver.name} did not start listening on port {port}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _send_all(address: DestinationAddress, studies: list[list[Path]]) -> float:
    """Send each study in a process of its own, all at once."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(len(studies) + 1)
    results = context.Queue()
    senders = [context.Process(target=_send_one, args=(address, study, start, results)) for study in studies]
    for sender in senders:
        sender.start()
    start.wait()
    began = time.perf_counter()
    accepted = sum(results.get() for _ in senders)
    seconds = time.perf_counter() - began
    for sender in senders:
        sender.join()
    expected = sum(len(study) for study in studies)
    if accepted != expected:
        console.fail(f"{address.ae_title} accepted {accepted} of {expected} instances")
    return expected / seconds


def _send_one(address: DestinationAddress, paths: list[Path], start: Any, results: Any) -> None:
    instances = [OutgoingInstance.read(path) for path in paths]
    start.wait()
    report = send(address, instances, lambda *_: None)
    results.put(sum(outcome.is_delivered for outcome in report.outcomes))


def _start_athanor(folder: Path, port: int) -> subprocess.Popen[bytes]:
    values = {
        "node": {"state_dir": "state"}, "listener": {"port": port}, "spool": {"reserve_bytes": 0},
        "rules": {"seed": ""}, "log_format": "json",
    }  # fmt: skip
    (folder / "settings.toml").write_text(tomlkit.dumps(values))
    environment = {**os.environ, "ATHANOR_SETTINGS": str(folder / "settings.toml")}
    with ReadyChannel() as channel, (folder / "log").open("wb") as log:
        subprocess.run([sys.executable, "-m", "gateway", "migrate"], env=environment, check=True, stderr=log)
        environment["NOTIFY_SOCKET"] = channel.address
        process = subprocess.Popen([sys.executable, "-m", "gateway", "scp"], env=environment, stderr=log)
        channel.wait(_START_WITHIN_S)
    return process


def _quietly(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=_NO_DELAY, stdout=log, stderr=log)  # noqa: S603 - see RECEIVERS


def _start_storescp(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return _quietly(["storescp", "--fork", "-aet", "STORESCP", "-od", str(folder), str(port)], folder)


def _start_pynetdicom(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-aet", "PYNETDICOM", "-od", str(folder)]
    return _quietly(command, folder)


def _start_orthanc(folder: Path, port: int) -> subprocess.Popen[bytes]:
    configuration = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomAet": "ORTHANC", "DicomPort": port,
        "HttpPort": free_port(), "Plugins": [], "DicomAlwaysAllowEcho": True,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    return _quietly(["Orthanc", str(folder / "orthanc.json")], folder)


RECEIVERS = (
    Receiver("athanor", "ATHANOR", True, _start_athanor),
    Receiver("storescp", "STORESCP", False, _start_storescp),
    Receiver("pynetdicom", "PYNETDICOM", False, _start_pynetdicom),
    Receiver("orthanc", "ORTHANC", True, _start_orthanc),
)


def _is_installed(name: str) -> bool:
    return name == "pynetdicom" or shutil.which({"storescp": "storescp", "orthanc": "Orthanc"}[name]) is not None


def _report(
    workloads: tuple[Workload, ...],
    receivers: list[Receiver],
    rates: dict[str, dict[str, list[float]]],
    json_output: bool,
) -> None:
    medians = {w.name: {r.name: statistics.median(rates[w.name][r.name]) for r in receivers} for w in workloads}
    ratios = {
        f"ratio_vs_{r.name}": {
            w.name: round(medians[w.name]["athanor"] / medians[w.name][r.name], 2) for w in workloads
        }
        for r in receivers[1:]
    }
    if json_output:
        raw = {name: {who: [round(x, 1) for x in found] for who, found in each.items()} for name, each in rates.items()}
        console.show_json({**ratios, "instances_per_s": raw})
        return
    table = Table(box=None, pad_edge=False, title="instances received per second, median (ours / theirs)")
    for column in ("workload", *(f"{r.name}{' (durable)' if r.durable else ''}" for r in receivers)):
        table.add_column(column, justify="left" if column == "workload" else "right")
    for w in workloads:
        cells = [f"{medians[w.name]['athanor']:.0f}"]
        cells += [f"{medians[w.name][r.name]:.0f} ({ratios[f'ratio_vs_{r.name}'][w.name]})" for r in receivers[1:]]
        size = f"{w.associations} x {w.instances} of {2 * w.matrix**2 / 1000:.0f} kB"
        table.add_row(f"{w.name}: {size}", *cells)
    out.print(table)

"""``athanor bench ingest``: instances received a second, beside other receivers, by the same sender in the same run."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tomlkit
from pydicom.uid import CTImageStorage
from rich.progress import Progress
from rich.table import Table

from gateway.commands import console
from gateway.commands.bench_limit import synced_files_at_once
from gateway.commands.bench_sender import CALLING_AE_TITLE, Peer, send_at_once
from gateway.commands.console import err, out
from gateway.commands.sandbox import free_port
from gateway.dicom.acquired import Acquisition, write_mr_series
from gateway.errors import DeliveryError
from gateway.network.scu import DestinationAddress, echo
from gateway.services.notify import ReadyChannel
from pipelines.volume import Volume

_START_WITHIN_S = 30.0
# Debian's DCMTK and Orthanc leave Nagle's algorithm on unless told otherwise, which costs 44 ms an instance
_NO_DELAY = {**os.environ, "TCP_NODELAY": "1"}


LIMIT = "limit"
"""What the bare loop of `bench_limit` reaches, in the same rounds."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Studies to send at once, one association each."""

    name: str
    modality: str
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


Rates = Mapping[str, Mapping[str, list[float]]]
"""Instances per second: workload, then receiver, then one figure a round."""


def ingest(rounds: int, instances: int, keep: bool, json_output: bool) -> None:
    """Run every workload against every receiver in alternating rounds; print medians and ratios.

    Without `keep`, what a receiver wrote is deleted before the next one writes.
    """
    workloads = (
        Workload("ct", "CT", 512, instances, 1),
        Workload("mr", "MR", 256, instances, 1),
        Workload("ct4", "CT", 512, max(instances // 4, 1), 4),
        Workload("mr4", "MR", 256, max(instances // 4, 1), 4),
    )
    receivers = [receiver for receiver in RECEIVERS if receiver.name == "athanor" or _is_installed(receiver.name)]
    names = [*(receiver.name for receiver in receivers), LIMIT]
    rates: dict[str, dict[str, list[float]]] = {w.name: {name: [] for name in names} for w in workloads}
    folder = Path(tempfile.mkdtemp(prefix="athanor-ingest-"))
    try:
        with Progress(console=err, transient=True) as progress:
            bar = progress.add_task("studies", total=rounds * len(workloads) * len(names))
            studies = {workload.name: write_studies(folder / workload.name, workload) for workload in workloads}
            for _ in range(rounds):
                for workload in workloads:
                    for receiver in (*receivers, None):
                        found = rates[workload.name][receiver.name if receiver else LIMIT]
                        progress.update(bar, description=f"{workload.name} to {receiver.name if receiver else LIMIT}")
                        found.append(_measure(folder, studies[workload.name], receiver, keep=keep))
                        progress.advance(bar)
    except DeliveryError as error:
        console.fail(str(error))
    finally:
        shutil.rmtree(folder)
    _report(workloads, receivers, rates, json_output)


def _measure(folder: Path, studies: Sequence[Sequence[Path]], receiver: Receiver | None, *, keep: bool) -> float:
    """Instances per second from the first request to the last answer, over all associations together."""
    place = Path(tempfile.mkdtemp(prefix="receiver-", dir=folder))
    try:
        if receiver is None:
            seconds = synced_files_at_once(place, studies)
        else:
            port = free_port()
            with running(receiver, place, port):
                seconds = send_at_once(Peer(receiver.ae_title, port), studies)
    finally:
        if not keep:
            shutil.rmtree(place)
    return sum(map(len, studies)) / seconds


def write_studies(folder: Path, workload: Workload) -> list[list[Path]]:
    """A series of noise for each association, so that nothing can be compressed away; every call has new UIDs."""
    rng = np.random.default_rng()
    shape = (workload.instances, workload.matrix, workload.matrix)
    studies = []
    for number in range(workload.associations):
        voxels = rng.integers(1, 4095, shape, dtype=np.uint16).astype(np.float32)
        volume = Volume(voxels, (1.0, 0.7, 0.7), (0.0, 0.0, 0.0), np.eye(3))
        acquisition = Acquisition(series_description="BENCH")
        paths = write_mr_series(volume, folder / str(number), seed=int(rng.integers(0, 2**62)), acquisition=acquisition)
        if workload.modality == "CT":
            for path in paths:
                _make_ct(path)
        studies.append(paths)
    return studies


def _make_ct(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.Modality = "CT"
    ds.save_as(path)


@contextmanager
def running(receiver: Receiver, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver that listens, its process."""
    folder.mkdir(parents=True, exist_ok=True)
    process = receiver.start(folder, port)
    try:
        until = time.monotonic() + _START_WITHIN_S
        address = DestinationAddress(receiver.ae_title, "127.0.0.1", port, CALLING_AE_TITLE)
        while not echo(address).is_answered:
            if process.poll() is not None or time.monotonic() > until:
                console.fail(f"{receiver.name} did not start listening on port {port}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _start_athanor(folder: Path, port: int) -> subprocess.Popen[bytes]:
    write_settings(folder, port)
    return start_athanor(folder)


def write_settings(folder: Path, port: int, **listener: Any) -> Path:
    """The settings of a gateway in `folder` that only receives, and its database; the file."""
    values = {
        "node": {"state_dir": "state"}, "listener": {"port": port, **listener}, "spool": {"reserve_bytes": 0},
        "rules": {"seed": ""}, "log_format": "json",
    }  # fmt: skip
    file = folder / "settings.toml"
    file.write_text(tomlkit.dumps(values))
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "gateway", "migrate"]
        subprocess.run(command, env={**os.environ, "ATHANOR_SETTINGS": str(file)}, check=True, stderr=log)  # noqa: S603 - our own command line
    return file


def start_athanor(folder: Path) -> subprocess.Popen[bytes]:
    """The receivers of the gateway in `folder`, ready."""
    with ReadyChannel() as channel, (folder / "log").open("ab") as log:
        environment = {
            **os.environ, "ATHANOR_SETTINGS": str(folder / "settings.toml"), "NOTIFY_SOCKET": channel.address,
        }  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "gateway", "scp"], env=environment, stderr=log)
        channel.wait(_START_WITHIN_S)
    return process


def _quietly(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=_NO_DELAY, stdout=log, stderr=log)  # noqa: S603 - see RECEIVERS


def _start_storescp(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return _quietly([_program("storescp"), "--fork", "-aet", "STORESCP", "-od", str(folder), str(port)], folder)


def _start_pynetdicom(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-aet", "PYNETDICOM", "-od", str(folder)]
    return _quietly(command, folder)


def _start_orthanc(folder: Path, port: int) -> subprocess.Popen[bytes]:
    configuration = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomAet": "ORTHANC", "DicomPort": port,
        "HttpPort": free_port(), "Plugins": [], "DicomAlwaysAllowEcho": True,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    return _quietly([_program("orthanc"), str(folder / "orthanc.json")], folder)


RECEIVERS = (
    Receiver("athanor", "ATHANOR", True, _start_athanor),
    Receiver("storescp", "STORESCP", False, _start_storescp),
    Receiver("pynetdicom", "PYNETDICOM", False, _start_pynetdicom),
    Receiver("orthanc", "ORTHANC", True, _start_orthanc),
)


def _is_installed(name: str) -> bool:
    return name == "pynetdicom" or _program(name) != ""


def _program(name: str) -> str:
    """Where DCMTK's storescp or Orthanc is installed, "" when it is not."""
    ours = Path(sys.executable).parent  # pynetdicom puts a storescp of its own beside our Python
    elsewhere = (folder for folder in os.get_exec_path() if Path(folder) != ours)
    return shutil.which({"orthanc": "Orthanc"}.get(name, name), path=os.pathsep.join(elsewhere)) or ""


def _report(workloads: Sequence[Workload], receivers: Sequence[Receiver], rates: Rates, json_output: bool) -> None:
    medians = {w.name: {name: statistics.median(found) for name, found in rates[w.name].items()} for w in workloads}
    others = [*(receiver.name for receiver in receivers[1:]), LIMIT]
    ratios = {
        f"ratio_vs_{name}": {w.name: round(medians[w.name]["athanor"] / medians[w.name][name], 2) for w in workloads}
        for name in others
    }
    if json_output:
        raw = {name: {who: [round(x, 1) for x in found] for who, found in each.items()} for name, each in rates.items()}
        console.show_json({**ratios, "instances_per_s": raw})
        return
    table = Table(box=None, pad_edge=False, title="instances received per second, median (ours / theirs)")
    durable = {receiver.name for receiver in receivers if receiver.durable} | {LIMIT}
    for column in ("workload", "athanor", *others):
        name = f"{column} (durable)" if column in durable else column
        table.add_column(name, justify="left" if column == "workload" else "right")
    for w in workloads:
        cells = [f"{medians[w.name]['athanor']:.0f}"]
        cells += [f"{medians[w.name][name]:.0f} ({ratios[f'ratio_vs_{name}'][w.name]})" for name in others]
        size = f"{w.associations} x {w.instances} of {2 * w.matrix**2 / 1000:.0f} kB"
        table.add_row(f"{w.name}: {size}", *cells)
    out.print(table)

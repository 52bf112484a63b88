"""``athanor bench ingest --growth`` and ``--open``: whether rate and memory stay flat.

The rows of instances that were never sent are made by the function that records received ones, in large batches.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from rich.progress import Progress
from rich.table import Table

from gateway.commands import console
from gateway.commands.bench_ingest import Workload, start_athanor, write_settings, write_studies
from gateway.commands.bench_sender import OpenAssociation, Peer, send_at_once
from gateway.commands.console import err, out
from gateway.commands.sandbox import free_port
from gateway.dicom.header import InstanceHeader
from gateway.domain.completeness import AssociationState
from gateway.errors import DeliveryError
from gateway.settings import read_settings
from gateway.store import intake
from gateway.store.database import Database
from gateway.store.intake import Arrived, Caller, StoredFile

_SIZES = (0, 10_000, 100_000, 1_000_000)
_SLICES = 200  # of a series that is only rows
_ROWS_A_TRANSACTION = 2000
_WORKLOAD = Workload("mr", "MR", 256, 100, 1)
_REPEATED = 3
_SPARE_DESCRIPTORS = 256
_IDLE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured: `rows` in the database, `open` idle associations, the rest as the columns say."""

    rows: int
    open: int
    instances_per_s: float
    resident_mb: float
    start_s: float


def growth(most: int, json_output: bool) -> None:
    """Receive rate, memory and time to start with more and more rows in the database, at most `most`."""
    sizes = [size for size in _SIZES if size < most] + [most]
    with _node() as folder, Progress(console=err, transient=True) as progress:
        bar = progress.add_task("rows", total=most or 1)
        database = Database(read_settings(folder / "settings.toml").database_url)
        rows, points = 0, []
        for size in sizes:
            while rows < size:
                rows += _add_rows(database, min(_ROWS_A_TRANSACTION, size - rows))
                progress.update(bar, completed=rows)
            with _receiving(folder) as (peer, process, start_s):
                rate = _rate(folder, peer)
                points.append(Point(rows, 0, rate, _resident_mb(process.pid), start_s))
        database.close()
    _report(points, json_output)


def open_associations(number: int, json_output: bool) -> None:
    """Receive rate and memory with no other association, and with `number` of them open and idle."""
    _raise_descriptor_limit(number)
    limits = dict.fromkeys(
        ("max_associations", "max_associations_per_address", "max_associations_per_peer"), number + 8
    )
    with _node(**limits, network_timeout_s=_IDLE_S) as folder, _receiving(folder) as (peer, process, start_s):
        points = [Point(0, 0, _rate(folder, peer), _resident_mb(process.pid), start_s)]
        (study,) = write_studies(folder / "idle", Workload("mr", "MR", 64, 1, 1))
        with ExitStack() as held:
            for _ in range(number):
                association = OpenAssociation(peer, study)
                held.callback(association.release)
            points.append(Point(0, number, _rate(folder, peer), _resident_mb(process.pid), start_s))
    _report(points, json_output)


@contextmanager
def _node(**listener: float) -> Iterator[Path]:
    """A folder with the settings and the empty database of a gateway."""
    folder = Path(tempfile.mkdtemp(prefix="athanor-growth-"))
    try:
        write_settings(folder, free_port(), **listener)
        yield folder
    except DeliveryError as error:
        console.fail(str(error))
    finally:
        shutil.rmtree(folder)


@contextmanager
def _receiving(folder: Path) -> Iterator[tuple[Peer, subprocess.Popen[bytes], float]]:
    """The gateway of `folder` while it receives, and the seconds that it took to start."""
    settings = read_settings(folder / "settings.toml")
    began = time.perf_counter()
    process = start_athanor(folder)
    try:
        yield Peer(settings.node.ae_title, settings.listener.port), process, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(60)


def _rate(folder: Path, peer: Peer) -> float:
    """The median rate of some studies, each new."""
    rates = []
    for number in range(_REPEATED):
        place = folder / f"study-{number}"
        studies = write_studies(place, _WORKLOAD)
        rates.append(_WORKLOAD.instances / send_at_once(peer, studies))
        shutil.rmtree(place)
    return statistics.median(rates)


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and of those that it started, megabytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    return kilobytes / 1024 + sum(_resident_mb(int(child)) for child in children)


def _raise_descriptor_limit(number: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * number + _SPARE_DESCRIPTORS
    if wanted > hard:
        console.fail(f"--open: found a limit of {hard} descriptors; expected {wanted}; raise it with ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _add_rows(database: Database, rows: int) -> int:
    """Record instances that were never sent; how many."""
    caller = Caller(str(uuid.uuid4()), "BENCH", "ATHANOR", "127.0.0.1")
    series = [_rows_of_a_series(min(_SLICES, rows - first)) for first in range(0, rows, _SLICES)]
    with database.write() as connection:
        intake.open_associations(connection, [caller], "bench")
        arrived = [Arrived(header, file, caller) for one in series for header, file in one]
        intake.record_instances(connection, arrived, judge_after_s=_IDLE_S)
        intake.end_association(connection, caller.association_id, AssociationState.RELEASED)
    return rows


def _rows_of_a_series(slices: int) -> list[tuple[InstanceHeader, StoredFile]]:
    """What the headers of a series would have said, and where its files would lie."""
    root = f"2.25.{uuid.uuid4().int}"
    return [
        (
            InstanceHeader(
                sop_class_uid=MRImageStorage, sop_instance_uid=f"{root}.{number}", study_instance_uid=f"{root}.0",
                series_instance_uid=root, transfer_syntax_uid=ExplicitVRLittleEndian, modality="MR",
                image_type=("ORIGINAL", "PRIMARY"), instance_number=number, acquisition_number=1,
                images_in_acquisition=None, number_of_frames=1, rows=256, columns=256,
                image_position=(4.0 * number, 0.0, 0.0), image_orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
                slice_position_mm=4.0 * number, series_number=1, series_description="BENCH", study_description="",
                study_date="", study_time="", accession_number="", body_part_examined="", manufacturer="",
                manufacturer_model_name="", patient_id="", patient_name="",
            ),
            StoredFile(f"received/{root[-2:]}/{root}/{number}.dcm", 135_000, "0" * 64),
        )
        for number in range(1, slices + 1)
    ]  # fmt: skip


def _report(points: Sequence[Point], json_output: bool) -> None:
    if json_output:
        console.show_json([asdict(point) for point in points])
        return
    table = Table(box=None, pad_edge=False, title=f"{_WORKLOAD.instances} instances of 135 kB over one association")
    for column in ("rows", "open associations", "instances per s", "resident MB", "start s"):
        table.add_column(column, justify="right")
    for p in points:
        table.add_row(
            f"{p.rows:,}", str(p.open), f"{p.instances_per_s:.0f}", f"{p.resident_mb:.0f}", f"{p.start_s:.1f}"
        )
    out.print(table)

"""Every metric of Athanor, declared once, and the port on which a process shows its own.

A process with a port answers ``GET /metrics`` in the text format of Prometheus. The line never waits for it: a figure
is added in memory, and a port that cannot be had is reported and left out.

A label has few values, all of them ours: a stage, a state, a pipeline, a destination of the settings. What a peer says
of itself never becomes one: no UID, no patient attribute, and an AE title only when the settings name it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    start_http_server,
)

from gateway import logs
from gateway.settings.watch import Metrics

log = logs.get("metrics")

PORT_OFFSETS: Mapping[str, int] = {"scp": 0, "clock": 20, "transfer": 30, "process": 40, "web": 60}
"""The port of a process is `metrics.port`, plus this for its role, plus its number: scp-1 has port + 1."""

OTHER = "other"

_FAST_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SLOW_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

registry = CollectorRegistry(auto_describe=False)
for _collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
    registry.register(_collector)


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"athanor_{name}", help_text, labels, registry=registry)


def _gauge(name: str, help_text: str, *labels: str) -> Gauge:
    return Gauge(f"athanor_{name}", help_text, labels, registry=registry)


def _seconds(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"athanor_{name}", help_text, labels, buckets=buckets, registry=registry)


# --- receiving: the SCP and the web port ---------------------------------------------------------------------------
INSTANCES = _counter("received_instances_total", "Instances answered with Success.", "calling_ae_title")
BYTES = _counter("received_bytes_total", "Bytes of the instances answered with Success.", "calling_ae_title")
STORE_S = _seconds("store_seconds", "From the first byte of an instance to its Success.", _FAST_S)
REFUSED_INSTANCES = _counter("refused_instances_total", "Instances answered with an error, by its status.", "status")
ASSOCIATIONS_OPEN = _gauge("associations_open", "Associations that are open now.")
ASSOCIATIONS = _counter("associations_total", "Associations that have ended, by how.", "end")
REFUSALS = _counter("refusals_total", "Attempts to associate, or to store, that were refused.", "reason")
QUIET_S = _seconds("series_quiet_seconds", "From the last instance of a series to its closing.", _SLOW_S)
UNRECORDED = _gauge("unrecorded_rows", "What is durable in the spool and has no row in the database yet.")

# --- what waits, told by the clock that leads ----------------------------------------------------------------------
LEADS = _gauge("clock_leads", "1 in the clock that leads.")
MEASURED_AT = _gauge("queues_measured_timestamp_seconds", "When the clock last counted what waits.")
QUEUE_ROWS = _gauge("queue_rows", "What is due and waits to be claimed.", "stage")
QUEUE_AGE_S = _gauge("queue_age_seconds", "For how long the oldest of it has been due.", "stage")
SERIES_OPEN = _gauge("series_open", "Series that are not at their end.", "state")
JOBS_OPEN = _gauge("jobs_open", "Jobs that are not at their end.", "state")
DELIVERIES_OPEN = _gauge(
    "deliveries_open", "Deliveries that have not succeeded and were not cancelled.", "destination", "state"
)
DELIVERY_AGE_S = _gauge("delivery_age_seconds", "Age of the oldest delivery that is not at its end.", "destination")
LEASES_EXPIRED = _counter("leases_expired_total", "Jobs and deliveries taken back from a worker that was lost.")
ANNOUNCED_AGAIN = _counter("announced_again_total", "Rows announced again, because the broker lost them.", "stage")

# --- work ----------------------------------------------------------------------------------------------------------
STAGE_S = _seconds("stage_seconds", "What one run of a stage took.", _SLOW_S, "stage")
ATTEMPTS = _counter("attempts_total", "Attempts of jobs and deliveries, by how they ended.", "stage", "outcome")
PROCESS_STEP_S = _seconds("process_step_seconds", "What each step of a job took.", _SLOW_S, "pipeline", "step")
SENT_INSTANCES = _counter("sent_instances_total", "Instances sent, by the status answered.", "destination", "status")
BUSY = _gauge("worker_busy", "Jobs, routes and deliveries that this worker has in hand.", "stage")
DEVICE = _gauge("worker_device", "1 for the device of this worker.", "device")
GPU_BYTES = _gauge("gpu_memory_bytes", "Memory of the GPU of this worker.", "kind")
MODEL_WARM = _gauge("model_warm", "1 when the generator is in memory and has run once.", "pipeline")
MODEL_LOAD_S = _gauge("model_load_seconds", "What loading the generator and running it once took.", "pipeline")

# --- the machine and this process ----------------------------------------------------------------------------------
DISK_FREE = _gauge("spool_free_bytes", "Free bytes of the disk that holds the spool.")
DISK_RESERVE = _gauge("spool_reserve_bytes", "Under so many free bytes, instances are answered 0xA700.")
AUDIT = _counter("audit_messages_total", "Audit messages, by where they go and what became of them.", "sink", "outcome")
BUILD = _gauge("build_info", "1 for the version that runs.", "version")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits at one moment. `stages` holds rows that are due and the seconds since the oldest of them fell due."""

    stages: Mapping[str, tuple[int, float]]
    series: Mapping[str, int]
    jobs: Mapping[str, int]
    deliveries: Mapping[tuple[str, str], int]  # (destination, state), those that failed too
    oldest_delivery_s: Mapping[str, float]  # by destination, of those not at their end


def serve(settings: Metrics, process: str) -> int | None:
    """Show the metrics of `process` (``process-0``); the port, None when there is none to have or to want."""
    BUILD.labels(version("athanor")).set(1)
    port = port_of(settings, process)
    if port is None:
        return None
    try:
        start_http_server(port, settings.address, registry)
    except OSError as error:
        log.error("no metrics", address=settings.address, port=port, reason=error.strerror)
        return None
    return port


def port_of(settings: Metrics, process: str) -> int | None:
    """The port of `process`; None without metrics, and for a role that has none."""
    role, _, number = process.partition("-")
    if not settings.port or role not in PORT_OFFSETS:
        return None
    return settings.port + PORT_OFFSETS[role] + int(number or 0)


class Callers:
    """The figures of each peer that the settings name; all others are counted together, as ``other``."""

    def __init__(self, known: Collection[str] = ()) -> None:
        self._figures = {title: self._of(title) for title in {*known, OTHER}}

    @staticmethod
    def _of(title: str) -> tuple[Counter, Counter]:
        return INSTANCES.labels(title), BYTES.labels(title)

    def stored(self, calling_ae_title: str, size_bytes: int, began: float) -> None:
        """An instance was answered with Success; it `began` at that time.perf_counter()."""
        instances, total = self._figures.get(calling_ae_title) or self._figures[OTHER]
        instances.inc()
        total.inc(size_bytes)
        STORE_S.observe(time.perf_counter() - began)


def refused_instance(status: int) -> None:
    """An instance was answered with an error of ours."""
    REFUSED_INSTANCES.labels(status_label(status)).inc()


@contextmanager
def working(stage: str) -> Iterator[None]:
    """A worker has something in hand."""
    with BUSY.labels(stage).track_inprogress():
        yield


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """One run of a stage on something that it claimed."""
    with STAGE_S.labels(stage).time():
        yield


def status_label(status: int) -> str:
    """A DIMSE or HTTP status as a label: what a peer makes up falls into the range that PS3.4 B.2.3 gives it."""
    if status in _STATUSES:
        return f"0x{status:04X}"
    if status < 0x0600:
        return OTHER
    return {0xA: "0xAxxx", 0xB: "0xBxxx", 0xC: "0xCxxx"}.get(status >> 12, OTHER)


_STATUSES = frozenset(
    {0x0000, 0x0001, 0x0105, 0x0106, 0x0110, 0x0111, 0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0210, 0x0211,
     0x0212, 0x0213, 0xA700, 0xA900, 0xB000, 0xB006, 0xB007, 0xC000, 0xC211}
)  # fmt: skip


def watch_disk(folder: Path, reserve_bytes: int) -> None:
    """Show the free space of the disk of `folder`, asked when somebody looks."""

    def free() -> float:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return float("nan")

    DISK_FREE.set_function(free)
    DISK_RESERVE.set(reserve_bytes)


def watch_gpu(memory: Callable[[], tuple[int, int]]) -> None:
    """Show the free and the whole memory of a GPU, in bytes, as `memory` gives them when somebody looks."""
    GPU_BYTES.labels("free").set_function(lambda: memory()[0])
    GPU_BYTES.labels("total").set_function(lambda: memory()[1])


def show_queues(waiting: Waiting, stages: Iterable[str]) -> None:
    """Show what the clock that leads has counted."""
    for gauge in (SERIES_OPEN, JOBS_OPEN, DELIVERIES_OPEN, DELIVERY_AGE_S):
        gauge.clear()
    for stage in stages:
        rows, age_s = waiting.stages.get(stage, (0, 0.0))
        QUEUE_ROWS.labels(stage).set(rows)
        QUEUE_AGE_S.labels(stage).set(age_s)
    for state, rows in waiting.series.items():
        SERIES_OPEN.labels(state).set(rows)
    for state, rows in waiting.jobs.items():
        JOBS_OPEN.labels(state).set(rows)
    for (destination, state), rows in waiting.deliveries.items():
        DELIVERIES_OPEN.labels(destination, state).set(rows)
    for destination, age_s in waiting.oldest_delivery_s.items():
        DELIVERY_AGE_S.labels(destination).set(age_s)
    MEASURED_AT.set_to_current_time()


def show_leadership(leads: bool) -> None:
    """Whether this clock leads; one that does not shows nothing of what waits."""
    LEADS.set(leads)
    if not leads:
        for gauge in (QUEUE_ROWS, QUEUE_AGE_S, SERIES_OPEN, JOBS_OPEN, DELIVERIES_OPEN, DELIVERY_AGE_S):
            gauge.clear()

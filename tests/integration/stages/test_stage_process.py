"""The process stage: fenced against workers that slept too long, and in words about what it could not do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from small_series import AXIAL, instance_uids
from stage_line import Line, Series, Start, on_sqlite

from gateway.stages.sweep import sweep
from gateway.store import outbox, reruns, tables, timeline
from pipelines.errors import PipelineError
from pipelines.inference import Pipeline
from pipelines.result import Progress, Result
from pipelines.spec import PipelineSpec
from pipelines.volume import Volume


class Gate:
    """A generator that stops in the middle of a job until it is let through, as a stopped worker does."""

    def __init__(self, load: Callable[[PipelineSpec], Pipeline]) -> None:
        self._load = load
        self.reached = threading.Event()
        self.open = threading.Event()

    def load(self, spec: PipelineSpec) -> Callable[[Mapping[str, Volume], Progress], Result]:
        pipeline = self._load(spec)

        def run(volumes: Mapping[str, Volume], progress: Progress) -> Result:
            self.reached.set()
            assert self.open.wait(20)
            return pipeline(volumes, progress)

        return run


def queued(line: Line, paths: list[Path]) -> str:
    """Send a series and take it to a job that waits; its id."""
    assert line.send(paths).is_delivered
    line.assemble()
    line.route()
    (job_id,) = line.announced(outbox.PROCESS)
    return job_id


def derived_files(line: Line) -> list[Path]:
    return sorted(path for path in (line.spool.folder / "derived").rglob("*") if path.is_file())


def test_a_worker_that_slept_past_its_lease_writes_nothing_when_it_wakes(start: Start, series: Series) -> None:
    line = start(lease_s=0.3)
    job_id = queued(line, series(3))
    gate = Gate(line.load)
    sleeper = threading.Thread(target=line.worker(gate.load, "process-1"), args=(job_id,))
    sleeper.start()
    assert gate.reached.wait(20)
    while not line.announced(outbox.PROCESS):
        sweep(line.database, lambda _: 1)
    line.process()
    (job,) = line.detail()["jobs"]
    files = {path: path.read_bytes() for path in derived_files(line)}
    gate.open.set()
    sleeper.join(20)
    assert line.detail()["jobs"] == [job]
    assert (job["state"], job["attempt"]) == ("SUCCEEDED", 2)
    assert line.count(tables.derived) == 3
    assert line.count(tables.delivery) == 1
    assert {path: path.read_bytes() for path in derived_files(line)} == files, "its files are gone too"
    with line.database.read() as connection:
        told = [(event.stage, event.what) for event in timeline.of_series(connection, line.detail()["id"])]
    assert told[-4:] == [
        ("process", "started"), ("sweep", "taken back"), ("process", "started"), ("process", "succeeded")
    ]  # fmt: skip


def test_a_sleeper_that_wakes_while_another_works_is_fenced_too(start: Start, series: Series) -> None:
    line = start(lease_s=0.3)
    job_id = queued(line, series(3))
    first, second = Gate(line.load), Gate(line.load)
    sleeper = threading.Thread(target=line.worker(first.load, "process-1"), args=(job_id,))
    sleeper.start()
    assert first.reached.wait(20)
    while not line.announced(outbox.PROCESS):
        sweep(line.database, lambda _: 1)
    worker = threading.Thread(target=line.worker(second.load, "process-2"), args=(job_id,))
    worker.start()
    assert second.reached.wait(20)
    first.open.set()
    sleeper.join(20)
    assert line.count(tables.derived) == 0
    assert line.detail()["jobs"][0]["state"] == "RUNNING"
    second.open.set()
    worker.join(20)
    assert line.detail()["jobs"][0]["state"] == "SUCCEEDED"
    assert line.count(tables.derived) == 3
    assert len(derived_files(line)) == 3


def test_a_late_instance_while_the_job_runs_leaves_one_result_of_the_whole(line: Line, series: Series) -> None:
    paths = series(6)
    job_id = queued(line, paths[:5])
    gate = Gate(line.load)
    worker = threading.Thread(target=line.worker(gate.load), args=(job_id,))
    worker.start()
    assert gate.reached.wait(20)
    assert line.send(paths[5:]).is_delivered
    gate.open.set()
    worker.join(20)
    assert line.detail()["jobs"][0]["state"] == "SUPERSEDED"
    assert derived_files(line) == [], "nobody will ever ask for the superseded files"
    line.assemble()
    line.route()
    line.process()
    superseded, job = line.detail()["jobs"]
    assert superseded["deliveries"] == []
    assert (job["state"], job["revision"], job["derived"][0]["instances"]) == ("SUCCEEDED", 2, 6)
    assert len(derived_files(line)) == 6


@on_sqlite
def test_a_failed_job_that_runs_again_never_gets_an_attempt_twice(line: Line, series: Series) -> None:
    """The fence is the attempt: a worker that sleeps since the first attempt must not find it again."""
    job_id = queued(line, series(3))

    def broken(spec: PipelineSpec) -> Pipeline:
        raise PipelineError(f"{spec.id}: the weights are not there")

    line.process(broken)
    assert line.detail()["jobs"][0]["attempt"] == 1
    with line.database.write() as connection:
        assert reruns.run_again(connection, job_id)
    line.process()
    (job,) = line.detail()["jobs"]
    assert (job["state"], job["attempt"]) == ("SUCCEEDED", 2)
    assert job["attempt"] <= job["max_attempts"]


@on_sqlite
def test_an_attempt_that_breaks_is_tried_again_and_fails_in_words(line: Line, series: Series) -> None:
    queued(line, series(3))

    def broken(_: PipelineSpec) -> Pipeline:
        raise MemoryError("no room for the generator")

    for attempt in (1, 2, 3):
        line.process(broken)
        (job,) = line.detail()["jobs"]
        assert job["error"].startswith(f"attempt {attempt} of 3: MemoryError")
        assert job["state"] == ("FAILED" if attempt == 3 else "QUEUED")
    assert line.announced(outbox.PROCESS) == []


@on_sqlite
def test_a_source_file_that_is_gone_fails_the_job(line: Line, series: Series) -> None:
    queued(line, series(3))
    lost = line.spool.path(line.scalar(sa.select(tables.instance.c.path).limit(1)))
    lost.unlink()
    for _ in range(3):
        line.process()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "FAILED"
    assert lost.name in job["error"]


def _half(index: int, ds: Dataset) -> None:
    if index == 1:
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def _further(index: int, ds: Dataset) -> None:
    if index >= 2:
        ds.PixelSpacing = [0.9, 0.9]


def _moved(index: int, ds: Dataset) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x + (1.3 if index == 1 else 0.0), y, z]


@on_sqlite
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": AXIAL}, "plane: found axial; expected sagittal"),
        ({"without": 2}, "missing-slices: found a step of 8.80 mm; expected 4.40 mm"),
        ({"edit": _further}, "mixed-spacing: found Pixel Spacing"),
        ({"edit": _moved}, "mixed-spacing: found slices 1."),
        ({"edit": _half}, "undecodable: found"),
        ({"EchoTime": "12"}, "te-ms: found 12; expected 70 to 150"),
        ({"ScanOptions": ["FS"]}, "fat-suppression: found Scan Options FS"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour: found PALETTE COLOR"),
    ],
)
def test_a_series_that_the_pipeline_cannot_take_is_refused_in_words(
    line: Line, series: Series, options: dict[str, object], words: str
) -> None:
    queued(line, series(6, **options))
    line.process()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "REFUSED"
    assert words in job["error"]
    assert line.announced(outbox.PROCESS) == line.announced(outbox.DELIVER) == []
    assert derived_files(line) == []


@on_sqlite
def test_results_of_two_gateways_are_the_same_objects(start: Start, series: Series) -> None:
    paths = series(3)
    found = []
    for folder in ("one", "other"):
        line = start(folder=folder, own_database=folder == "other")
        queued(line, paths)
        line.process()
        files = [pydicom.dcmread(path) for path in derived_files(line)]
        found.append(
            sorted((int(ds.InstanceNumber), ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.PixelData) for ds in files)
        )
    assert found[0] == found[1]
    assert len(found[0]) == len(instance_uids(paths))

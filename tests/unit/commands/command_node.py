"""A node with a database in which things have happened, by the functions of the stages and the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
from athanor_command import Ran, athanor
from raw_store import encoded
from small_series import series_uid, write_small_series

from gateway.dicom.provenance import own_identity
from gateway.domain.completeness import Policy
from gateway.domain.states import DeliveryState, JobState
from gateway.network.receiver import AssociationInfo, StoreRequest
from gateway.settings import Settings
from gateway.stages.assemble import assemble
from gateway.stages.receive import Receive
from gateway.stages.route import Route
from gateway.store import deliveries, heartbeats, jobs, outbox, reports, tables
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool

RULES = """
[[rules]]
name = "stir"
description = "Sagittal T2W: add a synthetic STIR"
pipeline = "t2-to-stir"
destinations = ["pacs"]

[rules.when]
all = [
    { attribute = "Modality", equals = "MR" },
    { attribute = "EchoTime", between = [70, 150] },
]
"""
KINDS = ("scp", "clock", "process-0@host", "transfer-0@host")


@dataclass(slots=True)
class Node:
    """A node whose processes are the test itself."""

    folder: Path
    settings_file: Path
    settings: Settings
    database: Database
    _seeds: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))

    def __call__(self, *arguments: object) -> Ran:
        """Call ``athanor`` with the settings of this node."""
        return athanor("--settings", self.settings_file, *arguments)

    def alive(self, *processes: str) -> None:
        """Give every process, or those named, a heartbeat of now."""
        for process in processes or KINDS:
            heartbeats.Heart(self.database, process)

    def receive(self, slices: int = 2, **attributes: object) -> int:
        """Receive a series and close it; its id."""
        seed = next(self._seeds)
        paths = write_small_series(self.folder / f"series-{seed}", seed, slices, **attributes)  # type: ignore[arg-type]
        return self._receive(paths, seed)

    def late_instance(self) -> None:
        """One more instance of the first series, after it was closed."""
        self._receive(write_small_series(self.folder / "late", 1, 3)[2:], next(self._seeds))

    def _receive(self, paths: list[Path], association: int) -> int:
        opened = datetime.now(UTC)
        sender = AssociationInfo(f"{association:036d}", "SCANNER", "ATHANOR", "127.0.0.1", 4000, "1.2.3", "", opened)
        spool = self._spool()
        with Recorder(self.database, spool, judge_after_s=0.0) as recorder:
            stage = Receive(spool, recorder)
            stage.association_opened(sender)
            for number, path in enumerate(paths, 1):
                ds = pydicom.dcmread(path, stop_before_pixels=True)
                incoming = stage.begin(
                    StoreRequest(sender, number, ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID)
                )
                incoming.write(encoded(path))
                answer = incoming.finish()
                assert answer.status == 0, answer.error_comment
            stage.association_ended(sender, "released")
        until = time.monotonic() + 10
        while not assemble(self.database, Policy(0.01, 0.01, 0.02)):
            assert time.monotonic() < until, "the series stays open"
        with self.database.read() as connection:
            series_id = reports.find_series(connection, series_uid(paths))
        assert series_id is not None
        return series_id

    def route(self) -> None:
        """Route every series that waits for it."""
        stage = Route(
            self.database, self._spool(), own_identity(self.settings), self.settings.models_dir, max_attempts=3
        )
        for subject in self._waiting(outbox.ROUTE):
            stage(subject)

    def claim_job(self) -> jobs.Claim:
        """A worker takes the job that waits."""
        (job_id,) = self._waiting(outbox.PROCESS)
        with self.database.write() as connection:
            claimed = jobs.claim(connection, job_id, "process-0@host", 30.0)
        assert claimed is not None
        return claimed

    def end_job(self, state: JobState, reason: str) -> str:
        """The job that waits ends without a result; its id."""
        claimed = self.claim_job()
        with self.database.write() as connection:
            assert jobs.end(connection, claimed, state, reason)
        return claimed.job_id

    def finish_job(self) -> str:
        """The job that waits succeeds with two derived instances; its id."""
        claimed = self.claim_job()
        made = [
            jobs.DerivedFile(
                "sc-source-label-1.2.840.10008.1.2.1", f"2.25.9{number}{claimed.series_id}",
                "1.2.840.10008.5.1.4.1.1.7", f"2.25.8{claimed.series_id}", 401, "1.2.840.10008.1.2.1", number,
                f"2.25.7{number}", f"derived/{claimed.job_id}/{number}.dcm", 100, "0" * 64,
            )
            for number in (1, 2)
        ]  # fmt: skip
        with self.database.write() as connection:
            state = jobs.succeed(
                connection, claimed, made, {"pacs": made[0].profile}, give_up_s=60.0, pipeline_version="1.0.0",
                weights_sha256="0" * 64, seconds={"infer": 0.1},
            )  # fmt: skip
        assert state is JobState.SUCCEEDED
        return claimed.job_id

    def end_delivery(self, state: DeliveryState, error: str | None = None) -> None:
        """The delivery that waits is attempted once and comes to `state`."""
        (delivery_id,) = self._waiting(outbox.DELIVER)
        with self.database.write() as connection:
            claimed = deliveries.claim(connection, delivery_id, "transfer-0@host", 30.0, 1)
            assert claimed is not None
            if state is DeliveryState.DELIVERED:
                answers = {one.derived_id: (0, "Success (0x0000)", True) for one in claimed.to_send}
                deliveries.record_answers(connection, claimed, answers)
            retry_in_s = 60.0 if state is DeliveryState.QUEUED else None
            assert deliveries.end(connection, claimed, state, error=error, retry_in_s=retry_in_s)

    def detail(self, series_id: int) -> dict[str, Any]:
        """What the store says of a series."""
        with self.database.read() as connection:
            return reports.series_detail(connection, series_id)

    def _spool(self) -> Spool:
        return Spool(self.settings.spool_dir, "scp")

    def _waiting(self, stage: str) -> list[str]:
        with self.database.read() as connection:
            rows = connection.execute(tables.outbox.select().order_by(tables.outbox.c.id))
            return [row.subject for row in rows if row.stage == stage]

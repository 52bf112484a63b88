"""The stages in one process, without a broker: what the outbox announces is done when the test says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fault_pacs import FaultPacs

from gateway.commands.sandbox import free_port
from gateway.dicom.provenance import own_identity
from gateway.domain.completeness import Policy
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.scu import DestinationAddress, OutgoingInstance, SendReport, send
from gateway.settings import Destination, Settings
from gateway.stages.assemble import assemble
from gateway.stages.deliver import Deliverer
from gateway.stages.process import Process
from gateway.stages.receive import Receive
from gateway.stages.route import Route
from gateway.store import deliveries, outbox, reports, tables
from gateway.store.database import Database
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool
from pipelines import inference
from pipelines.catalog import Catalog
from pipelines.spec import PipelineSpec

# for what the database has no part in; everything else runs on SQLite and on PostgreSQL
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# short, and still longer than the time between two instances
POLICY = Policy(quiet_s=0.05, quiet_full_s=0.05, fallback_s=0.2)

Load = Callable[[PipelineSpec], Any]
"""What gives the pipeline of a spec, or something that behaves as one."""


@dataclass
class Line:
    """One gateway's stages around a real database, spool and storage SCP."""

    database: Database
    spool: Spool
    settings: Settings
    scp: StorageScp
    recorder: Recorder
    _pipelines: dict[str, inference.Pipeline] = field(default_factory=dict)

    @classmethod
    def start(cls, database: Database, spool: Spool, settings: Settings) -> Line:
        """With an SCP that listens on a free port."""
        recorder = Recorder(database, spool, judge_after_s=0.02).__enter__()
        scp = StorageScp(ScpConfig(ae_title="ATHANOR", port=0), Receive(spool, recorder))
        scp.start()
        return cls(database, spool, settings, scp, recorder)

    def stop(self) -> None:
        """End the SCP; the associations that are open are heard to their end."""
        self.scp.stop(5.0)
        self.recorder.__exit__()

    def send(self, paths: list[Path], calling_ae_title: str = "SCANNER") -> SendReport:
        """C-STORE `paths` over one association."""
        address = DestinationAddress("ATHANOR", "127.0.0.1", self.scp.port, calling_ae_title)
        report = send(address, [OutgoingInstance.read(path) for path in paths], lambda *_: None)
        self.settle()
        return report

    def settle(self) -> None:
        """Wait until every association has ended and everything of it is recorded."""
        until = time.monotonic() + 10
        while self.scp.associations:
            assert time.monotonic() < until, "an association does not end"
            time.sleep(0.005)
        assert self.recorder.flush(10.0), "rows are not recorded"

    def assemble(self) -> None:
        """Judge until no series is open."""
        self.settle()
        until = time.monotonic() + 10
        receiving = sa.select(sa.func.count()).select_from(tables.series).where(tables.series.c.state == "RECEIVING")
        while self.scalar(receiving):
            assemble(self.database, POLICY)
            assert time.monotonic() < until, "a series stays open"
            time.sleep(0.01)

    def announced(self, stage: str) -> list[str]:
        """The subjects that wait for a stage, most urgent first."""
        with self.database.read() as connection:
            return list(
                connection.execute(
                    sa.select(tables.outbox.c.subject)
                    .where(tables.outbox.c.stage == stage)
                    .order_by(tables.outbox.c.priority, tables.outbox.c.id)
                ).scalars()
            )

    def route(self) -> None:
        """Route every series that waits for it."""
        settings = self.settings
        stage = Route(
            self.database, self.spool, own_identity(settings), settings.models_dir, settings.process.max_attempts
        )
        for subject in self.announced(outbox.ROUTE):
            stage(subject)

    def process(self, load: Load | None = None, owner: str = "process-0") -> None:
        """Run every job that waits."""
        stage = self.worker(load, owner)
        for job_id in self.announced(outbox.PROCESS):
            stage(job_id)

    def worker(self, load: Load | None = None, owner: str = "process-0") -> Process:
        """A process stage of its own; `load` instead of the generator's own loading."""
        catalog = Catalog.read(self.settings.models_dir)
        return Process(self.database, self.spool, self.settings, catalog, load or self.load, owner)

    def load(self, spec: PipelineSpec) -> inference.Pipeline:
        """The generator, loaded once."""
        return self._pipelines.setdefault(spec.id, inference.load(spec))

    def deliver(self) -> None:
        """Make one attempt at every delivery that waits and is due."""
        for delivery_id in self.announced(outbox.DELIVER):
            self.deliver_one(delivery_id)

    def deliver_one(self, delivery_id: str, *, calling_ae_title: str = "ATHANOR") -> None:
        """One attempt at a delivery."""
        node = self.settings.node.model_copy(update={"ae_title": calling_ae_title})
        settings = self.settings.model_copy(update={"node": node})
        Deliverer(self.database, self.spool, settings, "transfer-0")(delivery_id)

    def deliver_until_ended(self) -> None:
        """Attempts until no delivery is open."""
        until = time.monotonic() + 15
        while waiting := self.announced(outbox.DELIVER):
            for delivery_id in waiting:
                self.deliver_one(delivery_id)
            assert time.monotonic() < until, "a delivery never ends"
            time.sleep(0.02)

    def run(self, paths: list[Path]) -> dict[str, Any]:
        """Send a series and take it to its visible end; what is known of it then."""
        assert self.send(paths).is_delivered
        self.assemble()
        self.route()
        self.process()
        self.deliver_until_ended()
        return self.detail()

    def detail(self, series_id: int | None = None) -> dict[str, Any]:
        """What is known of a series, by default the latest."""
        with self.database.read() as connection:
            latest = series_id or connection.execute(sa.select(sa.func.max(tables.series.c.id))).scalar_one()
            return reports.series_detail(connection, latest)

    def delivery(self) -> dict[str, Any]:
        """The only delivery of the latest job of the latest series."""
        (found,) = self.detail()["jobs"][-1]["deliveries"]
        return dict(found)

    def send_again(self, delivery_id: str, *, whole: bool = False) -> None:
        """What ``athanor jobs resend`` does."""
        with self.database.write() as connection:
            assert deliveries.send_again(connection, delivery_id, whole=whole, give_up_s=60.0)

    def count(self, table: sa.Table) -> int:
        """Rows of a table."""
        return int(self.scalar(sa.select(sa.func.count()).select_from(table)))

    def scalar(self, statement: sa.Select[Any]) -> Any:
        """One value."""
        self.settle()
        with self.database.read() as connection:
            return connection.execute(statement).scalar_one()

    def with_destinations(self, **destinations: Destination) -> Line:
        """The same line with other destinations."""
        return replace(self, settings=self.settings.model_copy(update={"destinations": destinations}))


def destination(port: int | None = None, **values: Any) -> Destination:
    """A destination on the loopback, on a free port unless told."""
    return Destination(ae_title="FAULT", host="127.0.0.1", port=port or free_port(), **values)


Series = Callable[..., list[Path]]
Start = Callable[..., Line]
MakePacs = Callable[..., FaultPacs]

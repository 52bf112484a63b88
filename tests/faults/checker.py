"""The checker that every test of tests/faults ends with: what a gateway promised, compared with what there is.

    report = check(settings, answers, {"pacs": pacs.stored})
    report.require_kept()

`settings` are those of the gateway under test, whose spool and database are read; nothing of it need run, but what is
under way has to have ended: see `Gateway.drain`. `answers` is what the senders heard of each C-STORE, `stored` what a
destination took, in the shape of `fault_pacs.Stored`. A destination that is not named is not looked at. For a test
that keeps a destination down until its end, `down={"pacs"}` allows deliveries that wait for it, with a reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import pydicom
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from gateway.dicom.marks import missing_mark
from gateway.domain.states import DELIVERY_ENDED, JOB_ENDED, SERIES_ENDED, DeliveryState, JobState, SeriesState
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import (
    delivery,
    delivery_instance,
    derived,
    destination,
    instance,
    job,
    job_input,
    quarantine,
    series,
)

_NEEDS_A_REASON = {
    SeriesState.UNMATCHED, SeriesState.BLOCKED, SeriesState.FAILED,
    JobState.REFUSED, JobState.FAILED, DeliveryState.FAILED, DeliveryState.CANCELLED,
}  # fmt: skip


class Promise(StrEnum):
    """What is promised, in the words that a violation of it is reported with."""

    STORED = "every acknowledged SOP Instance is stored: a row, and a file with exactly the sent bytes"
    UNCHANGED = "no source byte changed: every row's file holds what was sent and recorded"
    VISIBLE_END = "every series, job and delivery reached a visible end, or waits with a reason"
    WHOLE = "the last result of a series is made of all its instances"
    DELIVERED = "every result is at its destinations"
    ONCE = "there is one object for each derived SOP Instance UID, however often it was sent"
    KNOWN = "nothing is at a destination that was not made and addressed to it"
    MARKED = "nothing is at a destination that lacks the marks of synthetic data"
    NO_ORPHAN = "no file lies in the spool that no row names, and none in incoming/"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender heard of one C-STORE; `sha256` of the data set it sent, `status` None when no answer came."""

    sop_instance_uid: str
    sha256: str
    status: int | None

    @property
    def is_acknowledged(self) -> bool:
        """Success or a Warning (PS3.7 Annex C): the sender may forget the instance."""
        return self.status is not None and (self.status == 0x0000 or self.status >> 12 == 0xB)


class Arrived(Protocol):
    """One C-STORE that a destination took: `fault_pacs.Stored` is one."""

    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def encoded(self) -> bytes: ...
    @property
    def status(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and by what."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise.name}: {self.what}\n    promised: {self.promise}"


@dataclass(slots=True)
class Report:
    """What was compared, and every promise that was found broken."""

    violations: list[Violation] = field(default_factory=list)
    acknowledged: int = 0  # instances
    series: Counter[str] = field(default_factory=Counter)  # by state
    jobs: Counter[str] = field(default_factory=Counter)  # of the last revisions, by state
    deliveries: Counter[str] = field(default_factory=Counter)
    delivered: int = 0  # derived instances looked up at their destinations
    repeated: int = 0  # C-STOREs of the same bytes again, as after an ambiguous outcome

    def broken(self) -> set[Promise]:
        """The promises that were broken."""
        return {violation.promise for violation in self.violations}

    def require_kept(self) -> None:
        """Raise AssertionError with every violation when there is one."""
        assert not self.violations, "\n".join(map(str, [*self.violations[:20], self.summary()]))

    def summary(self) -> str:
        """What was compared, in a line."""
        return (
            f"{self.acknowledged} acknowledged instances, series {dict(self.series)}, jobs {dict(self.jobs)}, "
            f"deliveries {dict(self.deliveries)}, {self.delivered} derived instances at destinations, "
            f"{self.repeated} sent again, {len(self.violations)} violations"
        )

    def add(self, promise: Promise, what: str) -> None:
        """One more violation."""
        self.violations.append(Violation(promise, what))


def check(
    settings: Settings,
    answers: Iterable[Answer],
    destinations: Mapping[str, Iterable[Arrived]],
    *,
    down: Collection[str] = (),
) -> Report:
    """Compare the senders' answers, the spool, the database and the destinations."""
    truth = _Truth.read(settings)
    heard = list(answers)
    report = Report()
    _check_sources(report, truth, heard)
    _check_ends(report, truth, down)
    for name, arrived in destinations.items():
        _check_destination(report, truth, name, list(arrived))
    _check_orphans(report, truth)
    return report


@dataclass(frozen=True, slots=True)
class _Truth:
    """Every row of the tables that matter, and the spool."""

    spool: Path
    series: dict[int, Any]
    instances: dict[str, Any]  # by SOP Instance UID
    quarantined: list[Any]
    jobs: dict[str, Any]
    derived: dict[int, Any]
    deliveries: list[Any]
    expected: dict[str, list[Any]]  # delivery id -> delivery_instance rows
    reasons: dict[str, str]  # destination -> why it takes nothing now
    inputs: list[Any]  # job_input rows: the series of jobs that have several

    @classmethod
    def read(cls, settings: Settings) -> _Truth:
        database = Database(settings.database_url)
        with database.read() as connection:

            def rows(table: sa.Table) -> list[Any]:
                return list(connection.execute(sa.select(table)).all())

            expected = defaultdict(list)
            for row in rows(delivery_instance):
                expected[row.delivery_id].append(row)
            found = cls(
                settings.spool_dir, {row.id: row for row in rows(series)},
                {row.sop_instance_uid: row for row in rows(instance)}, rows(quarantine),
                {row.id: row for row in rows(job)}, {row.id: row for row in rows(derived)}, rows(delivery), expected,
                {row.name: row.hold_reason or row.error for row in rows(destination)},
                rows(job_input),
            )  # fmt: skip
        database.close()
        return found

    def data_set(self, relative: str) -> bytes | None:
        """The data set of a Part 10 file of the spool; None when the file is not there."""
        try:
            content = (self.spool / relative).read_bytes()
        except FileNotFoundError:
            return None
        # PS3.10 7.1: the group length says where the data set begins
        return content[144 + int.from_bytes(content[140:144], "little") :]

    def digest(self, relative: str) -> str | None:
        """SHA-256 of the data set of a file of the spool; None when it is not there."""
        data_set = self.data_set(relative)
        return None if data_set is None else _sha256(data_set)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_sources(report: Report, truth: _Truth, heard: list[Answer]) -> None:
    sent = defaultdict(set)
    for answer in heard:
        sent[answer.sop_instance_uid].add(answer.sha256)
    found = {uid: truth.digest(row.path) for uid, row in truth.instances.items()}
    for uid, row in truth.instances.items():
        if found[uid] is None:
            report.add(Promise.STORED, f"instance {uid}: its row names {row.path}, and there is no such file")
        elif found[uid] != row.sha256:
            report.add(Promise.UNCHANGED, f"instance {uid}: {row.path} holds other bytes than were recorded")
        elif uid in sent and found[uid] not in sent[uid]:
            report.add(Promise.UNCHANGED, f"instance {uid}: {row.path} holds bytes that nobody sent")
    beside = {truth.digest(row.path) for row in truth.quarantined if row.path}
    acknowledged = {(answer.sop_instance_uid, answer.sha256) for answer in heard if answer.is_acknowledged}
    report.acknowledged = len(acknowledged)
    for uid, sha256 in sorted(acknowledged):
        if uid not in truth.instances:
            report.add(Promise.STORED, f"instance {uid}: acknowledged, and there is no row of it")
        elif found[uid] is not None and found[uid] != sha256 and sha256 not in beside:
            report.add(Promise.STORED, f"instance {uid}: acknowledged with other bytes, which are nowhere")


def _check_ends(report: Report, truth: _Truth, down: Collection[str]) -> None:
    report.series = Counter(row.state for row in truth.series.values())
    report.jobs = Counter(row.state for row in truth.jobs.values() if not row.superseded)
    report.deliveries = Counter(row.state for row in truth.deliveries)
    for row in truth.series.values():
        _check_end(report, f"series {row.uid}", row.state, row.reason, SERIES_ENDED)
        _check_whole(report, truth, row)
    for row in truth.jobs.values():
        _check_end(report, f"job {row.id}", row.state, row.error, JOB_ENDED)
    addressed = defaultdict(set)
    for row in truth.deliveries:
        addressed[row.job_id].add(row.destination)
        what = f"delivery {row.id} to {row.destination}"
        if row.destination in down and row.state not in DELIVERY_ENDED:
            if not (row.error or truth.reasons.get(row.destination)):
                report.add(Promise.VISIBLE_END, f"{what}: waits as {row.state}, and does not say for what")
        else:
            _check_end(report, what, row.state, row.error, DELIVERY_ENDED)
    for row in truth.jobs.values():
        if row.state == JobState.SUCCEEDED and (left := set(row.destinations) - addressed[row.id]):
            report.add(Promise.DELIVERED, f"job {row.id}: SUCCEEDED without a delivery to {', '.join(sorted(left))}")


def _check_end(report: Report, what: str, state: str, reason: str | None, ended: Collection[str]) -> None:
    if state not in ended:
        report.add(Promise.VISIBLE_END, f"{what}: is still {state} ({reason or 'and does not say why'})")
    elif state in _NEEDS_A_REASON and not reason:
        report.add(Promise.VISIBLE_END, f"{what}: ended {state} without a reason")


def _check_whole(report: Report, truth: _Truth, row: Any) -> None:
    """A ROUTED series has a job of its last revision, and a result of that has every instance for a source."""
    sources = {item.sop_instance_uid for item in truth.instances.values() if item.series_id == row.id}
    if len(sources) != row.instances:
        report.add(Promise.WHOLE, f"series {row.uid}: counts {row.instances} instances and has {len(sources)}")
    if row.state != SeriesState.ROUTED:
        return
    beside = {item.job_id for item in truth.inputs if (item.series_id, item.revision) == (row.id, row.revision)}
    alone = [item for item in truth.jobs.values() if (item.series_id, item.revision) == (row.id, row.revision)]
    # a later revision of its partner may have superseded one of several series, but not the last
    several = [truth.jobs[job_id] for job_id in beside if not truth.jobs[job_id].superseded]
    last = [item for item in alone if item.id not in beside] + several
    if not last:
        report.add(Promise.WHOLE, f"series {row.uid}: ROUTED, and revision {row.revision} has no job")
    for one in last:
        if one.superseded or one.state == JobState.SUPERSEDED:
            report.add(Promise.WHOLE, f"job {one.id}: superseded, and no later revision of {row.uid} is there")
        if one.state != JobState.SUCCEEDED or one.series_id != row.id:
            continue
        used = {item.source_sop_instance_uid for item in truth.derived.values() if item.job_id == one.id}
        if used != sources:
            report.add(Promise.WHOLE, f"job {one.id}: made of {len(used)} of {len(sources)} instances of {row.uid}")


def _check_destination(report: Report, truth: _Truth, name: str, arrived: list[Arrived]) -> None:
    by_uid: dict[str, list[Arrived]] = defaultdict(list)
    for one in arrived:
        by_uid[one.sop_instance_uid].append(one)
    addressed: dict[str, Any] = {}
    for row in truth.deliveries:
        if row.destination != name:
            continue
        for item in truth.expected[row.id]:
            made = truth.derived[item.derived_id]
            addressed[made.sop_instance_uid] = made
            if row.state == DeliveryState.DELIVERED:
                _check_delivered(report, name, made, item, by_uid[made.sop_instance_uid])
    for uid, every in by_uid.items():
        if not every:
            continue
        if uid not in addressed:
            report.add(Promise.KNOWN, f"{name}: got {uid}, which was not made for it")
        else:
            _check_same(report, truth, name, addressed[uid], every)
        if (mark := _missing_mark(every[-1])) is not None:
            report.add(Promise.MARKED, f"{name}: got {uid} without {mark}")


def _check_delivered(report: Report, name: str, made: Any, item: Any, arrived: list[Arrived]) -> None:
    report.delivered += 1
    if item.accepted_at is None:
        report.add(Promise.DELIVERED, f"{name}: DELIVERED, and {made.sop_instance_uid} was never accepted")
    elif not any(Answer(one.sop_instance_uid, "", one.status).is_acknowledged for one in arrived):
        report.add(Promise.DELIVERED, f"{name}: DELIVERED, and it has not got {made.sop_instance_uid}")


def _check_same(report: Report, truth: _Truth, name: str, made: Any, arrived: list[Arrived]) -> None:
    report.repeated += len(arrived) - 1
    for syntax, every in _grouped(arrived, lambda one: one.transfer_syntax_uid):
        if len({one.encoded for one in every}) > 1:
            report.add(Promise.ONCE, f"{name}: got {made.sop_instance_uid} with different bytes")
        # in another transfer syntax than it was made in, its bytes are others by right
        elif syntax == made.transfer_syntax_uid and every[0].encoded != truth.data_set(made.path):
            report.add(Promise.ONCE, f"{name}: got {made.sop_instance_uid} with other bytes than were made")


def _grouped(arrived: list[Arrived], key: Callable[[Arrived], str]) -> Iterator[tuple[str, list[Arrived]]]:
    groups: dict[str, list[Arrived]] = defaultdict(list)
    for one in arrived:
        groups[key(one)].append(one)
    yield from groups.items()


def _missing_mark(one: Arrived) -> str | None:
    """The first mark that is not there; the plainest are asked for in words of our own, too."""
    implicit = one.transfer_syntax_uid == ImplicitVRLittleEndian
    ds = pydicom.filereader.read_dataset(BytesIO(one.encoded), implicit, is_little_endian=True)
    if ds.get("SyntheticData") != "YES":
        return "SyntheticData"
    if "ImageType" not in ds or ds.ImageType[0] != "DERIVED":
        return "ImageType"
    return missing_mark(ds)


def _check_orphans(report: Report, truth: _Truth) -> None:
    rows = [*truth.instances.values(), *truth.quarantined, *truth.derived.values()]
    named = {row.path for row in rows if row.path}
    for file in sorted(truth.spool.glob("*/**/*")):
        path = str(file.relative_to(truth.spool))
        if file.is_file() and file.suffix != ".lock" and path not in named:
            report.add(Promise.NO_ORPHAN, f"{path}: no row names it")

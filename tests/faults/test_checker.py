"""The checker finds each broken promise, in a real spool and database where all is well until one thing is not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from checker import Answer, Promise, Report, check
from fault_fixtures import MakeGateway
from fault_pacs import Stored
from load import AnswerLog, Modality, SeriesMaker
from pydicom.dataset import Dataset

from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import delivery, delivery_instance, derived, instance, job, quarantine, series


@dataclass
class Well:
    """A gateway that did its work, stopped; what its sender heard and its destination got."""

    settings: Settings
    answers: list[Answer]
    stored: list[Stored]

    def execute(self, *statements: Any) -> None:
        """Change the truth."""
        database = Database(self.settings.database_url)
        with database.write() as connection:
            for statement in statements:
                connection.execute(statement)
        database.close()

    def file_of(self, table: sa.Table) -> Path:
        """The file of the first row of a table."""
        database = Database(self.settings.database_url)
        with database.read() as connection:
            path = connection.execute(sa.select(table.c.path).order_by(table.c.id)).scalars().first()
        database.close()
        assert path is not None
        return self.settings.spool_dir / str(path)

    def put(self, relative: str) -> None:
        """A file in the spool."""
        file = self.settings.spool_dir / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"bytes")

    def check(self, **options: Any) -> Report:
        return check(self.settings, self.answers, {"pacs": self.stored}, **options)


@pytest.fixture(scope="module")
def original(make_gateway: MakeGateway, template: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Well:
    """What a gateway left that received two MR series, one of them twice, and a CT series."""
    gateway = make_gateway("sqlite")
    log = AnswerLog(tmp_path_factory.mktemp("answers") / "answers.jsonl")
    modality = Modality(gateway.port, "SCANNER", log)
    make = SeriesMaker(template, "checker")
    first, second, unmatched = make(3), make(2), make(2, "CT")
    for every in (first, second, unmatched, first):
        modality.send(every)
    gateway.drain(log)
    gateway.stop()
    log.close()
    stored = [Stored(one.sop_instance_uid, one.transfer_syntax_uid, one.encoded, one.status) for one in gateway.pacs]
    return Well(gateway.settings, list(log), stored)


@pytest.fixture
def well(original: Well, tmp_path: Path) -> Well:
    """A copy that a test may spoil."""
    shutil.copytree(original.settings.node.state_dir, tmp_path / "state")
    node = original.settings.node.model_copy(update={"state_dir": tmp_path / "state"})
    settings = original.settings.model_copy(update={"node": node})
    return Well(settings, list(original.answers), list(original.stored))


def test_it_finds_nothing_where_all_is_well_and_says_what_it_compared(well: Well) -> None:
    report = well.check()
    report.require_kept()
    assert (report.acknowledged, report.delivered, report.repeated) == (7, 5, 0)
    assert (dict(report.series), dict(report.jobs)) == ({"ROUTED": 2, "UNMATCHED": 1}, {"SUCCEEDED": 2})
    assert dict(report.deliveries) == {"DELIVERED": 2}


def _one(table: sa.Table) -> Any:
    return table.c.id == sa.select(sa.func.min(table.c.id)).scalar_subquery()


def _first_delivery() -> Any:
    return sa.select(delivery.c.id).where(_one(delivery))


def _digest(file: Path) -> str:
    """SHA-256 of the data set of a Part 10 file."""
    content = file.read_bytes()
    return hashlib.sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _unmarked(stored: Stored) -> Stored:
    # Synthetic Data (0008,001C) says NO
    assert b"\x08\x00\x1c\x00CS\x04\x00YES " in stored.encoded
    return replace(stored, encoded=stored.encoded.replace(b"CS\x04\x00YES ", b"CS\x04\x00NO  ", 1))


def _acknowledge(well: Well, **changes: Any) -> None:
    well.answers.append(replace(well.answers[0], **changes))


def _change_and_record(well: Well) -> None:
    """A file and its row agree, and neither is what was sent."""
    file = well.file_of(instance)
    _flip(file)
    well.execute(sa.update(instance).where(_one(instance)).values(sha256=_digest(file)))


PLANTED: dict[str, tuple[set[Promise], Callable[[Well], Any]]] = {
    "a row is gone": (
        {Promise.STORED, Promise.WHOLE, Promise.NO_ORPHAN},
        lambda well: well.execute(sa.delete(instance).where(_one(instance))),
    ),
    "a file is gone": ({Promise.STORED}, lambda well: well.file_of(instance).unlink()),
    "an acknowledged instance is nowhere": (
        {Promise.STORED}, lambda well: _acknowledge(well, sop_instance_uid="1.2.3"),
    ),
    "other acknowledged bytes are nowhere": ({Promise.STORED}, lambda well: _acknowledge(well, sha256="0" * 64)),
    "bytes acknowledged with a warning are nowhere": (
        {Promise.STORED}, lambda well: _acknowledge(well, sha256="0" * 64, status=0xB000),
    ),
    "a source changed": ({Promise.UNCHANGED, Promise.STORED}, lambda well: _flip(well.file_of(instance))),
    "a source changed, and its row too": ({Promise.UNCHANGED, Promise.STORED}, _change_and_record),
    "a series is still received": (
        {Promise.VISIBLE_END},
        lambda well: well.execute(sa.update(series).where(_one(series)).values(state="RECEIVING")),
    ),
    "a series without a reason": (
        {Promise.VISIBLE_END},
        lambda well: well.execute(sa.update(series).where(series.c.state == "UNMATCHED").values(reason=None)),
    ),
    "a job is still running": (
        {Promise.VISIBLE_END}, lambda well: well.execute(sa.update(job).where(_one(job)).values(state="RUNNING")),
    ),
    "a job that failed without a reason": (
        {Promise.VISIBLE_END}, lambda well: well.execute(sa.update(job).where(_one(job)).values(state="FAILED")),
    ),
    "a delivery waits": (
        {Promise.VISIBLE_END},
        lambda well: well.execute(sa.update(delivery).where(_one(delivery)).values(state="QUEUED", error="later")),
    ),
    "a late instance made no job": (
        {Promise.WHOLE},
        lambda well: well.execute(sa.update(series).where(series.c.state == "ROUTED").values(revision=2)),
    ),
    "a result lacks an instance": (
        {Promise.WHOLE, Promise.KNOWN, Promise.NO_ORPHAN},
        lambda well: well.execute(
            sa.delete(delivery_instance).where(delivery_instance.c.derived_id == 1),
            sa.delete(derived).where(derived.c.id == 1),
        ),
    ),
    "the count of a series is wrong": (
        {Promise.WHOLE}, lambda well: well.execute(sa.update(series).where(_one(series)).values(instances=9)),
    ),
    "the last result is superseded by none": (
        {Promise.WHOLE}, lambda well: well.execute(sa.update(job).where(_one(job)).values(superseded=True)),
    ),
    "a result has no delivery": (
        {Promise.DELIVERED, Promise.KNOWN},
        lambda well: well.execute(
            sa.delete(delivery_instance).where(delivery_instance.c.delivery_id.in_(_first_delivery())),
            sa.delete(delivery).where(_one(delivery)),
        ),
    ),
    "the destination has not got an instance": ({Promise.DELIVERED}, lambda well: well.stored.pop()),
    "the destination refused an instance": (
        {Promise.DELIVERED}, lambda well: well.stored.append(replace(well.stored.pop(), status=0xA700)),
    ),
    "an instance was never accepted": (
        {Promise.DELIVERED}, lambda well: well.execute(sa.update(delivery_instance).values(accepted_at=None)),
    ),
    "the destination got two objects of one UID": (
        {Promise.ONCE},
        lambda well: well.stored.append(replace(well.stored[0], encoded=well.stored[0].encoded + b"\0\0")),
    ),
    "the destination got other bytes than were made": (
        {Promise.ONCE},
        lambda well: well.stored.append(replace(first := well.stored.pop(), encoded=first.encoded[:-1] + b"\x7f")),
    ),
    "the destination got what nobody made": (
        {Promise.KNOWN}, lambda well: well.stored.append(replace(well.stored[0], sop_instance_uid="1.2.3")),
    ),
    "the destination got an unmarked object": (
        {Promise.MARKED, Promise.ONCE}, lambda well: well.stored.append(_unmarked(well.stored.pop())),
    ),
    "a file half written": ({Promise.NO_ORPHAN}, lambda well: well.put("incoming/scp/1.part")),
    "a received file without a row": ({Promise.NO_ORPHAN}, lambda well: well.put("received/aa/bb/1.dcm")),
    "a derived file without a row": ({Promise.NO_ORPHAN}, lambda well: well.put("derived/job/1/sc/1.dcm")),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_it_finds_the_promise_that_was_broken(well: Well, name: str) -> None:
    promises, plant = PLANTED[name]
    plant(well)
    report = well.check()
    assert report.broken() == promises, "\n".join(map(str, report.violations))
    with pytest.raises(AssertionError, match=sorted(promises)[0]):
        report.require_kept()


def test_every_promise_is_broken_by_a_test_of_this_file() -> None:
    assert set().union(*(promises for promises, _ in PLANTED.values())) == set(Promise)


def test_what_was_sent_again_is_counted_and_allowed(well: Well) -> None:
    well.stored.append(well.stored[0])
    report = well.check()
    report.require_kept()
    assert report.repeated == 1


def test_bytes_that_came_second_may_lie_beside_the_first(well: Well) -> None:
    _acknowledge(well, sha256=_beside(well))
    well.check().require_kept()


def _beside(well: Well) -> str:
    """A quarantined copy of a received file, with one byte changed; SHA-256 of its data set."""
    copy = well.settings.spool_dir / "quarantine" / "copy.dcm"
    shutil.copy(well.file_of(instance), copy)
    _flip(copy)
    row = {"at": 0.0, "status": 0, "reason": "other bytes", "calling_ae_title": "", "address": ""}
    well.execute(sa.insert(quarantine).values(path="quarantine/copy.dcm", **row))
    return _digest(copy)


def test_a_delivery_may_wait_for_a_destination_that_is_down_with_a_reason_only(well: Well) -> None:
    well.execute(sa.update(delivery).values(state="QUEUED", error="transport connection: refused"))
    well.check(down={"pacs"}).require_kept()
    well.execute(sa.update(delivery).values(error=None))
    assert well.check(down={"pacs"}).broken() == {Promise.VISIBLE_END}

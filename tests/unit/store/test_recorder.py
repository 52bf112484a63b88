"""The recorder: rows behind the files, in order, in batches; nothing lost while the database is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_rows import CALLER, header, receive_file

from gateway.domain.completeness import AssociationState
from gateway.store import tables
from gateway.store.database import Database
from gateway.store.intake import Arrived, Caller, OnConflict, StoredFile
from gateway.store.recorder import Ended, Recorder, Refused
from gateway.store.spool import Spool

Start = Callable[..., Recorder]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "scp-0")


@contextmanager
def recording(database: Database, spool: Spool, on_conflict: OnConflict = "keep-first") -> Iterator[Recorder]:
    with Recorder(database, spool, judge_after_s=0.0, on_conflict=on_conflict) as recorder:
        yield recorder


def arrive(spool: Spool, number: int, content: bytes = b"", caller: Caller = CALLER, series: str = "2.25.7") -> Arrived:
    """An instance whose file is in the spool."""
    one = header(number, series)
    file = receive_file(spool, series, one.sop_instance_uid, content or b"%d" % number)
    pending = next((path for path in spool.pending(spool.process) if path.samefile(spool.path(file.path))), None)
    return Arrived(one, file, caller, pending)


def arrive_unseen(spool: Spool, number: int) -> Arrived:
    """As `arrive`, while a recorder removes second names."""
    one = header(number, "2.25.7")
    return Arrived(one, receive_file(spool, "2.25.7", one.sop_instance_uid, b"%d" % number), CALLER)


def counted(database: Database, table: sa.Table) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def commits(database: Database) -> Iterator[list[int]]:
    """Counts transactions that were committed."""
    seen: list[int] = []
    sa.event.listen(database.engine, "commit", lambda _: seen.append(1))
    yield seen


def test_what_comes_at_once_is_one_transaction_and_its_second_names_go(database: Database, spool: Spool) -> None:
    arrived = [arrive(spool, number) for number in range(1, 41)]
    assert len(list(spool.pending("scp-0"))) == 40
    seen = next(commits(database))
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        for one in arrived:
            recorder.put(one)
        recorder.put(Ended(CALLER.association_id, AssociationState.RELEASED))
        assert recorder.flush(10)
    assert len(seen) <= 3
    assert counted(database, tables.instance) == 40
    assert not list(spool.pending("scp-0"))
    with database.read() as connection:
        series = connection.execute(sa.select(tables.series)).one()
        assert (series.instances, series.revision) == (40, 1)
        association = connection.execute(sa.select(tables.association)).one()
        assert (association.end, association.process) == ("released", "scp-0")


def test_the_end_of_an_association_is_never_recorded_before_what_it_carried(database: Database, spool: Spool) -> None:
    ended: list[int] = []

    def look(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
        if statement.startswith("UPDATE association"):
            ended.append(connection.execute(sa.select(sa.func.count()).select_from(tables.instance)).scalar_one())

    sa.event.listen(database.engine, "before_cursor_execute", look)
    callers = [Caller(str(uuid.uuid4()), f"SENDER{n}", "ATHANOR", "127.0.0.1") for n in range(5)]
    arrived = [arrive(spool, number, caller=caller) for number, caller in enumerate(callers, 1)]
    with recording(database, spool) as recorder:
        for one, caller in zip(arrived, callers, strict=True):
            recorder.put(caller)
            recorder.put(one)
            recorder.put(Ended(caller.association_id, AssociationState.RELEASED))
    assert len(ended) == 5
    assert all(before >= number for number, before in enumerate(ended, 1)), "each after its instance"


def without_digest(arrived: Arrived) -> Arrived:
    """As the receive stage hands it over."""
    data_set_bytes = arrived.file.size_bytes - len(b"DICM")
    return replace(arrived, file=replace(arrived.file, sha256=""), data_set_bytes=data_set_bytes)


def digests(database: Database) -> dict[str, str]:
    """What the rows say, by path."""
    with database.read() as connection:
        rows = connection.execute(sa.select(tables.instance.c.path, tables.instance.c.sha256)).all()
    return {row.path: row.sha256 for row in rows}


def test_a_digest_follows_its_row_when_nothing_arrives_and_then_the_second_name_goes(
    database: Database, spool: Spool
) -> None:
    arrived = [arrive(spool, number, b"%d" % number * 9) for number in range(1, 60)]
    left: list[int] = []

    def look(connection: sa.Connection, _: object, statement: str, *__: object) -> None:
        if statement.startswith("UPDATE instance"):
            left.append(len(list(spool.pending("scp-0"))))

    sa.event.listen(database.engine, "before_cursor_execute", look)
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        for one in arrived:
            recorder.put(without_digest(one))
        assert recorder.flush(10)
        assert digests(database) == {one.file.path: one.file.sha256 for one in arrived}
        assert not list(spool.pending("scp-0"))
    assert len(left) > 1, "a few at a time, so that no row waits long"
    assert left[0] == 59, "every name is there as long as its digest is not"


def test_digests_do_not_wait_for_ever_when_something_always_arrives(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.recorder._MOST_UNSEALED", 5)
    monkeypatch.setattr("gateway.store.recorder._IDLE_S", 60.0)
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        for number in range(1, 5000):  # never a pause, until it is seen
            recorder.put(without_digest(arrive_unseen(spool, number)))
            time.sleep(0.002)
            if number % 50 == 0 and sum(map(bool, digests(database).values())) > 20:
                return
    raise AssertionError("no digest was written")


def test_a_file_that_the_disk_does_not_give_back_is_reported(database: Database, spool: Spool) -> None:
    gone = arrive(spool, 1)
    with recording(database, spool) as recorder:
        spool.path(gone.file.path).unlink()
        recorder.put(CALLER)
        recorder.put(without_digest(gone))
        assert recorder.flush(10)
    with database.read() as connection:
        reason = connection.execute(sa.select(tables.quarantine.c.reason)).scalar_one()
    assert "No such file" in reason
    assert "check the disk" in reason
    assert not list(spool.pending("scp-0"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_while_the_database_is_away_rows_wait_and_come_when_it_is_back(database: Database, spool: Spool) -> None:
    file = Path(str(database.url.database))
    database.close()
    aside = file.with_name("aside")
    file.rename(aside)
    file.mkdir()  # no database can be opened here
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        recorder.put(arrive(spool, 1))
        assert not recorder.flush(0.5)
        assert len(list(spool.pending("scp-0"))) == 1, "its second name is what a restart would find"
        file.rmdir()
        aside.rename(file)
        assert recorder.flush(10)
    assert counted(database, tables.instance) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_when_too_much_waits_it_says_so(database: Database, spool: Spool) -> None:
    recorder = Recorder(database, spool, judge_after_s=0.0, most_waiting=3)
    recorder.put(CALLER)
    recorder.put(arrive(spool, 1))
    assert not recorder.is_full
    recorder.put(arrive(spool, 2))
    assert recorder.is_full
    with recorder:
        assert recorder.flush(10)
        assert not recorder.is_full


def test_one_row_that_the_database_refuses_does_not_take_the_others_with_it(database: Database, spool: Spool) -> None:
    good, bad = arrive(spool, 1), arrive(spool, 2)
    nobody = Caller("00000000-0000-4000-8000-000000000000", "GHOST", "ATHANOR", "127.0.0.1")
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        recorder.put(good)
        recorder.put(Arrived(bad.header, bad.file, nobody, bad.pending))  # an association that never opened
        recorder.put(arrive(spool, 3))
        assert recorder.flush(10)
    assert counted(database, tables.instance) == 2
    with database.read() as connection:
        row = connection.execute(sa.select(tables.quarantine)).one()
    assert row.path == bad.file.path
    assert "left where it is" in row.reason
    assert spool.path(bad.file.path).exists()


def test_the_same_bytes_again_are_vouched_for_by_the_later_association(database: Database, spool: Spool) -> None:
    later = Caller(str(uuid.uuid4()), "SCANNER", "ATHANOR", "127.0.0.1")
    with recording(database, spool) as recorder:
        recorder.put(CALLER)
        recorder.put(arrive(spool, 1))
        recorder.put(later)
        recorder.put(arrive(spool, 1, caller=later))
    with database.read() as connection:
        assert connection.execute(sa.select(tables.instance.c.association_id)).scalar_one() == later.association_id
    assert counted(database, tables.quarantine) == 0


@pytest.mark.parametrize(("policy", "used", "revision"), [("keep-first", b"first", 1), ("newest", b"third", 3)])
def test_other_bytes_under_a_known_uid(
    database: Database, spool: Spool, policy: OnConflict, used: bytes, revision: int
) -> None:
    with recording(database, spool, policy) as recorder:
        recorder.put(CALLER)
        for content in (b"first", b"other", b"third"):
            recorder.put(arrive(spool, 1, content))
    with database.read() as connection:
        row = connection.execute(sa.select(tables.instance)).one()
        series = connection.execute(sa.select(tables.series)).one()
        flagged = connection.execute(sa.select(tables.quarantine.c.path)).scalars().all()
    assert spool.path(row.path).read_bytes() == b"DICM" + used
    assert (series.instances, series.revision) == (1, revision)
    kept = {spool.path(path).read_bytes() for path in flagged}
    assert kept == {b"DICMfirst", b"DICMother", b"DICMthird"} - {b"DICM" + used}, "the others are kept and listed"
    assert not list(spool.pending("scp-0"))


def test_other_bytes_in_another_series_never_take_an_instance_out_of_its_own(database: Database, spool: Spool) -> None:
    one = header(1)
    with recording(database, spool, "newest") as recorder:
        recorder.put(CALLER)
        recorder.put(arrive(spool, 1))
        stolen = header(1, "2.25.8", sop_instance_uid=one.sop_instance_uid)
        file = receive_file(spool, "2.25.8", one.sop_instance_uid, b"other")
        recorder.put(Arrived(stolen, file, CALLER))
    assert counted(database, tables.series) == 1
    with database.read() as connection:
        assert connection.execute(sa.select(tables.quarantine.c.path)).scalar_one() == file.path


def test_a_refusal_is_recorded(database: Database, spool: Spool) -> None:
    with recording(database, spool) as recorder:
        recorder.put(Refused(CALLER, 0xC000, "found noise; expected a data set", None))
    with database.read() as connection:
        assert connection.execute(sa.select(tables.quarantine.c.status)).scalar_one() == 0xC000


def test_a_late_instance_in_a_batch_reopens_its_series(
    database: Database, spool: Spool, receive: Callable[..., object], close: Callable[[], tuple[int, int]]
) -> None:
    receive(1, 2)
    close()
    late = [Arrived(header(n), StoredFile(f"received/late{n}.dcm", 1, "s"), CALLER) for n in (3, 4)]
    with recording(database, spool) as recorder:
        for one in late:
            recorder.put(one)
    with database.read() as connection:
        series = connection.execute(sa.select(tables.series)).one()
        assert (series.state, series.revision, series.instances) == ("RECEIVING", 2, 4)

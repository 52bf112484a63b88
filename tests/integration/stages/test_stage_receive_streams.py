"""Instances that arrive in pieces: senders that leave in the middle, full disks, other bytes under known UIDs."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from network_steps import StorePeer
from raw_store import encoded, store
from small_series import instance_uids
from stage_line import Line, Series, Start, on_sqlite

from gateway.network.scp import ScpConfig, StorageScp
from gateway.stages.receive import Receive
from gateway.store import tables
from gateway.store.intake import Caller
from gateway.store.recorder import Recorder
from gateway.store.spool import Spool


class NarrowSpool(Spool):
    """A spool on a disk with room for `room_bytes` more than its reserve."""

    room_bytes = 0

    def free_bytes(self) -> int:
        used = sum(file.stat().st_size for file in (self.folder / "incoming").rglob("*.part"))
        return self.reserve_bytes + self.room_bytes - used


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


@on_sqlite
def test_a_sender_that_leaves_in_the_middle_leaves_nothing(line: Line, series: Series) -> None:
    (path,) = series(1)
    (uid,) = instance_uids([path])
    peer = StorePeer(line.scp.port)
    peer.begin(uid)
    peer.send_piece(encoded(path)[:5000])
    peer.leave()
    line.settle()
    assert not files_below(line.spool.folder)
    assert line.count(tables.instance) == 0
    with line.database.read() as connection:
        assert connection.execute(sa.select(tables.association.c.end)).scalar_one() == "aborted"


@on_sqlite
def test_a_disk_that_fills_up_in_the_middle_refuses_this_one_and_takes_the_next(start: Start, series: Series) -> None:
    line = start()
    spool = NarrowSpool(line.spool.folder, "narrow", reserve_bytes=1000)
    large, small = (encoded(path) for path in (series(1)[0], series(1)[0]))
    spool.room_bytes = len(small) + 2000
    uids = [uid for seed in (1, 2) for uid in instance_uids([path_of(line, seed)])]
    with Recorder(line.database, spool, judge_after_s=0.0) as recorder:
        scp = StorageScp(ScpConfig(ae_title="ATHANOR", port=0), Receive(spool, recorder))
        with scp:
            peer = StorePeer(scp.port)
            peer.begin(uids[0])
            for _ in range(30):
                peer.send_piece(large[:4000])
            assert peer.end(large[:4000]) == 0xA700
            peer.begin(uids[1])
            assert peer.end(small) == 0x0000, "the association goes on, and the next one has room"
            peer.release()
    assert line.count(tables.instance) == 1
    assert len(files_below(spool.folder)) == 1


def path_of(line: Line, seed: int) -> Path:
    """The only file of the series that `series` wrote as its `seed`th."""
    (path,) = (line.spool.folder.parents[1] / f"series-{seed}").glob("*.dcm")
    return path


@on_sqlite
def test_a_receiver_whose_queue_is_full_refuses_for_now_and_keeps_nothing(line: Line, series: Series) -> None:
    (path,) = series(1)
    recorder = Recorder(line.database, line.spool, judge_after_s=0.0, most_waiting=3)  # and nothing writes yet
    for number in range(3):
        recorder.put(Caller(str(uuid.uuid4()), f"SENDER{number}", "ATHANOR", "127.0.0.1"))
    scp = StorageScp(ScpConfig(ae_title="ATHANOR", port=0), Receive(line.spool, recorder))
    with scp:
        status, comment = store(scp.port, encoded(path), *instance_uids([path]))
        assert status == 0xA700
        assert "database" in comment
        assert not files_below(line.spool.folder)
        with recorder:
            assert recorder.flush(10)
            assert store(scp.port, encoded(path), *instance_uids([path]))[0] == 0x0000


@pytest.mark.parametrize(("policy", "status"), [("keep-first", 0x0000), ("newest", 0x0000), ("refuse", 0x0111)])
def test_other_bytes_under_a_known_uid_are_answered_as_the_setting_says(
    line: Line, series: Series, policy: str, status: int
) -> None:
    (path,) = series(1)
    (uid,) = instance_uids([path])
    first, other = encoded(path), encoded(path, ImageComments="edited afterwards")
    with Recorder(line.database, line.spool, judge_after_s=0.0, on_conflict=policy) as recorder:  # type: ignore[arg-type]
        receive = Receive(line.spool, recorder, policy)  # type: ignore[arg-type]
        with StorageScp(ScpConfig(ae_title="ATHANOR", port=0), receive) as scp:
            assert store(scp.port, first, uid)[0] == 0x0000
            assert store(scp.port, other, uid)[0] == status
            assert store(scp.port, first if policy != "newest" else other, uid)[0] == 0x0000
    (row,) = rows_of(line, tables.instance)
    used = line.spool.path(row.path).read_bytes()
    assert used.endswith(other if policy == "newest" else first)
    (flagged,) = rows_of(line, tables.quarantine)
    assert line.spool.path(flagged.path).read_bytes().endswith(first if policy == "newest" else other)
    assert flagged.status == status
    assert not list(line.spool.pending("scp"))


def rows_of(line: Line, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with line.database.read() as connection:
        return list(connection.execute(sa.select(table)))


@on_sqlite
def test_four_senders_of_one_series_at_once_with_tiny_pieces(line: Line, series: Series) -> None:
    paths = series(8)
    answers: list[int] = []

    def send(part: list[Path]) -> None:
        peer = StorePeer(line.scp.port)
        for path in part:
            peer.begin(*instance_uids([path]))
            content = encoded(path)
            for start in range(0, 3000, 7):  # values of seven bytes: hundreds in one buffer
                peer.send_piece(content[start : min(start + 7, 3000)])
            answers.append(peer.end(content[3000:]))
        peer.release()

    threads = [threading.Thread(target=send, args=(paths[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0x0000] * 8
    line.settle()
    assert line.detail()["instances"] == 8
    for path, uid in zip(paths, instance_uids(paths), strict=True):
        row = next(row for row in rows_of(line, tables.instance) if row.sop_instance_uid == uid)
        assert encoded(line.spool.path(row.path)) == encoded(path)

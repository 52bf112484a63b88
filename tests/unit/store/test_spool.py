"""The spool: names never from the wire, nothing overwritten, the reserve kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_rows import receive_file

from gateway.errors import OutOfResources
from gateway.store.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "scp")


def test_bytes_are_kept_as_they_came(spool: Spool) -> None:
    kept = receive_file(spool, "1.2.3", "1.2.3.4", b"da", memoryview(b"ta set"))
    assert spool.path(kept.path).read_bytes() == b"DICMdata set"
    assert kept.size_bytes == 12
    assert list(spool.received_files()) == [spool.path(kept.path)]


@pytest.mark.parametrize("uid", ["../../escape", "/etc/passwd", "a\0b", "", "1" * 5000, "~root", "con\\aux"])
def test_a_hostile_uid_names_a_harmless_file(spool: Spool, tmp_path: Path, uid: str) -> None:
    kept = receive_file(spool, uid, uid, b"x")
    file = spool.path(kept.path)
    assert file.resolve().is_relative_to((tmp_path / "spool" / "received").resolve())
    assert file.read_bytes() == b"DICMx"


def test_other_bytes_under_the_same_uid_lie_beside_the_first(spool: Spool) -> None:
    first = receive_file(spool, "1.2", "1.2.3", b"first")
    again = receive_file(spool, "1.2", "1.2.3", b"fir", b"st")
    other = receive_file(spool, "1.2", "1.2.3", b"other")
    other_again = receive_file(spool, "1.2", "1.2.3", b"other")
    assert again == first
    assert other_again == other
    assert other.path != first.path
    assert spool.path(first.path).read_bytes() == b"DICMfirst"
    assert spool.path(other.path).read_bytes() == b"DICMother"
    held = {file.stat().st_ino for file in spool.pending("scp")}
    assert len(held) == 2, "every second name, also of what came again, is of one of the two files"


def test_a_file_has_a_second_name_until_its_row_is_committed(spool: Spool, tmp_path: Path) -> None:
    kept = receive_file(spool, "1.2", "1.2.3", b"x")
    half = tmp_path / "spool" / "incoming" / "scp" / "dead.part"
    half.write_bytes(b"half")
    (pending,) = spool.pending("scp")
    assert spool.place_of(pending, "1.2", "1.2.3") == spool.path(kept.path)
    assert not half.exists(), "what was half written was never acknowledged"
    spool.settle(pending)
    assert not list(spool.pending("scp"))
    assert spool.path(kept.path).exists()


def test_what_a_living_process_has_is_nobody_elses_to_adopt(tmp_path: Path) -> None:
    one, other = Spool(tmp_path, "scp-0"), Spool(tmp_path, "scp-1")
    with one.owned(), other.owned(), one.left_by_the_dead() as names:
        assert names == []
    with one.owned(), one.left_by_the_dead() as names:
        assert names == ["scp-1"]


def test_what_is_refused_is_kept_as_it_came(spool: Spool) -> None:
    arriving = spool.receive(b"DICM")
    arriving.write(b"no data set")
    kept = spool.quarantine(arriving)
    assert kept is not None
    assert spool.path(kept).read_bytes() == b"DICMno data set"
    assert not list(spool.pending("scp"))


def test_what_is_discarded_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    arriving = spool.receive(b"DICM")
    arriving.write(b"x" * 10_000)
    arriving.discard()
    assert not [file for file in (tmp_path / "spool").rglob("*") if file.is_file()]


def test_the_reserve_is_refused_by_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "scp", reserve_bytes=10**18)
    with pytest.raises(OutOfResources, match=r"expected 5 above the reserve of 1000000000000000000"):
        spool.require_room(5)
    with pytest.raises(OutOfResources):
        spool.receive(b"DICM")


def test_dead_attempts_of_a_job_are_removed(spool: Spool) -> None:
    first = spool.keep_derived("job", 1, "p", iter([("1.2", b"a")]))
    second = spool.keep_derived("job", 2, "p", iter([("1.2", b"a")]))
    spool.remove_earlier_attempts("job", 2)
    assert not spool.path(first[0].path).exists()
    assert spool.path(second[0].path).read_bytes() == b"a"

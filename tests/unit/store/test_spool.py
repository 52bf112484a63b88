"""The spool: names never from the wire, nothing overwritten, the reserve kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import OutOfResources
from gateway.store.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", "scp")


def test_bytes_are_kept_as_they_came(spool: Spool) -> None:
    kept = spool.keep_received("1.2.3", "1.2.3.4", (b"DICM", b"data set"))
    assert spool.path(kept.path).read_bytes() == b"DICMdata set"
    assert kept.size_bytes == 12
    assert list(spool.received_files()) == [spool.path(kept.path)]


@pytest.mark.parametrize("uid", ["../../escape", "/etc/passwd", "a\0b", "", "1" * 5000, "~root", "con\\aux"])
def test_a_hostile_uid_names_a_harmless_file(spool: Spool, tmp_path: Path, uid: str) -> None:
    kept = spool.keep_received(uid, uid, (b"x",))
    file = spool.path(kept.path)
    assert file.resolve().is_relative_to((tmp_path / "spool" / "received").resolve())
    assert file.read_bytes() == b"x"


def test_other_bytes_under_the_same_uid_lie_beside_the_first(spool: Spool) -> None:
    first = spool.keep_received("1.2", "1.2.3", (b"first",))
    again = spool.keep_received("1.2", "1.2.3", (b"first",))
    other = spool.keep_received("1.2", "1.2.3", (b"other",))
    assert again == first
    assert other.path != first.path
    assert spool.path(first.path).read_bytes() == b"first"
    assert spool.path(other.path).read_bytes() == b"other"


def test_nothing_half_written_is_left(spool: Spool, tmp_path: Path) -> None:
    spool.keep_received("1.2", "1.2.3", (b"x",))
    assert not [file for file in (tmp_path / "spool" / "incoming").rglob("*") if file.is_file()]
    (tmp_path / "spool" / "incoming" / "scp" / "dead.part").write_bytes(b"half")
    assert spool.clear_incoming() == 1


def test_the_reserve_is_refused_by_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "scp", reserve_bytes=10**18)
    with pytest.raises(OutOfResources, match=r"expected 5 above the reserve of 1000000000000000000"):
        spool.require_room(5)
    assert spool.keep_quarantined((b"copy",)) is None, "no room for a copy either"


def test_dead_attempts_of_a_job_are_removed(spool: Spool) -> None:
    first = spool.keep_derived("job", 1, "p", iter([("1.2", b"a")]))
    second = spool.keep_derived("job", 2, "p", iter([("1.2", b"a")]))
    spool.remove_other_attempts("job", 2)
    assert not spool.path(first[0].path).exists()
    assert spool.path(second[0].path).read_bytes() == b"a"

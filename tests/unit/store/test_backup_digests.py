"""A backup of a moment in which not all is done."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa
from store_rows import CALLER, header

from gateway.store import backup, intake
from gateway.store.database import Database
from gateway.store.intake import Arrived, StoredFile
from gateway.store.spool import Spool, sync_folder
from gateway.store.tables import instance

# PS3.10 7.1: the preamble, the prefix, and a group length of 0
PREFIX = bytes(128) + b"DICM" + bytes(12)


def test_what_was_saved_before_its_digest_was_made_has_one_after_a_restore(tmp_path: Path) -> None:
    spool, database = Spool(tmp_path / "spool", "scp-0"), Database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    database.upgrade()
    arrived = []
    for number in (1, 2):
        one = header(number)
        arriving = spool.receive(PREFIX)
        arriving.write(b"data set %d" % number)
        arriving.sync()
        place = spool.link_received(arriving, one.series_instance_uid, one.sop_instance_uid)
        sync_folder(place.folder)
        arriving.close()
        arrived.append(Arrived(one, StoredFile(spool.relative(place.path), arriving.size_bytes, ""), CALLER))
    sealed = hashlib.sha256(b"data set 2").hexdigest()
    arrived[1] = replace(arrived[1], file=replace(arrived[1].file, sha256=sealed))
    with database.write() as connection:
        intake.open_associations(connection, [CALLER], "scp-0")
        intake.record_instances(connection, arrived, judge_after_s=1.0, on_conflict="keep-first")
    backup.save(database, spool.folder, None, tmp_path / "copy", "0", with_spool=True)
    database.close()

    restored = Database(f"sqlite:///{tmp_path / 'b.sqlite'}")
    found = backup.restore(restored, tmp_path / "other", tmp_path / "copy")
    assert (found.files, found.missing) == (2, ())
    with restored.read() as connection:
        rows = connection.execute(sa.select(instance.c.sha256).order_by(instance.c.instance_number)).scalars().all()
    restored.close()
    assert rows == [hashlib.sha256(b"data set 1").hexdigest(), sealed]

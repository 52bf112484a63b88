"""The deliver stage against destinations that are down, abort, refuse, take one syntax only, or lose what they had."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from fault_pacs import ABORT, FaultPacs
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from raw_peer import RawPeer, rejecting
from stage_line import Line, MakePacs, Series, Start, destination, on_sqlite

from gateway.stages.sweep import sweep
from gateway.store import outbox, tables

pytestmark = on_sqlite

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


def made(line: Line, paths: list[Path]) -> list[dict[str, Any]]:
    """Take a series to the deliveries of its result."""
    assert line.send(paths).is_delivered
    line.assemble()
    line.route()
    line.process()
    (job,) = line.detail()["jobs"]
    assert job["state"] == "SUCCEEDED", job["error"]
    return list(job["deliveries"])


def own_files(line: Line) -> dict[str, Path]:
    """The derived files by SOP Instance UID."""
    with line.database.read() as connection:
        rows = connection.execute(sa.select(tables.derived.c.sop_instance_uid, tables.derived.c.path)).all()
    return {row.sop_instance_uid: line.spool.path(row.path) for row in rows}


def decoded(pacs: FaultPacs) -> dict[str, np.ndarray[Any, Any]]:
    """The pixels that a destination got, by the SOP Instance UID of the source."""
    from io import BytesIO

    from pydicom.filereader import read_dataset

    found = {}
    for item in pacs.stored:
        implicit = item.transfer_syntax_uid == ImplicitVRLittleEndian
        ds = read_dataset(BytesIO(item.encoded), implicit, is_little_endian=True)
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(item.transfer_syntax_uid)
        found[str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID)] = ds.pixel_array
    return found


def test_a_destination_that_is_down_is_tried_later_and_later_and_gets_everything_once(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs(up=False)
    line = start(pacs=destination(pacs.port))
    made(line, series(3))
    waits = []
    for attempt in (1, 2, 3):
        while line.delivery()["attempt"] < attempt:
            line.deliver()
        row = line.delivery()
        assert row["state"] == "QUEUED"
        assert "3 of 3 instances not accepted: not sent: transport connection: " in row["error"]
        assert "connection refused" in row["error"]
        waits.append(row["not_before"] - line.database.now_s())
    assert waits[0] < waits[1] < waits[2] <= 0.2
    pacs.start()
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"
    assert line.delivery()["error"] is None
    assert sorted(pacs.accepted()) == sorted(own_files(line))


def test_only_what_an_aborted_association_left_is_sent_again(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs(answer=lambda number: ABORT if number == 2 else SUCCESS)
    line = start(pacs=destination(pacs.port))
    made(line, series(5))
    line.deliver()
    row = line.delivery()
    assert (row["state"], row["accepted"]) == ("QUEUED", 2)
    assert "3 of 5 instances not accepted: no answer, so whether it was stored is unknown" in row["error"]
    first, second, lost = (item.sop_instance_uid for item in pacs.stored)
    line.deliver_until_ended()
    assert (line.delivery()["state"], line.delivery()["attempt"]) == ("DELIVERED", 2)
    assert [item.sop_instance_uid for item in pacs.stored].count(lost) == 2
    assert sorted(pacs.accepted()) == sorted(own_files(line))
    assert not {first, second} & {item.sop_instance_uid for item in pacs.stored[3:]}


def test_a_full_destination_gets_the_rest_when_it_has_room(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs(answer=lambda number: SUCCESS if number in (0, 1) or number > 6 else OUT_OF_RESOURCES)
    line = start(pacs=destination(pacs.port))
    made(line, series(4))
    line.deliver()
    row = line.delivery()
    assert (row["state"], row["accepted"]) == ("QUEUED", 2)
    assert "Refused: out of resources (0xA700)" in row["error"]
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"
    assert sorted(pacs.accepted()) == sorted(own_files(line))


def test_an_instance_that_will_never_be_taken_fails_the_delivery_and_is_not_tried_for_ever(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs(answer=lambda number: CANNOT_UNDERSTAND if number == 1 else SUCCESS)
    line = start(pacs=destination(pacs.port))
    made(line, series(3))
    line.deliver()
    row = line.delivery()
    assert (row["state"], row["accepted"], row["attempt"]) == ("FAILED", 2, 1)
    assert row["error"] == "1 of 3 instances not accepted: Failure: cannot understand (0xC000)"
    assert line.announced(outbox.DELIVER) == []
    pacs.clear()
    line.send_again(row["id"])
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"
    assert len(pacs.stored) == 1, "what was accepted is not sent again"


def test_a_warning_is_an_acceptance(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs(answer=lambda _: 0xB000)
    line = start(pacs=destination(pacs.port))
    made(line, series(2))
    line.deliver()
    assert line.delivery()["state"] == "DELIVERED"


def test_each_destination_gets_its_own_syntax_and_the_same_pixels(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    wanted = {
        "explicit": ExplicitVRLittleEndian,
        "jpeg2000": JPEG2000Lossless,
        "rle": RLELossless,
        "implicit": ImplicitVRLittleEndian,
    }
    peers = {name: make_pacs(transfer_syntaxes=(syntax,)) for name, syntax in wanted.items()}
    # the last one asks for what it gets from everybody, and takes nothing but Implicit VR
    settings = {name: str(syntax) for name, syntax in wanted.items()} | {"implicit": str(JPEG2000Lossless)}
    line = start(**{name: destination(peers[name].port, transfer_syntax=settings[name]) for name in wanted})
    made(line, series(3))
    line.deliver_until_ended()
    pixels = {name: decoded(pacs) for name, pacs in peers.items()}
    for name, pacs in peers.items():
        assert {item.transfer_syntax_uid for item in pacs.stored} == {wanted[name]}
        assert pixels[name].keys() == pixels["explicit"].keys()
        assert all(np.array_equal(pixels[name][uid], pixels["explicit"][uid]) for uid in pixels["explicit"])
    assert len(pixels["explicit"]) == 3


def test_resend_of_the_whole_result_sends_the_same_bytes(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    (row,) = made(line, series(3))
    line.deliver_until_ended()
    first = list(pacs.stored)
    line.send_again(row["id"], whole=True)
    line.deliver_until_ended()
    assert pacs.stored[3:] == first
    assert line.delivery()["state"] == "DELIVERED"
    line.send_again(row["id"])
    line.deliver_until_ended()
    assert len(pacs.stored) == 6, "without --whole there is nothing to send"


def test_a_delivery_that_was_given_up_and_asked_for_again_has_its_time_again(
    start: Start, series: Series, make_pacs: MakePacs
) -> None:
    pacs = make_pacs(up=False)
    line = start(pacs=destination(pacs.port))
    (row,) = made(line, series(2))
    with line.database.write() as connection:
        long_ago = {"created_at": row["created_at"] - 1e6, "give_up_at": row["give_up_at"] - 1e6}
        connection.execute(sa.update(tables.delivery).values(**long_ago))
    line.deliver()
    assert line.delivery()["state"] == "FAILED", "its three days are over"
    line.send_again(row["id"])
    line.deliver()
    assert line.delivery()["state"] == "QUEUED", "an administrator's wish begins them again"
    pacs.start()
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"


def test_a_destination_that_the_settings_lost_is_named(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    (row,) = made(line, series(2))
    line.with_destinations().deliver()
    assert line.delivery()["state"] == "FAILED"
    assert line.delivery()["error"].startswith("destination pacs: found none of that name in the settings")
    line.send_again(row["id"])
    line.deliver_until_ended()
    assert len(pacs.accepted()) == 2


def _unmark(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.SyntheticData = "NO"
    ds.save_as(path)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_unmark, _truncate, _flip, Path.unlink])
def test_a_file_that_is_no_longer_what_was_made_is_never_sent(
    start: Start, series: Series, make_pacs: MakePacs, damage: Any
) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    made(line, series(2))
    damaged = min(own_files(line).values())
    damage(damaged)
    line.deliver()
    row = line.delivery()
    assert row["state"] == "FAILED"
    assert row["error"].startswith("not sent: ")
    assert damaged.name in row["error"]
    assert pacs.stored == []


def test_what_breaks_an_attempt_is_shown_and_tried_again(start: Start, series: Series, make_pacs: MakePacs) -> None:
    """Whatever it is: the delivery does not stay SENDING until its lease ends, and not for ever."""
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port))
    (row,) = made(line, series(2))
    line.deliver_one(row["id"], calling_ae_title="no AE title has more than 16 characters")
    row = line.delivery()
    assert row["state"] == "QUEUED"
    assert row["error"].startswith("ConfigurationError: AE title 'no AE title")
    line.deliver_until_ended()
    assert line.delivery()["state"] == "DELIVERED"


def test_a_transfer_that_is_slow_by_wish_keeps_its_lease(start: Start, series: Series, make_pacs: MakePacs) -> None:
    pacs = make_pacs()
    line = start(pacs=destination(pacs.port, bandwidth_bytes_per_s=40_000))
    made(line, series(3))
    short = line.settings.deliver.model_copy(update={"lease_s": 1.2})
    line = replace(line, settings=line.settings.model_copy(update={"deliver": short}))
    sender = threading.Thread(target=line.deliver)
    began = time.monotonic()
    sender.start()
    while sender.is_alive():
        sweep(line.database, lambda _: 1)
        sender.join(0.1)
    assert (line.delivery()["state"], line.delivery()["attempt"]) == ("DELIVERED", 1)
    sent = sum(len(item.encoded) for item in pacs.stored)
    # the first half second's worth goes at once
    assert time.monotonic() - began > (sent / 40_000 - 0.6), "the bandwidth is kept"
    assert sent > 100_000, "it took longer than the lease"


def test_a_destination_that_rejects_for_good_is_tried_until_the_time_is_over(start: Start, series: Series) -> None:
    with RawPeer(rejecting(1, 1, 7)) as peer:
        line = start(pacs=destination(peer.port))
        made(line, series(2))
        line.deliver()
        row = line.delivery()
        assert row["state"] == "QUEUED"
        assert "rejected permanently by its application: called AE title not recognised" in row["error"]
        assert row["waits_for"].startswith("takes nothing since ")
        with line.database.write() as connection:
            connection.execute(sa.update(tables.delivery).values(give_up_at=0.0))
        line.deliver_until_ended()
    assert line.delivery()["state"] == "FAILED"
    assert "called AE title not recognised" in line.delivery()["error"]


def test_digests_of_derived_files_are_those_of_the_files(line: Line, series: Series) -> None:
    made(line, series(2))
    with line.database.read() as connection:
        rows = connection.execute(sa.select(tables.derived.c.path, tables.derived.c.sha256)).all()
    assert {line.spool.path(row.path): row.sha256 for row in rows} == {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in own_files(line).values()
    }

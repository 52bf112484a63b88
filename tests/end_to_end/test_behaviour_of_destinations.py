"""Destinations as they really are: down, full, rude, silent, and each with a taste of its own."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from behaviour import Node, WriteSeries
from fault_pacs import FaultPacs
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from small_series import instance_uids, series_uid


def test_a_destination_that_is_down_gets_everything_once_when_it_is_back(node: Node, series: WriteSeries) -> None:
    pacs = node.fault
    pacs.stop()
    paths = series(4, "FAULT")
    uid = series_uid(paths)
    node.send(paths)
    seen: dict[int, dict[str, Any]] = {}

    def tried_thrice() -> bool:
        row = node.delivery(uid)
        if row["state"] == "QUEUED" and row["attempt"]:
            seen[row["attempt"]] = row
        return len(seen) >= 3

    node.wait_for("three attempts", tried_thrice)
    assert all("transport connection: " in row["error"] for row in seen.values())
    assert all("connection refused" in row["error"] for row in seen.values())
    waits = [event.detail["retry_in_s"] for event in node.timeline(uid) if event.what == "will try again"]
    assert all(whole / 2 <= wait <= whole for wait, whole in zip(waits, (0.2, 0.4, 0.8), strict=False)), waits
    assert [line for line in node.status()["destinations"] if line["destination"] == "fault"]
    pacs.start()
    (job,) = node.finished(uid)["jobs"]
    assert [(row["state"], row["accepted"], row["error"]) for row in job["deliveries"]] == [("DELIVERED", 4, None)]
    assert len(pacs.accepted()) == len(set(pacs.accepted())) == 4


def test_a_full_destination_is_tried_again_and_one_that_does_not_understand_is_not(
    node: Node, series: WriteSeries
) -> None:
    pacs = node.fault
    pacs.answer = lambda number: 0xA700 if number < 4 else 0x0000
    paths = series(3, "FAULT")
    node.send(paths)
    (job,) = node.finished(series_uid(paths))["jobs"]
    assert [(row["state"], row["accepted"]) for row in job["deliveries"]] == [("DELIVERED", 3)]
    reasons = [event.detail["reason"] for event in node.timeline(series_uid(paths)) if event.what == "will try again"]
    assert all("Refused: out of resources (0xA700)" in reason for reason in reasons)
    assert len(reasons) == 2

    pacs.clear()
    pacs.answer = lambda number: 0xC000 if number == 1 else 0x0000
    paths = series(3, "FAULT")
    node.send(paths)
    (job,) = node.finished(series_uid(paths))["jobs"]
    (row,) = job["deliveries"]
    assert (row["state"], row["accepted"], row["attempt"]) == ("FAILED", 2, 1)
    assert row["error"] == "1 of 3 instances not accepted: Failure: cannot understand (0xC000)"
    assert any("0xC000" in problem for problem in node.status()["problems"])

    pacs.clear()
    assert node.run("jobs", "resend", series_uid(paths)).returncode == 0
    node.finished(series_uid(paths))
    assert len(pacs.stored) == 1, "the two that were accepted stay accepted"


def pixels_of(pacs: FaultPacs) -> dict[str, np.ndarray[Any, Any]]:
    """Decoded pixels by the SOP Instance UID of their source."""
    found = {}
    for item in pacs.stored:
        ds = read_dataset(BytesIO(item.encoded), item.transfer_syntax_uid == ImplicitVRLittleEndian, True)
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(item.transfer_syntax_uid)
        found[str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID)] = ds.pixel_array
    return found


def test_each_destination_gets_its_syntax_and_all_get_the_same_pixels(node: Node, series: WriteSeries) -> None:
    paths = series(4, "SPLIT")
    node.send(paths)
    (job,) = node.succeeded(series_uid(paths))["jobs"]
    assert {row["destination"]: row["state"] for row in job["deliveries"]} == dict.fromkeys(
        ("pacs", "jpeg2000", "rle", "implicit"), "DELIVERED"
    )
    ((_, files),) = node.results(paths).items()
    explicit = [pydicom.dcmread(file) for file in files]
    assert {ds.file_meta.TransferSyntaxUID for ds in explicit} == {ExplicitVRLittleEndian}
    expected = {str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID): ds.pixel_array for ds in explicit}
    assert sorted(expected) == sorted(instance_uids(paths))
    wanted = {"jpeg2000": JPEG2000Lossless, "rle": RLELossless, "implicit": ImplicitVRLittleEndian}
    for name, syntax in wanted.items():
        assert {item.transfer_syntax_uid for item in node.peers[name].stored} == {str(syntax)}
        got = pixels_of(node.peers[name])
        assert got.keys() == expected.keys()
        assert all(np.array_equal(got[uid], expected[uid]) for uid in expected)


def test_a_whole_resend_sends_the_same_bytes_under_the_same_uids(node: Node, series: WriteSeries) -> None:
    pacs = node.fault
    paths = series(3, "FAULT")
    uid = series_uid(paths)
    node.send(paths)
    node.finished(uid)
    first = list(pacs.stored)
    said = node.run("jobs", "resend", uid, "--whole")
    assert said.returncode == 0, said.stderr
    node.wait_for("it is sent again", lambda: len(pacs.stored) == 6)
    (job,) = node.finished(uid)["jobs"]
    assert pacs.stored[3:] == first
    assert [(row["state"], row["accepted"]) for row in job["deliveries"]] == [("DELIVERED", 3)]

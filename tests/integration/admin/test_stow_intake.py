"""STOW-RS intake: parts to instances, answers by PS3.18 10.5.3, and everything that a body can do wrong."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian
from web_application import TOKEN, Running

from gateway.network.receiver import StoreAnswer

BOUNDARY = "b0undary"
HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
}


def part10(uid: str, *, sop_class: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian, pad: int = 0) -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid
    ds.PixelData = bytes(pad)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, uid
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def body(files: Sequence[bytes], *, closed: bool = True) -> bytes:
    parts = b"".join(b"--b0undary\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files)
    return parts + (b"--b0undary--\r\n" if closed else b"")


def store(web: Running, content: Any, path: str = "/dicom-web/studies", **headers: str) -> httpx.Response:
    return httpx.post(f"{web.url}{path}", content=content, headers={**HEADERS, **headers}, timeout=20)


def named(answer: httpx.Response, tag: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.json().get(tag, {"Value": []})["Value"]]


def test_what_is_stored_is_named_and_is_what_was_sent(empty_web: Running) -> None:
    files = [part10(f"1.2.3.{n}", pad=300_000) for n in range(3)]
    answer = store(empty_web, body(files))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert named(answer, "00081199") == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]
    for kept, file in zip(empty_web.kept.instances, files, strict=True):
        assert file.endswith(kept.data_set)
        assert kept.data_set[:4] == b"\x08\x00\x16\x00"  # the data set begins where the file meta ends
        assert kept.end == "whole"
        assert kept.request.association.calling_ae_title == "SCANNER3"
    assert [how for _, how in empty_web.kept.associations] == ["released"]


def test_pieces_of_any_size_make_the_same_instances(empty_web: Running) -> None:
    whole = body([part10("1.2.3.4", pad=1000), part10("1.2.3.5", pad=0)])

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    answer = store(empty_web, pieces())
    assert named(answer, "00081199") == ["1.2.3.4", "1.2.3.5"]
    assert all(whole.count(kept.data_set) for kept in empty_web.kept.instances)


def test_some_stored_some_not_is_202_with_the_reason_of_each(empty_web: Running) -> None:
    empty_web.kept.answers["1.2.3.1"] = StoreAnswer(0xA900, "mismatch")
    files = [
        part10("1.2.3.0"),
        part10("1.2.3.1"),
        part10("1.2.3.2", sop_class=EncapsulatedPDFStorage),
        part10("1.2.3.3").replace(ExplicitVRLittleEndian.encode(), ExplicitVRBigEndian.encode()),
        b"not DICOM at all" * 20,
        b"short",
    ]
    answer = store(empty_web, body(files))
    assert answer.status_code == 202
    assert named(answer, "00081199") == ["1.2.3.0"]
    reasons = {
        item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in answer.json()["00081198"]["Value"]
    }
    assert reasons["1.2.3.1"] == 0xA900
    assert reasons["1.2.3.2"] == 0x0122
    assert reasons["1.2.3.3"] == 0xC122
    assert [item["00081197"]["Value"] for item in answer.json()["0008119A"]["Value"]][-2:] == [[0xC000], [0xC000]]


def test_none_stored_is_409_and_a_full_disk_503(empty_web: Running) -> None:
    empty_web.kept.answers["1.2.3.0"] = StoreAnswer(0xA900)
    empty_web.kept.answers["1.2.3.1"] = StoreAnswer(0xA700)
    assert store(empty_web, body([part10("1.2.3.0")])).status_code == 409
    full = store(empty_web, body([part10("1.2.3.1")]))
    assert (full.status_code, full.headers["retry-after"]) == (503, "60")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Content-Type": "application/dicom"}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b0undary'}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
        ({"Accept": "text/plain"}, 406),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_nothing_is_stored(
    empty_web: Running, headers: dict[str, str], code: int
) -> None:
    answer = store(empty_web, body([part10("1.2.3.4")]), **headers)
    assert answer.status_code == code
    assert answer.json()["error"]
    assert not empty_web.kept.instances


@pytest.mark.parametrize("content", [b"", b"--other\r\n\r\n", b"--b0undary--\r\n"])
def test_a_body_without_instances_is_refused(empty_web: Running, content: bytes) -> None:
    assert store(empty_web, content).status_code == 400
    assert not empty_web.kept.instances


def test_a_body_that_ends_early_stores_what_was_whole_and_is_no_success(empty_web: Running) -> None:
    file = part10("1.2.3.5", pad=5000)
    answer = store(empty_web, body([part10("1.2.3.4"), file], closed=False)[:-2000])
    assert answer.status_code == 400
    assert [kept.end for kept in empty_web.kept.instances] == ["whole", "discarded"]
    assert [how for _, how in empty_web.kept.associations] == ["aborted"]


def test_a_sender_that_disappears_leaves_nothing_under_way(empty_web: Running) -> None:
    address = empty_web.url.removeprefix("http://").split(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    with socket.create_connection((address[0], int(address[1]))) as sock:
        sock.sendall(f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 999999\r\n\r\n".encode())
        sock.sendall(body([part10("1.2.3.4", pad=50_000)])[:20_000])
        until = time.monotonic() + 10
        while not empty_web.kept.instances and time.monotonic() < until:
            time.sleep(0.01)
    while not any(how for _, how in empty_web.kept.associations) and time.monotonic() < until:
        time.sleep(0.01)
    assert [kept.end for kept in empty_web.kept.instances] == ["discarded"]
    assert [how for _, how in empty_web.kept.associations] == ["aborted"]


def test_the_study_of_the_address_is_asked_of_each_instance(empty_web: Running) -> None:
    store(empty_web, body([part10("1.2.3.4")]), "/dicom-web/studies/1.2.9")
    assert [kept.request.study_instance_uid for kept in empty_web.kept.instances] == ["1.2.9"]
    assert store(empty_web, body([part10("1.2.3.4")]), "/dicom-web/studies/..%2Fx").status_code in {400, 404}

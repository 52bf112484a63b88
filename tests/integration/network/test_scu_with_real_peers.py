"""The Storage SCU against DCMTK, pynetdicom and Orthanc."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from network_peers import (
    free_port,
    program,
    sample,
    storescp,
    wait_for_listener,
)
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom import AE, evt

from gateway.network.scu import DestinationAddress, OutgoingInstance, Step, echo, send

Answers = list[tuple[str, int, str]]


def destination(port: int, **changes: object) -> DestinationAddress:
    fields: dict[str, object] = {
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "calling_ae_title": "ATHANOR",
        "connect_timeout_s": 5.0,
        "response_timeout_s": 5.0,
    }
    return DestinationAddress(**{**fields, **changes})  # type: ignore[arg-type]


def collect(answers: Answers) -> Callable[[str, int, str], None]:
    return lambda uid, status, words: answers.append((uid, status, words))


def data_set_of(path: Path) -> bytes:
    stored = path.read_bytes()
    return stored[128 + 4 + 12 + int.from_bytes(stored[140:144], "little") :]


@contextmanager
def pynetdicom_scp(
    answer: Callable[[evt.Event], object], syntaxes: list[str], *, max_pdu: int = 16382
) -> Iterator[int]:
    """pynetdicom's own Storage SCP, which answers as the test says; gives its port."""
    ae = AE("PACS")
    ae.maximum_pdu_size = max_pdu
    for sop_class in (MRImageStorage, CTImageStorage):
        ae.add_supported_context(sop_class, syntaxes)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        ae.shutdown()


@pytest.mark.parametrize(
    ("name", "accept"),
    [
        ("MR_small.dcm", "+xe"),
        ("MR_small_implicit.dcm", "+xi"),
        ("MR_small_jp2klossless.dcm", "+xv"),
        ("MR_small_RLE.dcm", "+xr"),
        ("MR_small_jpeg_ls_lossless.dcm", "+xt"),
    ],
)
def test_the_stored_bytes_arrive_unchanged(tmp_path: Path, name: str, accept: str) -> None:
    instance = OutgoingInstance.read(sample(name))
    answers: Answers = []
    with storescp(tmp_path, accept) as port:
        report = send(destination(port), [instance], collect(answers))
    assert report.is_delivered, report
    assert report.outcomes[0].transfer_syntax_uid == instance.transfer_syntax_uid
    assert answers == [(instance.sop_instance_uid, 0, "Success (0x0000)")]
    (arrived,) = tmp_path.iterdir()
    assert pydicom.dcmread(arrived).file_meta.TransferSyntaxUID == instance.transfer_syntax_uid
    assert data_set_of(arrived) == data_set_of(instance.path)


def test_a_large_file_arrives_unchanged_over_any_pdu_length(tmp_path: Path) -> None:
    ds = pydicom.dcmread(sample("MR_small.dcm"))
    ds.Rows = ds.Columns = 1500
    ds.PixelData = np.random.default_rng(1).integers(0, 4096, (1500, 1500), np.uint16).tobytes()
    path = tmp_path / "large.dcm"
    ds.save_as(path)
    for pdu in (4096, 131072):
        folder = tmp_path / str(pdu)
        folder.mkdir()
        with storescp(folder, "-pdu", pdu) as port:
            assert send(destination(port), [OutgoingInstance.read(path)], lambda *_: None).is_delivered
        (arrived,) = folder.iterdir()
        assert data_set_of(arrived) == data_set_of(path)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"])
@pytest.mark.parametrize(("accept", "syntax"), [("+xe", ExplicitVRLittleEndian), ("+xi", ImplicitVRLittleEndian)])
def test_a_peer_without_the_stored_syntax_gets_the_same_object_uncompressed(
    tmp_path: Path, name: str, accept: str, syntax: str
) -> None:
    instance = OutgoingInstance.read(sample(name))
    arrived: list[bytes] = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        with storescp(folder, accept) as port:
            report = send(destination(port), [instance], lambda *_: None)
        assert report.is_delivered, report
        assert report.outcomes[0].transfer_syntax_uid == syntax
        (file,) = folder.iterdir()
        arrived.append(data_set_of(file))
        ds = pydicom.dcmread(file)
        assert ds.SOPInstanceUID == instance.sop_instance_uid
        np.testing.assert_array_equal(ds.pixel_array, pydicom.dcmread(instance.path).pixel_array)
    assert arrived[0] == arrived[1]


def test_several_classes_and_syntaxes_go_over_one_association(tmp_path: Path) -> None:
    names = ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "JPEG2000.dcm"]
    instances = [OutgoingInstance.read(sample(name)) for name in names]
    with storescp(tmp_path, "+xa") as port:
        report = send(destination(port), instances, lambda *_: None)
    assert report.is_delivered
    assert report.associations == 1
    assert [outcome.transfer_syntax_uid for outcome in report.outcomes] == [i.transfer_syntax_uid for i in instances]


@pytest.mark.parametrize(
    ("status", "words", "delivered", "retry"),
    [
        (0xB000, "Warning: stored, with coercion of data elements (0xB000)", True, False),
        (0xA700, "Refused: out of resources (0xA700)", False, True),
        (0xA900, "Failure: data set does not match the SOP Class (0xA900)", False, False),
        (0xC000, "Failure: cannot understand (0xC000)", False, False),
        (0x0110, "Failure: processing failure (0x0110)", False, True),
    ],
)
def test_a_status_is_reported_in_words_and_the_next_instance_still_goes(
    status: int, words: str, delivered: bool, retry: bool
) -> None:
    def answer(event: evt.Event) -> object:
        if event.request.AffectedSOPClassUID == CTImageStorage:
            return 0x0000
        ds = pydicom.Dataset()
        ds.Status = status
        ds.ErrorComment = "said the peer"
        return ds

    instances = [OutgoingInstance.read(sample(name)) for name in ("MR_small.dcm", "CT_small.dcm")]
    answers: Answers = []
    with pynetdicom_scp(answer, [ExplicitVRLittleEndian]) as port:
        report = send(destination(port), instances, collect(answers))
    first, second = report.outcomes
    assert (first.status, first.explanation) == (status, f"{words}: said the peer")
    assert (first.is_delivered, first.worth_retrying) == (delivered, retry)
    assert second.is_delivered
    assert report.is_delivered is delivered
    assert report.failure is None
    assert [uid for uid, _, _ in answers] == [instance.sop_instance_uid for instance in instances]


def test_an_instance_without_an_accepted_context_is_named_and_the_others_go() -> None:
    instances = [OutgoingInstance.read(sample(name)) for name in ("JPEG2000.dcm", "MR_small.dcm")]
    with pynetdicom_scp(lambda _: 0x0000, [ImplicitVRLittleEndian]) as port:
        report = send(destination(port), instances, lambda *_: None)
    refused, taken = report.outcomes
    assert refused.status is None
    assert refused.explanation.startswith("presentation context: the peer accepts SOP Class 1.2.840.10008.5.1.4.1.1.7")
    assert not refused.worth_retrying
    assert taken.transfer_syntax_uid == ImplicitVRLittleEndian
    assert taken.is_delivered


def test_a_file_that_vanished_is_named_and_the_others_go(tmp_path: Path) -> None:
    here = OutgoingInstance.read(sample("MR_small.dcm"))
    gone = OutgoingInstance(tmp_path / "gone.dcm", MRImageStorage, "1.2.3", ExplicitVRLittleEndian)
    with pynetdicom_scp(lambda _: 0x0000, [ExplicitVRLittleEndian]) as port:
        report = send(destination(port), [gone, here], lambda *_: None)
    assert "cannot be read" in report.outcomes[0].explanation
    assert report.outcomes[1].is_delivered


def test_more_than_128_contexts_are_split_over_associations(tmp_path: Path) -> None:
    stored = sample("MR_small.dcm").read_bytes()
    instances = []
    for n in range(70):
        # 70 private SOP Classes in three contexts each; the file meta information says the same
        sop_class = f"1.2.840.10008.5.1.4.1.1.{100 + n}"[: len(MRImageStorage)].ljust(len(MRImageStorage), "0")
        path = tmp_path / f"{n}.dcm"
        path.write_bytes(stored.replace(MRImageStorage.encode(), sop_class.encode()))
        instances.append(OutgoingInstance.read(path))
    classes = {instance.sop_class_uid for instance in instances}
    associations: list[int] = []
    ae = AE("PACS")
    for sop_class in classes:
        ae.add_supported_context(sop_class, [ExplicitVRLittleEndian])

    def count(event: evt.Event) -> None:
        associations.append(len(event.assoc.requestor.requested_contexts))

    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_REQUESTED, count)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        report = send(destination(server.server_address[1]), instances, lambda *_: None)
    finally:
        ae.shutdown()
    assert len(associations) == report.associations
    assert max(associations) <= 128
    assert [outcome.sop_instance_uid for outcome in report.outcomes] == [i.sop_instance_uid for i in instances]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """An Orthanc of this test's own: its DICOM port and the URL of its REST interface."""
    folder = tmp_path_factory.mktemp("orthanc")
    dicom, http = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": dicom,
        "HttpPort": http,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with program("Orthanc", folder / "orthanc.json"):
        wait_for_listener(http)
        wait_for_listener(dicom)
        yield dicom, f"http://127.0.0.1:{http}"


def test_orthanc_takes_and_keeps_what_is_sent(orthanc: tuple[int, str]) -> None:
    port, url = orthanc
    assert echo(destination(port, ae_title="ORTHANC")).is_answered
    names = ["MR_small_jp2klossless.dcm", "CT_small.dcm"]
    instances = [OutgoingInstance.read(sample(name)) for name in names]
    report = send(destination(port, ae_title="ORTHANC"), instances, lambda *_: None)
    assert report.is_delivered, report
    for instance in instances:
        lookup = urllib.request.Request(f"{url}/tools/lookup", instance.sop_instance_uid.encode())
        (found,) = json.load(urllib.request.urlopen(lookup, timeout=10))
        kept = pydicom.dcmread(BytesIO(urllib.request.urlopen(f"{url}{found['Path']}/file", timeout=10).read()))
        np.testing.assert_array_equal(kept.pixel_array, pydicom.dcmread(instance.path).pixel_array)
        assert kept.file_meta.TransferSyntaxUID == instance.transfer_syntax_uid


def test_orthanc_says_that_it_is_called_otherwise(orthanc: tuple[int, str]) -> None:
    report = echo(destination(orthanc[0], ae_title="NOBODY"))
    assert report.failure is not None
    assert report.failure.step is Step.ASSOCIATE
    assert not report.failure.worth_retrying

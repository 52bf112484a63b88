"""DCMTK's programs against the Storage SCP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from network_peers import AE_TITLE, Listen, Recorder, Stored, dcmtk, echoscu, sample, storescp, storescu
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from gateway.network.part10 import part10_prefix
from gateway.network.receiver import StoreAnswer


def as_file(request: Stored) -> bytes:
    prefix = part10_prefix(
        request.sop_class_uid,
        request.sop_instance_uid,
        request.transfer_syntax_uid,
        request.association.calling_ae_title,
    )
    return prefix + request.encoded


def sent_data_set(path: Path) -> bytes:
    stored = path.read_bytes()
    return stored[128 + 4 + 12 + int.from_bytes(stored[140:144], "little") :]


def test_echo_is_answered(listen: Listen, recorder: Recorder) -> None:
    scp = listen()
    assert echoscu(scp.port).returncode == 0
    recorder.wait_until(lambda r: len(r.ended) == 1)
    assert recorder.ended[0][1] == "released"


def test_an_association_says_who_called(listen: Listen, recorder: Recorder) -> None:
    scp = listen()
    assert storescu(scp.port, sample("CT_small.dcm")).returncode == 0
    recorder.wait_until(lambda r: len(r.ended) == 1)
    (info,) = recorder.opened
    assert (info.calling_ae_title, info.called_ae_title, info.address) == ("SCANNER", AE_TITLE, "127.0.0.1")
    assert info.implementation_version_name.startswith("OFFIS_DCMTK")
    assert recorder.stored[0].association is info
    assert recorder.ended == [(info, "released")]


@pytest.mark.parametrize(
    ("propose", "name", "syntax"),
    [
        ("-xe", "MR_small.dcm", ExplicitVRLittleEndian),
        ("-xi", "MR_small_implicit.dcm", ImplicitVRLittleEndian),
        ("-xr", "MR_small_RLE.dcm", RLELossless),
        ("-xv", "MR_small_jp2klossless.dcm", JPEG2000Lossless),
        ("-xw", "JPEG2000.dcm", JPEG2000),
        ("-xt", "MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
        ("-xu", "JPEGLSNearLossless_16.dcm", JPEGLSNearLossless),
        ("-xs", "SC_rgb_jpeg_gdcm.dcm", JPEGLosslessSV1),
        ("-xy", "SC_rgb_jpeg_dcmtk.dcm", JPEGBaseline8Bit),
    ],
)
def test_an_object_arrives_with_its_pixels_in_every_syntax(
    listen: Listen, recorder: Recorder, propose: str, name: str, syntax: str
) -> None:
    scp = listen()
    sent = storescu(scp.port, propose, sample(name))
    assert sent.returncode == 0, sent.stderr
    (request,) = recorder.stored
    assert request.transfer_syntax_uid == syntax
    received = pydicom.dcmread(BytesIO(as_file(request)))
    original = pydicom.dcmread(sample(name))
    assert received.file_meta.TransferSyntaxUID == syntax
    assert received.SOPInstanceUID == original.SOPInstanceUID == request.sop_instance_uid
    np.testing.assert_array_equal(received.pixel_array, original.pixel_array)


@pytest.mark.parametrize(("option", "syntax"), [("+el", JPEGLossless), ("+e1", JPEGLosslessSV1)])
def test_sixteen_bit_lossless_jpeg_is_taken_and_decoded(
    listen: Listen, recorder: Recorder, tmp_path: Path, option: str, syntax: str
) -> None:
    compressed = tmp_path / "compressed.dcm"
    assert dcmtk("dcmcjpeg", option, sample("MR_small.dcm"), compressed).returncode == 0
    assert pydicom.dcmread(compressed).file_meta.TransferSyntaxUID == syntax
    sent = dcmtk("dcmsend", "-v", "-dn", "-aec", AE_TITLE, "127.0.0.1", listen().port, compressed)
    assert sent.returncode == 0, sent.stderr
    (request,) = recorder.stored
    assert request.transfer_syntax_uid == syntax
    received = pydicom.dcmread(BytesIO(as_file(request)))
    np.testing.assert_array_equal(received.pixel_array, pydicom.dcmread(sample("MR_small.dcm")).pixel_array)


@pytest.mark.parametrize(
    ("name", "propose", "accept"),
    [
        ("CT_small.dcm", "-xe", "+xe"),
        ("MR_small_implicit.dcm", "-xi", "+xi"),
        ("nested_priv_SQ.dcm", "-xi", "+xi"),
        ("MR_small_jp2klossless.dcm", "-xv", "+xv"),
    ],
)
def test_the_data_set_is_kept_exactly_as_it_came(
    listen: Listen, recorder: Recorder, tmp_path: Path, name: str, propose: str, accept: str
) -> None:
    # what DCMTK's bit-preserving receiver writes is what the sender sent, whatever the sender made of its file
    ds = pydicom.dcmread(sample(name))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    sent = tmp_path / "sent.dcm"
    ds.save_as(sent)
    kept = tmp_path / "kept"
    kept.mkdir()
    with storescp(kept, accept) as port:
        assert storescu(port, propose, sent).returncode == 0
    assert storescu(listen().port, propose, sent).returncode == 0
    (file,) = kept.iterdir()
    assert recorder.stored[0].encoded == sent_data_set(file)


def test_a_large_instance_arrives_whole(listen: Listen, recorder: Recorder, tmp_path: Path) -> None:
    ds = pydicom.dcmread(sample("MR_small.dcm"))
    ds.Rows = ds.Columns = 2048
    ds.PixelData = np.random.default_rng(0).integers(0, 4096, (2048, 2048), np.uint16).tobytes()
    path = tmp_path / "large.dcm"
    ds.save_as(path)
    assert storescu(listen().port, path).returncode == 0
    received = pydicom.dcmread(BytesIO(as_file(recorder.stored[0])))
    assert received.PixelData == ds.PixelData


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA700, "Refused: OutOfResources"),
        (0xA900, "Error: DataSetDoesNotMatchSOPClass"),
        (0xC000, "Error: CannotUnderstand"),
        (0xB000, "Warning: CoercionOfDataElements"),
    ],
)
def test_the_receivers_status_reaches_the_peer(listen: Listen, recorder: Recorder, status: int, words: str) -> None:
    recorder.answer = lambda _: StoreAnswer(status, "the reason, in words that a log may hold")
    assert words in storescu(listen().port, sample("CT_small.dcm")).stderr


def test_a_receiver_that_fails_costs_one_object_and_says_nothing_of_why(
    listen: Listen, recorder: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(request: Stored) -> StoreAnswer:
        if len(recorder.stored) == 1:
            raise RuntimeError("a message with a secret of the patient's")
        return StoreAnswer(0)

    recorder.answer = fail
    scp = listen()
    files = [sample("CT_small.dcm"), sample("MR_small.dcm")]
    sent = dcmtk("dcmsend", "-v", "-nh", "-aec", AE_TITLE, "127.0.0.1", scp.port, *files)
    assert "with status ERROR    : 1" in sent.stderr
    assert "with status SUCCESS  : 1" in sent.stderr
    assert len(recorder.stored) == 2
    recorder.wait_until(lambda r: len(r.ended) == 1)
    assert recorder.ended[0][1] == "released"
    logged = "".join(capfd.readouterr())
    assert "RuntimeError" in logged
    assert recorder.opened[0].id in logged
    assert "secret" not in logged + sent.stderr


def test_nothing_of_the_data_set_is_logged(
    listen: Listen, recorder: Recorder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ds = pydicom.dcmread(sample("MR_small.dcm"))
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "PLANTED^NAME", "PLANTED-ID", "19010101"
    path = tmp_path / "planted.dcm"
    ds.save_as(path)
    recorder.answer = lambda _: StoreAnswer(0xC000)
    storescu(listen().port, path)
    recorder.wait_until(lambda r: len(r.ended) == 1)
    logged = "".join(capfd.readouterr())
    assert "PLANTED" not in logged
    assert "19010101" not in logged


def test_objects_that_are_no_images_are_refused_and_images_beside_them_taken(
    listen: Listen, recorder: Recorder
) -> None:
    scp = listen()
    sent = dcmtk(
        "dcmsend",
        "-v",
        "-nh",
        "-aec",
        AE_TITLE,
        "127.0.0.1",
        scp.port,
        sample("test-SR.dcm"),
        sample("MR_small.dcm"),
    )
    assert "no acceptable pres.  : 1" in sent.stderr
    assert [request.sop_class_uid for request in recorder.stored] == ["1.2.840.10008.5.1.4.1.1.4"]


@pytest.mark.parametrize(
    ("arguments", "config", "reason"),
    [
        (("-aec", "OTHER"), {}, "Called AE Title Not Recognized"),
        ((), {"peers": {"NOBODY": ("*",)}}, "Calling AE Title Not Recognized"),
    ],
)
def test_wrong_ae_titles_are_rejected_with_the_reason(
    listen: Listen, recorder: Recorder, arguments: tuple[str, ...], config: dict[str, object], reason: str
) -> None:
    scp = listen(**config)
    sent = echoscu(scp.port, *arguments)
    assert sent.returncode != 0
    assert reason in sent.stderr
    assert recorder.opened == []


def test_any_called_ae_title_will_do_when_it_is_not_required(listen: Listen) -> None:
    assert echoscu(listen(require_called_ae_title=False).port, "-aec", "WHATEVER").returncode == 0


def test_an_address_that_is_not_allowed_is_not_even_heard(listen: Listen, recorder: Recorder) -> None:
    scp = listen(peers={"*": ("192.0.2.0/24",)})
    assert echoscu(scp.port).returncode != 0
    assert recorder.opened == []


def test_one_association_too_many_is_rejected_for_now(listen: Listen, recorder: Recorder) -> None:
    scp = listen(max_associations=1)
    free, busy = threading.Event(), threading.Event()

    def hold(_: Stored) -> StoreAnswer:
        busy.set()
        free.wait(10)
        return StoreAnswer(0)

    recorder.answer = hold
    with ThreadPoolExecutor() as pool:
        first = pool.submit(storescu, scp.port, sample("CT_small.dcm"))
        assert busy.wait(10)
        second = echoscu(scp.port)
        assert "Local Limit Exceeded" in second.stderr
        free.set()
        assert first.result().returncode == 0
    recorder.wait_until(lambda r: len(r.ended) == 1)
    assert echoscu(scp.port).returncode == 0


def test_associations_are_served_side_by_side(listen: Listen, recorder: Recorder) -> None:
    scp = listen()
    together = threading.Barrier(3, timeout=10)

    def meet(_: Stored) -> StoreAnswer:
        together.wait()
        return StoreAnswer(0)

    recorder.answer = meet
    names = ["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm"]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda name: storescu(scp.port, sample(name)).returncode, names))
    assert results == [0, 0, 0]
    assert len({request.association.id for request in recorder.stored}) == 3


def test_a_peer_that_aborts_is_reported_as_such(listen: Listen, recorder: Recorder) -> None:
    scp = listen()
    storescu(scp.port, "--abort", sample("CT_small.dcm"))
    recorder.wait_until(lambda r: len(r.ended) == 1)
    assert recorder.ended[0][1] == "aborted"
    assert len(recorder.stored) == 1

"""Sending over TLS: real peers, and every reason for which a handshake fails, told apart."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from network_peers import Listen, Recorder, free_port, program, sample, storescp, wait_for_listener

from gateway.network.scu import DestinationAddress, OutgoingInstance, Step, StepFailed, echo, send
from gateway.network.tls import TlsFiles

PACS = "DNS:pacs.example,IP:127.0.0.1"
MR = OutgoingInstance.read(sample("MR_small.dcm"))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def pacs(hospital: CertificateAuthority) -> TlsFiles:
    return hospital.issue("pacs", alternatives=PACS)


@pytest.fixture(scope="module")
def gateway(hospital: CertificateAuthority) -> TlsFiles:
    return hospital.issue("athanor", alternatives="DNS:localhost,IP:127.0.0.1")


def destination(port: int, tls: TlsFiles | None, **changes: object) -> DestinationAddress:
    fields: dict[str, object] = {"connect_timeout_s": 3.0, "response_timeout_s": 3.0, **changes}
    return DestinationAddress("PACS", "127.0.0.1", port, "ATHANOR", tls=tls, **fields)  # type: ignore[arg-type]


def failure_of(address: DestinationAddress) -> StepFailed:
    """The failure of a handshake, which comes at once and never sends anything."""
    began = time.monotonic()
    failure = echo(address).failure
    assert failure is not None
    assert failure.step is Step.TLS
    assert time.monotonic() - began < 3.0
    return failure


@contextmanager
def tls_storescp(folder: Path, files: TlsFiles, *options: object) -> Iterator[int]:
    with storescp(folder, "+tls", files.key, files.certificate, "+cf", files.ca, *options) as port:
        yield port


@contextmanager
def s_server(files: TlsFiles, *options: object) -> Iterator[int]:
    """openssl's own server; gives its port."""
    port = free_port()
    shown = ("-cert", files.certificate, "-key", files.key, "-CAfile", files.ca)
    with program("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", *shown, *options):
        wait_for_listener(port)
        yield port


def test_a_peer_that_asks_for_a_certificate_gets_ours(tmp_path: Path, pacs: TlsFiles, gateway: TlsFiles) -> None:
    with tls_storescp(tmp_path, pacs) as port:
        report = send(destination(port, gateway), [MR], lambda *_: None)
    assert report.is_delivered, report
    assert len(list(tmp_path.iterdir())) == 1


def test_a_peer_that_asks_for_none_needs_none(tmp_path: Path, pacs: TlsFiles, gateway: TlsFiles) -> None:
    with tls_storescp(tmp_path, pacs, "-ic") as port:
        assert send(destination(port, TlsFiles(ca=gateway.ca)), [MR], lambda *_: None).is_delivered


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_peer_that_asks_for_a_certificate_and_gets_none(pacs: TlsFiles, version: str) -> None:
    with s_server(pacs, version, "-Verify", "1") as port:
        failure = failure_of(destination(port, TlsFiles(ca=pacs.ca)))
    assert "asks for a certificate" in failure.explanation or "does it accept our certificate" in failure.explanation
    assert failure.worth_retrying


def test_a_peer_that_does_not_trust_ours(listen: Listen, pacs: TlsFiles, tmp_path: Path) -> None:
    scp = listen(tls=pacs.listening_context())
    ours = CertificateAuthority(tmp_path / "stranger").issue("athanor", trusts=pacs.ca)
    failure = failure_of(destination(scp.port, ours))
    assert "our certificate" in failure.explanation
    assert failure.worth_retrying


def test_a_peer_that_we_do_not_trust(tmp_path: Path, gateway: TlsFiles) -> None:
    stranger = CertificateAuthority(tmp_path / "stranger").issue("pacs", alternatives=PACS)
    with tls_storescp(tmp_path, stranger) as port:
        failure = failure_of(destination(port, gateway))
    assert "not trusted" in failure.explanation
    assert failure.worth_retrying


@pytest.mark.parametrize(("begins", "words"), [(-30, "has expired"), (2, "not valid yet")])
def test_a_certificate_out_of_its_time(
    tmp_path: Path, hospital: CertificateAuthority, gateway: TlsFiles, begins: int, words: str
) -> None:
    with tls_storescp(tmp_path, hospital.issue("pacs", alternatives=PACS, begins=begins, days=20)) as port:
        failure = failure_of(destination(port, gateway))
    assert words in failure.explanation
    assert failure.worth_retrying


def test_a_certificate_of_another_host_unless_it_is_expected(
    tmp_path: Path, hospital: CertificateAuthority, gateway: TlsFiles
) -> None:
    with tls_storescp(tmp_path, hospital.issue("pacs", alternatives="DNS:pacs.example")) as port:
        failure = failure_of(destination(port, gateway))
        assert "not made out to 127.0.0.1" in failure.explanation
        assert not failure.worth_retrying
        assert echo(destination(port, gateway, tls_server_name="pacs.example")).is_answered


def test_a_peer_that_stopped_at_tls_1_1(pacs: TlsFiles, gateway: TlsFiles) -> None:
    with s_server(pacs, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") as port:
        failure = failure_of(destination(port, gateway))
    assert "no TLS version in common" in failure.explanation
    assert not failure.worth_retrying


def test_a_peer_without_tls(tmp_path: Path, gateway: TlsFiles) -> None:
    with storescp(tmp_path) as port:
        failure = failure_of(destination(port, gateway))
    assert re.search("peer (does not )?speak TLS here", failure.explanation)


def test_a_peer_with_tls_that_is_called_without(tmp_path: Path, pacs: TlsFiles) -> None:
    with tls_storescp(tmp_path, pacs) as port:
        began = time.monotonic()
        failure = echo(destination(port, None)).failure
    assert failure is not None
    assert failure.step is Step.ASSOCIATE
    assert time.monotonic() - began < 3.0


def test_a_certificate_that_appears_while_a_delivery_waits(tmp_path: Path, pacs: TlsFiles, gateway: TlsFiles) -> None:
    assert gateway.certificate is not None
    coming = TlsFiles(tmp_path / "coming.pem", gateway.key, gateway.ca)
    with tls_storescp(tmp_path, pacs) as port:
        failure = failure_of(destination(port, coming))
        assert "cannot read" in failure.explanation
        assert failure.worth_retrying
        (tmp_path / "coming.pem").write_bytes(gateway.certificate.read_bytes())
        assert echo(destination(port, coming)).is_answered


def test_from_orthanc_and_to_orthanc_with_certificates_on_both_sides(
    tmp_path: Path, listen: Listen, recorder: Recorder, pacs: TlsFiles, gateway: TlsFiles
) -> None:
    scp = listen(tls=gateway.listening_context(), certificates={"ORTHANC": "pacs"})
    dicom, http = free_port(), free_port()
    athanor = {"AET": "ATHANOR", "Host": "127.0.0.1", "Port": scp.port, "UseDicomTls": True}
    settings = {
        "StorageDirectory": str(tmp_path),
        "IndexDirectory": str(tmp_path),
        "DicomPort": dicom,
        "HttpPort": http,
        "DicomAet": "ORTHANC",
        "DicomModalities": {"athanor": athanor},
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(pacs.certificate),
        "DicomTlsPrivateKey": str(pacs.key),
        "DicomTlsTrustedCertificates": str(pacs.ca),
        "DicomTlsRemoteCertificateRequired": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with program("Orthanc", tmp_path / "orthanc.json"):
        wait_for_listener(http)
        wait_for_listener(dicom)
        url = f"http://127.0.0.1:{http}"

        def ask(path: str, body: bytes) -> dict[str, object]:
            answer: dict[str, object] = json.load(urllib.request.urlopen(f"{url}{path}", body, timeout=20))
            return answer

        source = ask("/instances", sample("CT_small.dcm").read_bytes())
        ask("/modalities/athanor/store", json.dumps([source["ID"]]).encode())
        assert len(recorder.stored) == 1
        address = DestinationAddress("ORTHANC", "127.0.0.1", dicom, "ATHANOR", tls=gateway)
        assert send(address, [MR], lambda *_: None).is_delivered
        assert len(json.load(urllib.request.urlopen(f"{url}/instances", timeout=10))) == 2

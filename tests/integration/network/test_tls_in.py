"""Receiving over TLS: real peers, right and wrong certificates, and whose AE title they are."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from network_peers import Connect, Listen, Recorder, calling_tls, dcmtk, echoscu, listening_tls, sample, storescu

from gateway.network.scp import StorageScp
from gateway.network.scu import DestinationAddress, Step, echo
from gateway.network.tls import TlsFiles

SERVER = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def gateway(hospital: CertificateAuthority) -> TlsFiles:
    return hospital.issue("athanor", alternatives=SERVER)


@pytest.fixture(scope="module")
def scanner(hospital: CertificateAuthority) -> TlsFiles:
    return hospital.issue("Scanner1", alternatives="DNS:scanner1.example,IP:192.0.2.7")


def shown(files: TlsFiles) -> tuple[object, ...]:
    """Options of a DCMTK program that shows this certificate and trusts this authority."""
    return "+tls", files.key, files.certificate, "+cf", files.ca


def fingerprint(files: TlsFiles) -> str:
    assert files.certificate is not None
    return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(files.certificate.read_text())).hexdigest()


def calling(port: int, title: str, files: TlsFiles | None) -> DestinationAddress:
    return DestinationAddress("ATHANOR", "127.0.0.1", port, title, tls=files, response_timeout_s=5.0)


def test_objects_arrive_from_a_peer_with_a_certificate(
    listen: Listen, recorder: Recorder, gateway: TlsFiles, scanner: TlsFiles
) -> None:
    scp = listen(tls=gateway.listening_context())
    sent = storescu(scp.port, *shown(scanner), sample("CT_small.dcm"))
    assert sent.returncode == 0, sent.stderr
    assert len(recorder.stored) == 1


def test_without_ca_a_peer_needs_no_certificate(listen: Listen, recorder: Recorder, gateway: TlsFiles) -> None:
    scp = listen(tls=TlsFiles(gateway.certificate, gateway.key).listening_context())
    sent = storescu(scp.port, "+tla", "+cf", gateway.ca, sample("CT_small.dcm"))
    assert sent.returncode == 0, sent.stderr
    assert len(recorder.stored) == 1


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_peer_without_certificate_is_told_so(
    listen: Listen, gateway: TlsFiles, capfd: pytest.CaptureFixture[str], version: str
) -> None:
    scp = listen(tls=gateway.listening_context())
    told = s_client(scp.port, version)
    # TLS 1.2 has no alert of its own for it
    assert re.search("certificate required|handshake failure", told), told
    assert "the peer showed no certificate" in log_of(scp, capfd)


def test_a_certificate_of_a_stranger_is_refused(
    listen: Listen,
    recorder: Recorder,
    gateway: TlsFiles,
    stranger: CertificateAuthority,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scp = listen(tls=gateway.listening_context())
    sent = storescu(scp.port, *shown(stranger.issue("scanner", trusts=gateway.ca)), sample("CT_small.dcm"))
    assert sent.returncode != 0
    assert recorder.opened == []
    assert "certificate is not trusted" in log_of(scp, capfd)


def test_a_certificate_that_has_expired_is_refused(
    listen: Listen, gateway: TlsFiles, hospital: CertificateAuthority, capfd: pytest.CaptureFixture[str]
) -> None:
    scp = listen(tls=gateway.listening_context())
    old = hospital.issue("scanner", begins=-30, days=29)
    assert echoscu(scp.port, *shown(old)).returncode != 0
    assert "has expired" in log_of(scp, capfd)


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"])
def test_tls_1_2_is_spoken_with_the_suites_of_the_profile(listen: Listen, gateway: TlsFiles, cipher: str) -> None:
    scp = listen(tls=TlsFiles(gateway.certificate, gateway.key).listening_context(), acse_timeout_s=0.5)
    assert cipher in s_client(scp.port, "-tls1_2", "-cipher", cipher)


@pytest.mark.parametrize(
    "options",
    [("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:AES128-GCM-SHA256")],
    ids=["TLS 1.1", "CBC and RSA key exchange"],
)
def test_what_the_profile_forbids_is_refused(
    listen: Listen, gateway: TlsFiles, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    scp = listen(tls=TlsFiles(gateway.certificate, gateway.key).listening_context())
    assert re.search("alert (protocol version|handshake failure)", s_client(scp.port, *options))
    assert re.search("no (TLS version|cipher suite) in common", log_of(scp, capfd))


@pytest.mark.parametrize("identity", ["scanner1", "scanner1.example", "192.0.2.7", "fingerprint"])
def test_an_ae_title_is_accepted_with_its_certificate_only(
    listen: Listen,
    recorder: Recorder,
    gateway: TlsFiles,
    scanner: TlsFiles,
    capfd: pytest.CaptureFixture[str],
    identity: str,
) -> None:
    wanted = fingerprint(scanner) if identity == "fingerprint" else identity
    scp = listen(tls=gateway.listening_context(), certificates={"SCANNER1": wanted})
    assert echo(calling(scp.port, "SCANNER1", scanner)).is_answered
    impostor = echo(calling(scp.port, "SCANNER1", gateway)).failure
    assert impostor is not None
    assert impostor.step is Step.ASSOCIATE
    assert "calling AE title not recognised" in impostor.explanation
    # an AE title that is not listed comes with any certificate of the hospital
    assert echo(calling(scp.port, "SCANNER2", gateway)).is_answered
    assert [info.calling_ae_title for info in recorder.opened] == ["SCANNER1", "SCANNER2"]
    logged = log_of(scp, capfd)
    assert "not the certificate of this AE title" in logged
    assert wanted in logged
    assert fingerprint(gateway) in logged


def test_an_ae_title_with_a_certificate_does_not_come_without_tls(listen: Listen, recorder: Recorder) -> None:
    scp = listen(certificates={"SCANNER1": "scanner1"})
    failure = echo(calling(scp.port, "SCANNER1", None)).failure
    assert failure is not None
    assert "calling AE title not recognised" in failure.explanation
    assert recorder.opened == []


def test_a_peer_without_tls_ends_at_once(listen: Listen, gateway: TlsFiles, capfd: pytest.CaptureFixture[str]) -> None:
    scp = listen(tls=gateway.listening_context())
    began = time.monotonic()
    assert echoscu(scp.port).returncode != 0
    assert time.monotonic() - began < 3.0
    assert "TLS handshake: the peer does not speak TLS here" in log_of(scp, capfd)


def test_tls_on_the_listener_without_it_ends_at_once(listen: Listen, scanner: TlsFiles) -> None:
    scp = listen()
    began = time.monotonic()
    assert dcmtk("echoscu", *shown(scanner), "-aec", "ATHANOR", "127.0.0.1", scp.port).returncode != 0
    assert time.monotonic() - began < 3.0


def test_a_handshake_byte_by_byte_ends_with_the_time_for_the_request(
    listen: Listen, raw_peer: Connect, certificates: Path
) -> None:
    scp = listen(tls=listening_tls(certificates), acse_timeout_s=1.0)
    peer = raw_peer(scp.port)
    peer.sock.settimeout(0.1)
    began = time.monotonic()
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30):
        try:
            peer.send(bytes([byte]))
            if peer.is_closed():
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert 0.5 < time.monotonic() - began < 3.0
    assert echo(calling(scp.port, "SENDER", calling_tls(certificates))).is_answered


def log_of(scp: StorageScp, capfd: pytest.CaptureFixture[str]) -> str:
    """What was logged until the end of every association."""
    scp.stop(5.0)
    return "".join(capfd.readouterr())


def s_client(port: int, *options: object) -> str:
    """What openssl's own client reports of a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *map(str, options)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout + done.stderr

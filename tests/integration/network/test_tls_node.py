"""TLS as the settings of a node ask for it: both listeners, destinations, and what `athanor doctor` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from network_peers import Recorder, echoscu, free_port, sample, storescp, storescu

from gateway.network.scu import DestinationAddress, OutgoingInstance, echo, send
from gateway.network.tls import TlsFiles
from gateway.services.scp import listeners_of
from gateway.settings import read_settings
from gateway.stages.deliver import address_of

HERE = "DNS:localhost,IP:127.0.0.1"

SETTINGS = """
[node]
ae_title = "ATHANOR"
[listener]
port = 0
acse_timeout_s = 5.0
max_associations = 1
[listener.tls]
port = 0
certificate = "tls/athanor.pem"
key = "tls/athanor.key"
ca = "tls/ca.pem"
peers = {{ SCANNER = "scanner" }}
[destinations.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
[destinations.pacs.tls]
ca = "tls/ca.pem"
certificate = "tls/athanor.pem"
key = "tls/athanor.key"
server_name = "pacs.example"
"""


@pytest.fixture
def hospital(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "hospital")


def write_settings(folder: Path, ours: TlsFiles, *, port: int = 11113) -> Path:
    """Settings whose paths are relative to their folder."""
    (folder / "tls").mkdir()
    for name, source in {"athanor.pem": ours.certificate, "athanor.key": ours.key, "ca.pem": ours.ca}.items():
        assert source is not None
        (folder / "tls" / name).write_bytes(source.read_bytes())
    (folder / "tls" / "athanor.key").chmod(0o600)
    (folder / "settings.toml").write_text(SETTINGS.format(port=port))
    return folder / "settings.toml"


def test_both_listeners_receive_and_each_has_its_own_limits(tmp_path: Path, hospital: CertificateAuthority) -> None:
    settings = read_settings(write_settings(tmp_path, hospital.issue("athanor", alternatives=HERE)))
    scanner = hospital.issue("scanner")
    shown = ("+tls", scanner.key, scanner.certificate, "+cf", scanner.ca)
    recorder = Recorder()
    with ExitStack() as started:
        ports = {name: started.enter_context(scp).port for name, scp in listeners_of(settings, recorder).items()}
        sent = storescu(ports["tls_port"], *shown, sample("CT_small.dcm"))
        assert sent.returncode == 0, sent.stderr
        # SCANNER has a certificate, so nobody may call so without TLS
        assert storescu(ports["port"], sample("CT_small.dcm")).returncode != 0
        plain = DestinationAddress("ATHANOR", "127.0.0.1", ports["port"], "CONSOLE", response_timeout_s=5.0)
        mr = OutgoingInstance.read(sample("MR_small.dcm"))
        inside: list[int] = []
        # while the only association of the one listener is open, the other one still has its own
        report = send(plain, [mr], lambda *_: inside.append(echoscu(ports["tls_port"], *shown).returncode))
        assert report.is_delivered
        assert inside == [0]
    assert [request.association.calling_ae_title for request in recorder.stored] == ["SCANNER", "CONSOLE"]


def test_a_destination_is_reached_over_tls(tmp_path: Path, hospital: CertificateAuthority) -> None:
    pacs = hospital.issue("pacs", alternatives="DNS:pacs.example")
    received = tmp_path / "received"
    received.mkdir()
    with storescp(received, "+tls", pacs.key, pacs.certificate, "+cf", pacs.ca) as port:
        settings = read_settings(write_settings(tmp_path, hospital.issue("athanor"), port=port))
        address = address_of(settings.destinations["pacs"], settings.deliver, "ATHANOR")
        assert echo(address).is_answered


def doctor_on_tls(settings: Path) -> list[tuple[bool, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "doctor", "--json"],
        env={**os.environ, "ATHANOR_SETTINGS": str(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return [(finding["well"], finding["found"]) for finding in json.loads(done.stdout) if finding["check"] == "TLS"]


def test_doctor_on_certificates(tmp_path: Path, hospital: CertificateAuthority) -> None:
    settings = write_settings(tmp_path, hospital.issue("athanor", days=20), port=free_port())
    (tmp_path / "tls" / "athanor.key").chmod(0o644)
    findings = doctor_on_tls(settings)
    assert [well for well, _ in findings] == [False, False]
    for (_, found), section in zip(findings, ("listener.tls", "destinations.pacs.tls"), strict=True):
        assert found.startswith(f"{section}: ")
        assert "athanor.key is open to every user" in found
        assert "athanor.pem expires on" in found

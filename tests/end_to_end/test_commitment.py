"""Orthanc to Athanor to Orthanc over mutual TLS, each committing to what the other sent it (PS3.4 Annex J)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from certificate_authority import CertificateAuthority
from modality import MakeGateway, Orthanc, detail_of, running_orthanc, series_uid

from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import Sandbox, free_port
from gateway.network.scu import DestinationAddress, echo
from gateway.store import tables, timeline
from gateway.store.database import Database

RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["orthanc"]
when = { attribute = "Modality", equals = "MR" }
"""
LOOPBACK = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(
    authority: CertificateAuthority, tls_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc that speaks TLS only, shows a certificate and asks for one."""
    files = authority.issue("orthanc.example", alternatives=LOOPBACK)
    modality = {"AET": "ATHANOR", "Host": "127.0.0.1", "Port": tls_port, "UseDicomTls": True}
    with running_orthanc(
        tmp_path_factory.mktemp("tls-orthanc"),
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(files.certificate),
        DicomTlsPrivateKey=str(files.key),
        DicomTlsTrustedCertificates=str(authority.certificate),
        DicomTlsRemoteCertificateRequired=True,
        DicomModalities={"athanor": modality},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def node(authority: CertificateAuthority, archive: Orthanc, tls_port: int, make_gateway: MakeGateway) -> Sandbox:
    """A gateway that lets ORTHANC in over TLS with its own certificate only, and asks it to commit."""
    files = authority.issue("athanor.example", alternatives=LOOPBACK)
    ours = {"certificate": str(files.certificate), "key": str(files.key), "ca": str(authority.certificate)}
    return make_gateway(
        RULES,
        listener={"tls": {**ours, "port": tls_port, "peers": {"ORTHANC": "orthanc.example"}}},
        destinations={
            "orthanc": {
                "ae_title": "ORTHANC",
                "host": "127.0.0.1",
                "port": archive.dicom_port,
                "commitment": True,
                "tls": ours,
            }
        },
    )


@pytest.fixture(scope="module")
def database(node: Sandbox) -> Iterator[Database]:
    opened = node.database()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def sources(archive: Orthanc, node: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A series that Orthanc has, and that the gateway has from Orthanc."""
    paths = write_phantom(tmp_path_factory.mktemp("patient"), 4242, slices=8)
    ids = [archive.upload(path) for path in paths]
    archive.post("/modalities/athanor/store", {"Resources": ids, "Synchronous": True})
    return paths


def eventually(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.1)
    return value


def references(paths: list[Path]) -> list[list[str]]:
    read = [pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"]) for path in paths]
    return [[str(ds.SOPClassUID), str(ds.SOPInstanceUID)] for ds in read]


def report_of(archive: Orthanc, instances: list[list[str]]) -> dict[str, Any]:
    """Let Orthanc ask for commitment, and wait for what it hears."""
    asked = archive.post("/modalities/athanor/storage-commitment", {"DicomInstances": instances})

    def answered() -> Any:
        report = archive.get(asked["Path"])
        return report if report["Status"] != "Pending" else None

    return dict(eventually(answered))


def test_orthanc_is_told_that_everything_it_sent_is_held(archive: Orthanc, sources: list[Path]) -> None:
    wanted = references(sources)
    report = report_of(archive, wanted)
    assert report["Status"] == "Success"
    assert report["RemoteAET"] == "ATHANOR"
    assert sorted([one["SOPClassUID"], one["SOPInstanceUID"]] for one in report["Success"]) == sorted(wanted)


def test_orthanc_is_told_what_is_not_held(archive: Orthanc, sources: list[Path], database: Database) -> None:
    (first, *_) = references(sources)
    report = report_of(archive, [first, [first[0], "1.2.826.0.1.3680043.8.498.1"]])
    assert report["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in report["Success"]] == [first[1]]
    assert [(one["SOPInstanceUID"], one["FailureReason"]) for one in report["Failures"]] == [
        ("1.2.826.0.1.3680043.8.498.1", 0x0112)
    ]

    def states() -> list[str]:
        with database.read() as connection:
            return list(connection.execute(sa.select(tables.commitment.c.state)).scalars())

    eventually(lambda: set(states()) == {"REPORTED"})


def test_the_result_is_delivered_once_orthanc_has_committed_to_it(
    archive: Orthanc, node: Sandbox, database: Database, sources: list[Path], tmp_path: Path
) -> None:
    node.wait_until_finished(database, series_uid(sources), 90)
    detail = detail_of(database, series_uid(sources))
    (job,) = detail["jobs"]
    (delivery,) = job["deliveries"]
    assert (delivery["state"], delivery["error"]) == ("DELIVERED", None)
    with database.read() as connection:
        asked = connection.execute(sa.select(tables.delivery_commitment)).one()
        finished_at = connection.execute(sa.select(tables.delivery.c.finished_at)).scalar_one()
        steps = [(event.stage, event.what) for event in timeline.of_series(connection, detail["id"])]
    assert asked.asked_at <= asked.accepted_at
    assert asked.asked_at < asked.reported_at <= finished_at
    assert steps[-1] == ("commit", "delivered")
    assert ("deliver", "committing") in steps
    assert ("deliver", "delivered") not in steps
    archived = {str(pydicom.dcmread(file).SOPInstanceUID) for file in archive.instances(tmp_path)}
    with database.read() as connection:
        made = set(connection.execute(sa.select(tables.derived.c.sop_instance_uid)).scalars())
    assert len(made) == len(sources)
    assert made <= archived


def test_without_a_certificate_neither_side_is_spoken_to(archive: Orthanc, node: Sandbox, tls_port: int) -> None:
    for title, port in (("ORTHANC", archive.dicom_port), ("ATHANOR", tls_port)):
        report = echo(DestinationAddress(title, "127.0.0.1", port, "ORTHANC", response_timeout_s=5.0))
        assert not report.is_answered
    # nor does the AE title of the archive open the port without TLS
    plain = echo(DestinationAddress("ATHANOR", "127.0.0.1", node.port, "ORTHANC", response_timeout_s=5.0))
    assert "calling AE title not recognised" in plain.explanation

"""No patient attribute leaves the tables that are for it: a whole gateway, with names where nobody expects them.

Read in the end: the log of every process, what `athanor status` says, the metrics, the audit trail, and every column of
the database but those that hold what was received.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa
from fault_pacs import FaultPacs
from logging_node import MIXED_UP, PATIENT, with_raw_value
from pydicom.dataset import Dataset
from raw_store import encoded, store
from small_series import AXIAL, write_small_series

from gateway import metrics
from gateway.commands.sandbox import Sandbox, free_port
from gateway.settings.watch import Metrics
from gateway.store import tables
from gateway.store.database import Database

# parts of the values too: a library may split a name or shorten an id. No time and no duration can hold one of them.
WORDS = re.compile(r"Zyxwvut|Quentin|SECRET|Refers|47Z11|08Z15|(?<!\d)19610523(?!\d)", re.IGNORECASE)
# what was received stands here, and is for those who may see patients
FOR_PATIENTS = {("study", column.name) for column in tables.study.columns} | {
    ("series", "attributes"), ("series", "selection"), ("series", "series_description"),
}  # fmt: skip
PROCESSES = ("scp-0", "clock-0", "transfer-0", "process-0")
RULES = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { all = [{ attribute = "Modality", equals = "MR" }, { attribute = "EchoTime", greater = 70 }] }
"""


class TalkativePacs(FaultPacs):
    """Refuses everything, in words that quote the patient."""

    def _store(self, event: Any) -> Any:
        super()._store(event)
        answer = Dataset()
        answer.Status = 0xA900
        answer.ErrorComment = f"{PATIENT['PatientName']} {PATIENT['PatientID']} unknown"
        answer.OffendingElement = 0x00100010
        return answer


@dataclass
class Seen:
    """Everything that somebody without a right to see patients may see."""

    log: str
    status: str
    metrics: dict[str, str]
    audit: str
    database: Database


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "rules.toml").write_text(RULES)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=athanor", "-keyout", "key.pem", "-out", "ca.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    base, tls_port, pacs = free_port(), free_port(), TalkativePacs(free_port())
    tls = {"port": tls_port, "certificate": "ca.pem", "key": "key.pem", "ca": "ca.pem"}
    gateway = Sandbox(
        folder,
        {
            "listener": {"port": free_port(), "processes": 1, "tls": tls},
            "metrics": {"port": base},
            "audit": {"file": "audit.xml"},
            "assemble": {"quiet_s": 0.6, "quiet_full_s": 0.3, "fallback_s": 1.0},
            "process": {"device": "cpu"},
            "deliver": {"first_retry_s": 0.2, "longest_retry_s": 0.5},
            "destinations": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}},
        },
        folder / "rules.toml",
    )
    with pacs, gateway:
        database = gateway.database()
        send_everything(gateway, folder / "sent", tls_port)
        eventually(lambda: everything_ended(database))
        eventually(lambda: pacs.stored != [])
        status = "".join(
            said(gateway, *words)
            for words in (["status"], ["status", "--json"], ["refusals"], ["jobs", "ls", "--json"])
        )
        pages = {}
        for process in PROCESSES:
            port = metrics.port_of(Metrics(port=base), process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                pages[process] = answer.read().decode()
    yield Seen(gateway.log_file.read_text(), status, pages, (folder / "audit.xml").read_text(), database)
    database.close()


def said(gateway: Sandbox, *words: str) -> str:
    """What an ``athanor`` command says, on both streams."""
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "--settings", gateway.settings_file, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.returncode in {0, 4}, ran.stderr
    return ran.stdout + ran.stderr


def send_everything(gateway: Sandbox, folder: Path, tls_port: int) -> None:
    """Good series, a refused one, and what software upstream mixes up, to each listener."""
    good = write_small_series(folder / "good", 1, 3, **PATIENT)
    axial = write_small_series(folder / "axial", 2, 3, direction=AXIAL, **PATIENT)
    broken = write_small_series(folder / "broken", 3, 3, **PATIENT)
    for path in broken:  # its pixels are not what its header says
        ds = pydicom.dcmread(path)
        ds.PixelData = ds.PixelData[:100]
        ds.save_as(path)
    for paths in (good, axial, broken):
        assert gateway.send(paths, "SCANNER").is_delivered
    for number, (keyword, value) in enumerate(MIXED_UP.items(), 10):
        (path,) = write_small_series(folder / str(number), number, 1, **PATIENT)
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        store(gateway.port, with_raw_value(encoded(path), keyword, value), uid)
    store(gateway.port, encoded(good[0])[:-1000], "1.2.3")
    store(gateway.port, "".join(PATIENT.values()).encode(), "1.2.4")
    uid = str(pydicom.dcmread(good[0], stop_before_pixels=True).SOPInstanceUID)
    store(gateway.port, encoded(good[0], ImageComments="Zyxwvut"), uid)
    for port in (gateway.port, tls_port):  # neither an association request nor a TLS handshake
        with socket.create_connection(("127.0.0.1", port), 10) as wire:
            wire.sendall("".join(PATIENT.values()).encode())
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", tls_port), 10) as wire:  # no certificate
        try:
            with context.wrap_socket(wire, server_hostname="Zyxwvut.Quentin") as secure:
                secure.sendall(b"Zyxwvut")
                secure.recv(1)
        except OSError:
            pass


def everything_ended(database: Database) -> bool:
    with database.read() as connection:
        series = set(connection.execute(sa.select(tables.series.c.state)).scalars())
        jobs = list(connection.execute(sa.select(tables.job.c.state)).scalars())
        delivered = list(connection.execute(sa.select(tables.delivery.c.error)).scalars())
    return (
        not series & {"RECEIVING", "COMPLETE"}
        and len(jobs) >= 3
        and not set(jobs) & {"QUEUED", "RUNNING"}
        and any(delivered)
    )


def eventually(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def planted(text: str) -> list[str]:
    return [line for line in text.splitlines() if WORDS.search(line)]


def test_the_planted_values_came_in_and_something_of_each_kind_went_wrong(seen: Seen) -> None:
    with seen.database.read() as connection:
        names = set(connection.execute(sa.select(tables.study.c.patient_name)).scalars())
        jobs = set(connection.execute(sa.select(tables.job.c.state)).scalars())
        refused = connection.execute(sa.select(sa.func.count()).select_from(tables.quarantine)).scalar_one()
        attempts = connection.execute(sa.select(sa.func.count()).select_from(tables.refusal)).scalar_one()
    assert PATIENT["PatientName"] in names
    assert {"SUCCEEDED", "REFUSED"} <= jobs
    assert refused >= 6
    assert attempts >= 2


def test_no_log_has_them(seen: Seen) -> None:
    assert planted(seen.log) == []
    processes = {json.loads(line)["process"] for line in seen.log.splitlines() if line.startswith("{")}
    assert {process.partition("-")[0] for process in processes} >= {"supervisor", "scp", "clock", "transfer", "process"}


def test_no_report_has_them(seen: Seen) -> None:
    assert planted(seen.status) == []
    assert "not accepted" in seen.status


def test_no_metric_has_them(seen: Seen) -> None:
    for process, page in seen.metrics.items():
        assert planted(page) == [], process
    assert 'athanor_sent_instances_total{destination="pacs",status="0xA900"}' in seen.metrics["transfer-0"]
    assert 'athanor_received_instances_total{calling_ae_title="other"}' in seen.metrics["scp-0"]


def test_the_audit_trail_names_the_study_and_withholds_the_patient(seen: Seen) -> None:
    assert planted(seen.audit) == []
    for event in ("110100", "110102", "110104", "110113"):
        assert f'csd-code="{event}"' in seen.audit, event
    assert 'ParticipantObjectID="withheld"' in seen.audit


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (table.name, column.name)
        for table in tables.metadata.sorted_tables
        for column in table.c
        if (table.name, column.name) not in FOR_PATIENTS
    ],
)
def test_no_other_column_of_the_database_has_them(seen: Seen, table: str, column: str) -> None:
    with seen.database.read() as connection:
        values = connection.execute(sa.select(tables.metadata.tables[table].c[column])).scalars().all()
    assert planted("\n".join(json.dumps(value, default=str) for value in values)) == []

"""Peers of the end-to-end tests: a modality that sends, an Orthanc that answers, what the gateway says of it all."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from gateway.commands.sandbox import Sandbox, SmallPacs, free_port
from gateway.store import reports
from gateway.store.database import Database

RELEASED = Path(__file__).parents[2] / "weights"

TO_PACS = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs"]
when = { attribute = "Modality", equals = "MR" }
"""
"""One rule: every MR series becomes a synthetic STIR for the destination pacs."""


@dataclass(slots=True)
class Orthanc:
    """A real Orthanc as the PACS; it can forward what it holds back to the gateway."""

    dicom_port: int
    http_port: int

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}", data=json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def upload(self, path: Path) -> str:
        """Store a file through the web port; Orthanc's id of it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/instances", data=path.read_bytes(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["ID"])

    def instances(self, folder: Path, series_uid: str | None = None) -> list[Path]:
        """Write every stored instance (of one series) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for found in self.get("/instances"):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/instances/{found}/file") as answer:
                content = answer.read()
            file = folder / f"{found}.dcm"
            file.write_bytes(content)
            if series_uid in {None, str(pydicom.dcmread(file, stop_before_pixels=True).SeriesInstanceUID)}:
                files.append(file)
        return files


@contextmanager
def running_orthanc(folder: Path, **configuration: Any) -> Iterator[Orthanc]:
    """An Orthanc with AE title ORTHANC that keeps what it has in `folder`; `configuration` is in its own words."""
    orthanc = Orthanc(free_port(), free_port())
    own = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": orthanc.dicom_port,
        "HttpPort": orthanc.http_port,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps({**own, **configuration}))
    with (folder / "orthanc.log").open("wb") as log:
        server = subprocess.Popen(["Orthanc", str(file)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                orthanc.get("/system")
                break
            except OSError:
                assert server.poll() is None, f"Orthanc stopped; {log.name} says why"
                assert time.monotonic() < until, "Orthanc did not start"
                time.sleep(0.1)
        yield orthanc
    finally:
        server.terminate()
        server.wait(30)


WritePhantom = Callable[..., list[Path]]
MakeGateway = Callable[..., Sandbox]


def series_uid(paths: list[Path]) -> str:
    """Series Instance UID of the first file."""
    return str(pydicom.dcmread(paths[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def storescu(port: int, paths: list[Path], *options: str) -> subprocess.CompletedProcess[str]:
    """DCMTK's storescu as the modality."""
    command = ["storescu", "-v", "-aet", "SCANNER", "-aec", "ATHANOR", *options, "127.0.0.1", str(port)]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, timeout=120, check=False)


def made_from(paths: list[Path], pacs: SmallPacs) -> list[pydicom.Dataset]:
    """What the PACS has that was made from these instances, as it came and as often as it came."""
    sources = {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in paths}
    received = [pydicom.dcmread(file) for _, file in pacs.received]
    return [ds for ds in received if str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) in sources]


def sent_and_returned(node: Sandbox, paths: list[Path], pacs: SmallPacs) -> list[pydicom.Dataset]:
    """Sends a series by storescu, looks that its one job succeeded, and gives what came back to the PACS."""
    assert storescu(node.port, paths).returncode == 0
    database = node.database()
    try:
        node.wait_until_finished(database, series_uid(paths), 90)
        (job,) = detail_of(database, series_uid(paths))["jobs"]
    finally:
        database.close()
    assert job["state"] == "SUCCEEDED", job["error"]
    return made_from(paths, pacs)


def detail_of(database: Database, uid: str) -> dict[str, Any]:
    """Everything that the gateway says about a series."""
    with database.read() as connection:
        series_id = reports.find_series(connection, uid)
        assert series_id is not None, f"series {uid} is not known"
        return reports.series_detail(connection, series_id)


def switched_on(folder: Path, *pipelines: str) -> Path:
    """`folder` with the models that ship, where `pipelines`, which ship disabled, are enabled."""
    shutil.copytree(RELEASED, folder)
    for name in pipelines:
        manifest = folder / name / "manifest.toml"
        text = manifest.read_text(encoding="utf-8")
        assert "\nenabled = false\n" in text, "it ships disabled"
        manifest.write_text(text.replace("\nenabled = false\n", "\nenabled = true\n"), encoding="utf-8")
    return folder

"""A destination in a process of its own: pynetdicom's SCP, a foreign peer, which logs each C-STORE that comes.

    python recording_pacs.py PORT FOLDER

The bytes of a data set are in the folder under their SHA-256, and a line of JSON says who came when.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from gateway.commands.sandbox import free_port
from gateway.services.notify import ReadyChannel, notify

_LOG = "stored.jsonl"


@dataclass(frozen=True)
class Recorded:
    """One C-STORE that came, in the shape of `fault_pacs.Stored`."""

    sop_instance_uid: str
    transfer_syntax_uid: str
    status: int
    file: Path

    @cached_property
    def encoded(self) -> bytes:
        """The data set as it came."""
        return self.file.read_bytes()


def recorded(folder: Path) -> list[Recorded]:
    """Everything that has come, in its order."""
    log = folder / _LOG
    lines = log.read_text().splitlines() if log.exists() else []
    rows = map(json.loads, lines)
    return [Recorded(row["uid"], row["syntax"], row["status"], folder / row["sha256"]) for row in rows]


class RecordingPacs:
    """A destination in a process of its own that keeps and logs whatever comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        with ReadyChannel() as channel:
            program = [sys.executable, __file__, str(self.port), str(folder)]
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *program], env={**os.environ, "NOTIFY_SOCKET": channel.address}
            )
            assert channel.wait(30), "the recording PACS did not start"

    def __iter__(self) -> Iterator[Recorded]:
        """Everything that has come until now."""
        return iter(recorded(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def main(port: int, folder: Path) -> None:
    """Listen until SIGTERM."""
    log = os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def store(event: Any) -> int:
        content = event.request.DataSet.getvalue()
        sha256 = hashlib.sha256(content).hexdigest()
        (folder / sha256).write_bytes(content)
        row = {
            "uid": str(event.request.AffectedSOPInstanceUID), "syntax": str(event.context.transfer_syntax),
            "status": 0x0000, "sha256": sha256,
        }  # fmt: skip
        os.write(log, json.dumps(row).encode() + b"\n")
        return 0x0000

    entity = AE("PACS")
    entity.network_timeout = 30
    for sop_class in (MRImageStorage, SecondaryCaptureImageStorage):
        entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    assert server is not None, "not blocking, it gives its server"
    notify("READY=1")
    stopping.wait()
    server.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

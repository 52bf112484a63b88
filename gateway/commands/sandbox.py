"""A whole gateway in a folder of its own, on free ports, with a small PACS: for the demo, benches and tests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tomlkit

from gateway.errors import ConfigurationError, Unavailable
from gateway.network.part10 import part10_prefix
from gateway.network.receiver import AssociationEnd, AssociationInfo, Buffer, Incoming, StoreAnswer, StoreRequest
from gateway.network.scp import ScpConfig, StorageScp
from gateway.network.scu import DestinationAddress, OutgoingInstance, SendReport, send
from gateway.services.notify import ReadyChannel
from gateway.settings import Settings, read_settings
from gateway.store import reports
from gateway.store.database import Database

_START_WITHIN_S = 120.0
_STOP_WITHIN_S = 100.0
_LOOK_EVERY_S = 0.05
# a rule of its own: the rules.toml of the folder we happen to stand in may mean other destinations
_RULES = """\
[[rules]]
name = "t2-to-stir"
description = "Sagittal T2W of the lumbar spine: add a synthetic STIR."
pipeline = "t2-to-stir"
destinations = ["pacs"]

[rules.when]
all = [
    { attribute = "Modality", equals = "MR" },
    { attribute = "EchoTime", between = [70, 150] },
    { attribute = "SeriesDescription", contains = "sag" },
]
"""


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on, and that no connection is given as its own meanwhile.

    Systems give connections the ports from 32768 on (Linux) or higher; one of those could be taken between this call
    and the start of the server that it is for.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)  # whoever forked or seeded us does not matter
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _require_own_settings() -> None:
    """Raise ConfigurationError when the environment would lead a sandbox to the database or the port of a real node."""
    found = [
        name
        for name in os.environ
        if name.startswith("ATHANOR_") and "__" in name and not name.startswith("ATHANOR_PROCESS__")
    ]
    if found:
        raise ConfigurationError(
            f"environment: found {', '.join(sorted(found))}; expected none, for it would stand above the settings of "
            "the sandbox; unset it"
        )


@dataclass(slots=True)
class SmallPacs:
    """A storage SCP that keeps what it accepts in a folder, one folder a series. Nothing else: it is no archive."""

    folder: Path
    port: int = 0
    received: list[tuple[float, Path]] = field(default_factory=list)
    _scp: StorageScp | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        config = ScpConfig(ae_title="PACS", port=self.port)
        self._scp = StorageScp(config, self)
        self._scp.start()
        self.port = self._scp.port
        return self

    def __exit__(self, *_: object) -> None:
        if self._scp:
            self._scp.stop(1.0)

    def association_opened(self, info: AssociationInfo) -> None:
        """Nothing to do."""

    def association_ended(self, info: AssociationInfo, how: AssociationEnd) -> None:
        """Nothing to do."""

    def begin(self, request: StoreRequest) -> Incoming:
        """Keep one instance, named by its UID, which the SCP checked to be digits and dots."""
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix = part10_prefix(
            request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid,
            request.association.calling_ae_title,
        )  # fmt: skip
        return _Kept(self, self.folder / f"{request.sop_instance_uid}.dcm", prefix)

    def keep(self, file: Path, content: bytes) -> None:
        """Keep a file and remember when."""
        file.write_bytes(content)
        with self._lock:
            self.received.append((time.time(), file))


class _Kept:
    """An instance on its way into the small PACS."""

    def __init__(self, pacs: SmallPacs, file: Path, prefix: bytes) -> None:
        self._pacs = pacs
        self._file = file
        self._content = bytearray(prefix)

    def write(self, *pieces: Buffer) -> None:
        """Copied, for the piece is lent."""
        for piece in pieces:
            self._content += piece

    def finish(self) -> StoreAnswer:
        """Success, whatever it is."""
        self._pacs.keep(self._file, bytes(self._content))
        return StoreAnswer(0x0000)

    def discard(self) -> None:
        """Nothing of it is kept."""


class Sandbox:
    """`athanor up` as a child process, with its settings, state and log in `folder`."""

    def __init__(self, folder: Path, overrides: Mapping[str, Any], rules: Path | None = None) -> None:
        _require_own_settings()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.settings_file = self.folder / "settings.toml"
        self.log_file = self.folder / "gateway.log"
        values: dict[str, Any] = {
            "log_format": "json",
            "node": {"state_dir": "state"},
            "listener": {"port": free_port()},
            "spool": {"reserve_bytes": 0},
        }
        if rules is None:
            rules = self.folder / "rules.toml"
            rules.write_text(_RULES, encoding="utf-8")
        values["rules"] = {"seed": str(rules.resolve())}
        for section, table in overrides.items():
            values[section] = {**values.get(section, {}), **table} if isinstance(table, Mapping) else table
        self.settings_file.write_text(tomlkit.dumps(values))
        self.settings: Settings = read_settings(self.settings_file)
        self.port = self.settings.listener.port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the gateway and return when every process of it is ready."""
        with ReadyChannel() as channel, self.log_file.open("ab") as log:
            environment = {**os.environ, "ATHANOR_SETTINGS": str(self.settings_file), "NOTIFY_SOCKET": channel.address}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "up"], env=environment, stdout=log, stderr=log
            )
            until = time.monotonic() + _START_WITHIN_S
            while not channel.wait(0.5):
                if self.process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise Unavailable(f"the gateway did not start; {self.log_file} says why")

    def stop(self) -> int:
        """SIGTERM, wait for the drain; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, paths: Sequence[Path], calling_ae_title: str = "SCANNER", on_answer: Any = None) -> SendReport:
        """Send files to this gateway over one association, as a modality would."""
        address = DestinationAddress(self.settings.node.ae_title, "127.0.0.1", self.port, calling_ae_title)
        instances = [OutgoingInstance.read(path) for path in paths]
        return send(address, instances, on_answer or (lambda *_: None))

    def database(self) -> Database:
        """The gateway's database."""
        return Database(self.settings.database_url)

    def wait_until_finished(self, database: Database, series_uid: str, timeout_s: float, *, revision: int = 1) -> int:
        """Return the id of the series when it has reached its visible end. Raises Unavailable after `timeout_s`."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with database.read() as connection:
                series_id = reports.find_series(connection, series_uid)
                if series_id is not None and reports.is_finished(connection, series_id, revision):
                    return series_id
            time.sleep(_LOOK_EVERY_S)
        raise Unavailable(f"series {series_uid} has not ended within {timeout_s:g} s; see {self.log_file}")

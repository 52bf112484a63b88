"""The receiver of a gateway as a process of its own, without the rest: what it holds is measured."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil
import tomlkit

from gateway.commands.sandbox import free_port
from gateway.services.notify import ReadyChannel
from gateway.settings import read_settings
from gateway.store.database import Database

_READY_WITHIN_S = 60.0
_SETTLED_WITHIN_S = 15.0
_MEASURED_EVERY_S = 0.1


class LoneReceiver:
    """`athanor scp` on a database of its own; a context. `listener` is that table of its settings."""

    def __init__(self, folder: Path, **listener: Any) -> None:
        folder.mkdir(parents=True)
        tables: Mapping[str, Any] = {
            "log_format": "json", "node": {"state_dir": "state"}, "spool": {"reserve_bytes": 0}, "rules": {"seed": ""},
            "listener": {"port": free_port(), "processes": 1, **listener},
        }  # fmt: skip
        self._file = folder / "settings.toml"
        self._file.write_text(tomlkit.dumps(tables), encoding="utf-8")
        self.settings = read_settings(self._file)
        self.log_file = folder / "scp.log"
        self.rss_mb = 0.0
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._measure)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.settings.listener.port

    def __enter__(self) -> Self:
        database = Database(self.settings.database_url)
        database.upgrade()
        database.close()
        with ReadyChannel() as channel, self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "gateway", "scp"],
                env={**os.environ, "ATHANOR_SETTINGS": str(self._file), "NOTIFY_SOCKET": channel.address},
                stdout=log, stderr=log,
            )  # fmt: skip
            ready = channel.wait(_READY_WITHIN_S)
        assert ready, f"the receiver is not ready; see {self.log_file}"
        self.main = psutil.Process(self._process.pid)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        if not self._stop.is_set():
            self._stop.set()
            self._watch.join()
            self._process.terminate()
        return self._process.wait(60)

    def counts(self) -> tuple[int, int]:
        """Descriptors and threads in use; those of the database come and go as its pool likes."""
        return sum(map(_descriptors, every := self._all())), sum(one.num_threads() for one in every)

    def cpu_s(self) -> float:
        """Seconds of processor used so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def settled(self, before: tuple[int, int]) -> tuple[int, int]:
        """The counts when they are down to `before` again, or what is left after a while."""
        until = time.monotonic() + _SETTLED_WITHIN_S
        while True:
            counts = self.counts()
            if (counts[0] <= before[0] and counts[1] <= before[1]) or time.monotonic() > until:
                return counts
            time.sleep(_MEASURED_EVERY_S)

    def errors(self) -> list[str]:
        """Lines of its log that tell of faults of our own."""
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        told = [line for line in lines if line.startswith("{") and json.loads(line)["level"] in ("error", "critical")]
        return [*told, *(line for line in lines if line.startswith("Traceback"))]

    def _measure(self) -> None:
        while not self._stop.wait(_MEASURED_EVERY_S):
            try:
                self.rss_mb = max(self.rss_mb, sum(one.memory_info().rss for one in self._all()) / 1e6)
            except psutil.NoSuchProcess:
                continue

    def _all(self) -> list[psutil.Process]:
        return [self.main, *self.main.children(recursive=True)]


def _descriptors(process: psutil.Process) -> int:
    number = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            number += ".sqlite" not in link.readlink().name
    return number

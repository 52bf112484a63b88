"""`athanor up`: starts every process of a node in order, restarts what dies, and drains on SIGTERM.

    broker (embedded) -> schema -> transfer worker, process workers, clock, web -> SCP

The SCP comes last and goes first: nothing is accepted that nobody would work on. Each process tells that it is ready
by sd_notify(3), to us as it would to systemd.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from gateway import logs
from gateway.errors import Unavailable
from gateway.flow import PROCESS_QUEUE, TRANSFER_QUEUE
from gateway.services import broker
from gateway.services.notify import ReadyChannel, notify
from gateway.settings import Settings
from gateway.store import heartbeats
from gateway.store.database import Database
from gateway.store.rulebook import seed_rules

_READY_WITHIN_S = 120.0
_DRAIN_S = 75.0
_FIRST_RESTART_S = 0.2
_LONGEST_RESTART_S = 30.0
_STEADY_AFTER_S = 20.0  # a process that ran this long may be restarted at once again
_LOOK_EVERY_S = 0.1
_LISTEN_S = 5.0

_LIBC = ctypes.CDLL(None)

log = logs.get("supervisor")


@dataclass(slots=True)
class Child:
    """One process to keep alive."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    wait_s: float = _FIRST_RESTART_S
    restarts: int = 0
    ready: threading.Event = field(default_factory=threading.Event)
    run: int = 0
    silent_s: float = 0.0  # since its last sign of life, counted while we run ourselves

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts and keeps the processes of one node."""

    def __init__(self, settings: Settings, settings_file: Path | None, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._file = settings_file
        self._broker = Child("broker", broker.command(settings)) if settings.broker_is_embedded else None
        workers = [
            self._child(f"process-{index}", "worker", "--queue", PROCESS_QUEUE, "--index", str(index))
            for index in range(count_devices(settings.process.device))
        ]
        self._children = [
            self._child("transfer", "worker", "--queue", TRANSFER_QUEUE),
            *workers,
            self._child("clock", "clock"),
            *([self._child("web", "web")] if settings.web.enabled else []),
            self._child("scp", "scp"),
        ]

    def _child(self, name: str, *arguments: str) -> Child:
        return Child(name, [sys.executable, "-m", "gateway", *arguments])

    def run(self) -> int:
        """Keep everything running until SIGTERM; the exit code."""
        try:
            self._start_all()
            if not self._stopping.is_set():
                log.info("ready", processes=[child.name for child in self._all()])
                notify("READY=1")
            while not self._stopping.wait(_LOOK_EVERY_S):
                self._look_after()
        finally:
            self._stop_all()
        return 0

    def _all(self) -> list[Child]:
        return ([self._broker] if self._broker else []) + self._children

    def _start_all(self) -> None:
        if self._broker:
            self._start(self._broker)
            broker.wait_until_ready(self._settings, _READY_WITHIN_S)
        database = Database(self._settings.database_url)
        database.upgrade()
        seed_rules(database, self._settings)
        if self._broker:
            with database.write() as connection:
                heartbeats.forget_all(connection)
        database.close()
        *first, scp = self._children
        for child in first:
            self._start(child)
        for child in first:
            self._wait_until_ready(child)
        self._start(scp)
        self._wait_until_ready(scp)

    def _start(self, child: Child) -> None:
        environment = dict(os.environ)
        if self._file:
            environment["ATHANOR_SETTINGS"] = str(self._file.resolve())
        if child is not self._broker:
            environment["NOTIFY_SOCKET"] = self._listen(child)
        child.ready.clear()
        child.silent_s = 0.0
        child.started_at = time.monotonic()
        child.process = subprocess.Popen(  # noqa: S603 - our own command line
            child.command,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us alone, and we drain in order
            preexec_fn=_die_with_parent,
        )
        log.info("started", child=child.name, pid=child.process.pid)

    def _listen(self, child: Child) -> str:
        """Hear in the background what this run of the child has to say; the address to hand to it."""
        channel = ReadyChannel()
        child.run += 1
        run = child.run

        def listen() -> None:
            with channel:
                while child.run == run:
                    heard = channel.hear(_LISTEN_S)
                    if heard and child.run == run:
                        child.silent_s = 0.0
                    if "READY=1" in heard:
                        child.ready.set()

        threading.Thread(target=listen, daemon=True, name=f"hear-{child.name}").start()
        return channel.address

    def _wait_until_ready(self, child: Child) -> None:
        until = time.monotonic() + _READY_WITHIN_S
        while not child.ready.wait(_LOOK_EVERY_S):
            if self._stopping.is_set():
                return
            self._look_after()
            if time.monotonic() > until:
                raise Unavailable(f"{child.name}: not ready within {_READY_WITHIN_S:g} s; its log above says why")

    def _look_after(self) -> None:
        """Kill what gives no sign of life, and restart what died, each with its own growing pause."""
        for child in self._all():
            if child.process is None:
                continue
            if child.is_alive:
                self._miss(child)
                continue
            if child.restart_at == 0.0:
                if time.monotonic() - child.started_at > _STEADY_AFTER_S:
                    child.wait_s = _FIRST_RESTART_S
                child.restart_at = time.monotonic() + child.wait_s
                log.error(
                    "died",
                    child=child.name,
                    code=child.process.returncode,
                    restart_in_s=round(child.wait_s, 1),
                )
                child.wait_s = min(child.wait_s * 2, _LONGEST_RESTART_S)
            elif time.monotonic() >= child.restart_at:
                child.restart_at = 0.0
                child.restarts += 1
                self._start(child)

    def _miss(self, child: Child) -> None:
        """A process that was ready once says every other second that it lives; the broker says nothing."""
        if child is self._broker or not child.ready.is_set():
            return
        child.silent_s += _LOOK_EVERY_S
        if child.silent_s > self._settings.node.watchdog_s and child.process is not None:
            log.error("killed", child=child.name, reason="no sign of life", for_s=round(child.silent_s))
            child.process.kill()
            child.silent_s = 0.0

    def _stop_all(self) -> None:
        """The SCP first, so that nothing new comes; the broker last, so that everybody can still speak."""
        log.info("draining")
        *workers, scp = self._children
        for group in ([scp], workers, [self._broker] if self._broker else []):
            for child in group:
                if child.is_alive and child.process:
                    child.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + _DRAIN_S
            for child in group:
                if child.process is None:
                    continue
                try:
                    child.process.wait(max(0.1, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("killed", child=child.name, after_s=_DRAIN_S)
                    child.process.kill()
                    child.process.wait()
        log.info("stopped")


def die_at_once_with_parent() -> None:
    """In the child: SIGKILL when its parent dies, however it dies."""
    _LIBC.prctl(1, signal.SIGKILL)


def _die_with_parent() -> None:
    """In the child: SIGTERM when the supervisor dies, however it dies (prctl(2), PR_SET_PDEATHSIG)."""
    _LIBC.prctl(1, signal.SIGTERM)


def count_devices(device: str) -> int:
    """How many process workers: one for each GPU, else one. Asks the driver's files; torch is not loaded here."""
    if device not in {"auto", "cuda"}:
        return 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return max(1, len([part for part in visible.split(",") if part.strip()]))
    return max(1, len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))

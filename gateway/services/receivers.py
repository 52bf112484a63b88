"""Several processes on one port: this one listens, and hands each connection to the receiver that has the fewest.

    accept > the receiver with the fewest connections of that address, then of all > its own thread there

The listening socket outlives the receivers: while one is being restarted the others receive, and while all are,
connections wait in the kernel's queue instead of being refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway import logs
from gateway.network.scp import listen, plain_address
from gateway.services.notify import notify
from gateway.services.scp import GONE, READY, config_of, count_processes, tls_config_of
from gateway.services.supervisor import die_at_once_with_parent
from gateway.settings import Settings

_FIRST_RESTART_S = 0.2
_LONGEST_RESTART_S = 30.0
_STEADY_AFTER_S = 20.0
_STOP_WITHIN_S = 60.0
_STALL_S = 0.2

log = logs.get("scp")


@dataclass(slots=True)
class _Receiver:
    """One process that receives, and how many connections of each address it has."""

    index: int
    process: subprocess.Popen[bytes]
    channel: socket.socket
    pause_s: float  # before it starts again, should it die
    started_at: float
    is_ready: bool = False
    connections: Counter[str] = field(default_factory=Counter)


class Receivers:
    """Listens on the ports of the settings and keeps the processes that receive."""

    def __init__(self, settings: Settings, settings_file: Path | None, stopping: threading.Event) -> None:
        self._settings = settings
        self._settings_file = settings_file
        self._stopping = stopping
        self._selector = selectors.DefaultSelector()
        self._receivers: dict[int, _Receiver] = {}
        self._restarts: dict[int, tuple[float, float]] = {}  # of what died: when it starts again, and its next pause
        self._listeners: dict[str, socket.socket] = {}
        self._accepts = False
        self._was_ready = False

    def run(self) -> None:
        """Receive until SIGTERM, then let open associations end. Raises ConfigurationError. In the main thread only."""
        configs = {"port": config_of(self._settings)}
        if (secure := tls_config_of(self._settings)) is not None:
            configs["tls_port"] = secure
        self._listeners = {name: listen(config) for name, config in configs.items()}
        with _woken_by_signals(self._selector):
            self._restarts = dict.fromkeys(range(count_processes(self._settings)), (0.0, _FIRST_RESTART_S))
            while not self._stopping.is_set():
                for index in [index for index, (at, _) in self._restarts.items() if at <= time.monotonic()]:
                    self._start(index)
                for key, _ in self._selector.select(self._next_restart_s()):
                    if isinstance(key.data, _Receiver):
                        self._hear(key.data)
                    elif isinstance(key.data, str):
                        self._accept(key.data)
        self._stop()

    def _start(self, index: int) -> None:
        _, pause_s = self._restarts.pop(index)
        ports = {name: listener.getsockname()[1] for name, listener in self._listeners.items()}
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        if self._settings_file:
            environment["ATHANOR_SETTINGS"] = str(self._settings_file.resolve())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        command = [sys.executable, "-m", "gateway", "scp", "--index", str(index)]
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [*command, "--channel", str(theirs.fileno()), "--ports", json.dumps(ports)],
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=die_at_once_with_parent,
            )
        self._receivers[index] = receiver = _Receiver(index, process, ours, pause_s, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, receiver)
        log.info("started", child=f"scp-{index}", pid=process.pid)

    def _hear(self, receiver: _Receiver) -> None:
        """A receiver is ready, or has one connection less, or is dead."""
        try:
            message = receiver.channel.recv(256)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._bury(receiver)
        elif message == READY:
            receiver.is_ready = True
        else:
            receiver.connections[message.removeprefix(GONE).decode()] -= 1
        self._listen_while_somebody_receives()

    def _bury(self, receiver: _Receiver) -> None:
        self._selector.unregister(receiver.channel)
        receiver.channel.close()
        del self._receivers[receiver.index]
        code = receiver.process.wait()
        lived_s = time.monotonic() - receiver.started_at
        pause_s = _FIRST_RESTART_S if lived_s > _STEADY_AFTER_S else receiver.pause_s
        self._restarts[receiver.index] = time.monotonic() + pause_s, min(2 * pause_s, _LONGEST_RESTART_S)
        log.error("died", child=f"scp-{receiver.index}", code=code, restart_in_s=round(pause_s, 1))

    def _listen_while_somebody_receives(self) -> None:
        ready = [receiver for receiver in self._receivers.values() if receiver.is_ready]
        if ready and not self._accepts:
            for name, listener in self._listeners.items():
                self._selector.register(listener, selectors.EVENT_READ, name)
        elif self._accepts and not ready:
            for listener in self._listeners.values():
                self._selector.unregister(listener)
        self._accepts = bool(ready)
        if not self._was_ready and len(ready) == len(self._receivers) and not self._restarts:
            self._was_ready = True
            notify("READY=1")
            log.info("ready", processes=len(ready))

    def _accept(self, name: str) -> None:
        """Take a connection and hand it on; whoever gets it answers for it."""
        try:
            sock, peer = self._listeners[name].accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptors left: those that were handed on are closed in a moment
            log.warning("cannot take a connection", reason=error.strerror)
            self._stopping.wait(_STALL_S)
            return
        address = plain_address(peer[0])
        ready = [receiver for receiver in self._receivers.values() if receiver.is_ready]
        with sock:
            if not ready:
                return
            chosen = min(ready, key=lambda one: (one.connections[address], one.connections.total(), one.index))
            try:
                socket.send_fds(chosen.channel, [json.dumps([name, address, peer[1]]).encode()], [sock.fileno()])
            except OSError as error:  # it dies, or is too busy to hear: the peer will try again
                log.warning("connection closed", address=address, reason=error.strerror)
            else:
                chosen.connections[address] += 1

    def _next_restart_s(self) -> float | None:
        """How long to wait for events; None while nothing is to be restarted."""
        if not self._restarts:
            return None
        return max(0.0, min(at for at, _ in self._restarts.values()) - time.monotonic())

    def _stop(self) -> None:
        """Accept no more, and let every receiver end what it has."""
        notify("STOPPING=1")
        for listener in self._listeners.values():
            listener.close()
        for receiver in self._receivers.values():
            receiver.channel.close()
        until = time.monotonic() + _STOP_WITHIN_S
        for receiver in self._receivers.values():
            try:
                receiver.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("killed", child=f"scp-{receiver.index}", after_s=_STOP_WITHIN_S)
                receiver.process.kill()
                receiver.process.wait()
        self._selector.close()
        log.info("stopped")


@contextlib.contextmanager
def _woken_by_signals(selector: selectors.BaseSelector) -> Iterator[None]:
    """Have `selector` wake when a signal comes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before = signal.set_wakeup_fd(theirs.fileno())
        selector.register(ours, selectors.EVENT_READ)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            selector.unregister(ours)

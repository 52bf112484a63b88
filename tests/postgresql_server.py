"""A PostgreSQL server of a test's own: it can be killed, and started again on the same data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import sqlalchemy as sa
from process_family import kill_family
from sqlalchemy.engine import make_url

from gateway.commands.sandbox import free_port


class PostgresqlServer:
    """Lives in a folder of its own, which `stop` removes. It syncs no file: processes die here, machines do not."""

    def __init__(self) -> None:
        # not below pytest's folder, which is closed to other users: the server is one, and would crash
        self.folder = Path(tempfile.mkdtemp(prefix="athanor-postgresql-"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port = free_port()
        self._data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        initdb = [_program("initdb"), "-D", str(self._data), "-U", "athanor", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(_as_postgres(initdb), check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    @property
    def url(self) -> str:
        """URL of its maintenance database."""
        return f"postgresql://athanor@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, on the data that it had."""
        options = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.folder), "-F"]
        command = _as_postgres([_program("postgres"), *options])
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self.folder)

    def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Return when it takes connections."""
        engine = sa.create_engine(make_url(self.url).set(drivername="postgresql+psycopg"))
        until = time.monotonic() + timeout_s
        while True:
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                assert time.monotonic() < until, "PostgreSQL did not start"
                time.sleep(0.05)
        engine.dispose()

    def create_database(self) -> str:
        """URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex}"
        admin = sa.create_engine(make_url(self.url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        admin.dispose()
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def kill(self) -> None:
        """SIGKILL the postmaster, then every process of it: as when the machine's memory ran out."""
        assert self.process is not None, "start() comes first"
        kill_family(self.process)

    def stop(self) -> None:
        """A fast shutdown: whoever is still connected is cut off. The folder goes too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        shutil.rmtree(self.folder)


def _program(name: str) -> str:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found, f"{name}: not found; apt-get install postgresql"
    return found


def _as_postgres(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    # PostgreSQL refuses to run as root
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]

"""Real servers for every test that asks for one: PostgreSQL, a broker, free ports."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import make_url

from gateway.commands.sandbox import free_port
from gateway.store.database import Database


def _postgresql_program(name: str) -> str:
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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of this test run's own."""
    # not below pytest's folder, which is closed to other users: the server is one, and would crash
    folder = Path(tempfile.mkdtemp(prefix="athanor-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, port = folder / "data", free_port()
    initdb = [_postgresql_program("initdb"), "-D", str(data), "-U", "athanor", "-A", "trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(_as_postgres(initdb), check=True, stdout=subprocess.DEVNULL, cwd=folder)
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    server = subprocess.Popen(
        _as_postgres([_postgresql_program("postgres"), *options]), stderr=subprocess.DEVNULL, cwd=folder
    )
    url = f"postgresql://athanor@127.0.0.1:{port}/postgres"
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    until = time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            break
        except sa.exc.OperationalError:
            assert time.monotonic() < until, "PostgreSQL did not start"
            time.sleep(0.05)
    engine.dispose()
    yield url
    server.send_signal(signal.SIGINT)  # a fast shutdown: whoever is still connected is cut off
    server.wait(30)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'athanor.sqlite'}"
        return
    server = make_url(request.getfixturevalue("postgresql"))
    name = f"t{os.getpid()}_{time.monotonic_ns()}"
    admin = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database with the schema of today."""
    opened = Database(database_url)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """What a test does to logging, such as setting it up as a process would, ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)

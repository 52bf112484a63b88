"""What a gateway stands on fails under load and is repaired: the disk, the broker, the database, the clock.

How each fault is brought about, and what it takes:

- a full disk: a small tmpfs holds the state folder and is filled to the last byte (root may mount; else skipped)
- an I/O error, a slow disk: strace(1) lets fsync(2) of the running processes fail, or return late (else skipped)
- the clock: the database's own, put forward and back by a function of ours that PostgreSQL finds before its own
- everything else: signals, and the commands of an administrator
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
import sqlalchemy as sa
from fault_fixtures import CountFault, MakeGateway, Tell
from load import AnswerLog, Load, Modality
from parts import Gateway
from pydicom.dataset import Dataset
from sqlalchemy.engine import make_url

from gateway.domain.states import JobState
from gateway.errors import Unavailable
from gateway.store.database import Database
from gateway.store.tables import job

_AT_MOST_UNDER_WAY = 8
_OUT_OF_RESOURCES = 0xA700
_HOUR_S = 3600
_NOTICED = "put forward or back"


class Loaded:
    """A gateway under load, and how far it has come."""

    def __init__(self, gateway: Gateway, answers: AnswerLog, template: Dataset, seed: object) -> None:
        self.gateway = gateway
        self.answers = answers
        self._database = gateway.database()
        modalities = [Modality(gateway.port, f"SCANNER{number}", answers, seed, 0.02) for number in range(2)]
        self.load = Load(modalities, template, self._busy, _AT_MOST_UNDER_WAY)

    def _busy(self) -> int:
        try:
            return self.gateway.under_way(self._database)
        except Unavailable:
            return 0

    def wait_for(self, what: str, condition: Callable[[], object], timeout_s: float = 40.0) -> None:
        """Wait until `condition()` holds, and start again what ended by itself; fail with `what`."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
            self.gateway.look_after()
            time.sleep(0.05)

    def work_on(self, series: int = 3) -> None:
        """Let so many more series be acknowledged."""
        wanted = self.load.series + series
        self.wait_for(f"{series} more series", lambda: self.load.series >= wanted)

    def refused(self) -> int:
        """How many C-STOREs were answered that there is no room."""
        return sum(answer.status == _OUT_OF_RESOURCES for answer in self.answers)

    def require_kept(self) -> str:
        """Everything that was acknowledged has come to its end; the report in a line."""
        self._database.close()
        self.gateway.wait_until_ready()
        report = self.gateway.check(self.answers)
        report.require_kept()
        # a series that closed while its sender was refused may lack instances; the revision with all of them succeeds
        with self._database.read() as connection:
            ends = sa.select(job.c.state, job.c.revision, job.c.error).where(~job.c.superseded)
            last = [tuple(row) for row in connection.execute(ends.where(job.c.state != JobState.SUCCEEDED))]
        self._database.close()
        assert last == []
        return report.summary()


MakeLoaded = Callable[[Gateway], Loaded]


@pytest.fixture
def loaded(answers: AnswerLog, template: Dataset, request: pytest.FixtureRequest) -> MakeLoaded:
    """Puts a gateway under load."""
    seed = int(request.config.getoption("--faults-seed", 1))
    # every test has patients of its own: the gateways are shared
    return lambda gateway: Loaded(gateway, answers, template, f"{request.node.name} {seed}")


@pytest.fixture(scope="module")
def on_sqlite(make_gateway: MakeGateway) -> Gateway:
    return make_gateway("sqlite")


@pytest.fixture(scope="module")
def on_postgresql(make_gateway: MakeGateway) -> Gateway:
    return make_gateway("postgresql")


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(
    small_disk: Path, make_gateway: MakeGateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(make_gateway("sqlite", node={"state_dir": str(small_disk / "s")}))
    with under.load:
        under.work_on(2)
        ballast = small_disk / "ballast"
        _fill(ballast)
        under.wait_for("instances are refused", lambda: under.refused() > 3)
        ballast.unlink()
        under.work_on()
    count_fault("disk fault")
    tell(f"full disk: {under.refused()} refused; {under.require_kept()}")


def _fill(file: Path) -> None:
    """Take every byte that is left, and what becomes free."""
    with file.open("wb", buffering=0) as opened:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    opened.write(bytes(size))
            except OSError:
                continue


@contextmanager
def _traced(gateway: Gateway, names: list[str], inject: str) -> Iterator[None]:
    """Let fsync of some parts behave as strace's `inject` says, until the end of the block."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    calls = "fsync,fdatasync"
    tracers = []
    for name in names:
        process = gateway.parts[name].process
        assert process is not None
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        every = [part for pid in family for part in ("-p", str(pid))]
        command = ["strace", "-f", *every, "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"]
        tracers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    try:
        for tracer in tracers:
            assert tracer.stderr is not None
            if "attached" not in (said := tracer.stderr.readline()):
                pytest.skip(f"strace may not trace here: {said.strip()}")
            # it says much and is not to wait for us
            subprocess.Popen(["cat"], stdin=tracer.stderr, stdout=subprocess.DEVNULL)
        yield
    finally:
        for tracer in tracers:
            tracer.terminate()
            tracer.wait(10)


def test_a_disk_that_reports_errors(
    on_sqlite: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(on_sqlite)
    with under.load:
        under.work_on(2)
        with _traced(on_sqlite, ["receiver", "process"], "error=EIO"):
            under.wait_for("instances are refused", lambda: under.refused() > 3)
        under.work_on()
    count_fault("disk fault")
    tell(f"I/O errors: {under.refused()} refused; {under.require_kept()}")


def test_a_slow_disk(on_sqlite: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell) -> None:
    under = loaded(on_sqlite)
    with under.load, _traced(on_sqlite, ["receiver", "process", "clock", "transfer"], "delay_enter=150000"):
        under.work_on(2)
    count_fault("disk fault")
    tell(f"every fsync 0.15 s late: {under.require_kept()}")


def test_a_broker_that_forgets(on_sqlite: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell) -> None:
    under = loaded(on_sqlite)
    client = redis.Redis(unix_socket_path=str(on_sqlite.settings.broker_socket))
    with under.load:
        for _ in range(4):
            under.work_on(1)
            client.flushall()
            count_fault("broker fault")
    client.close()
    tell(f"FLUSHALL: {under.require_kept()}")


def test_a_broker_that_is_frozen(on_sqlite: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell) -> None:
    under = loaded(on_sqlite)
    broker = on_sqlite.parts["broker"].process
    assert broker is not None
    with under.load:
        under.work_on(1)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            under.work_on(3)  # nobody who sends has to know
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        under.work_on(1)
    count_fault("broker fault")
    tell(f"frozen broker: {under.require_kept()}")


@contextmanager
def _administrator(gateway: Gateway) -> Iterator[sa.Connection]:
    """A session with PostgreSQL that may write whatever the others may."""
    engine = sa.create_engine(
        make_url(gateway.settings.database_url).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
        connect_args={"options": "-c default_transaction_read_only=off"},
    )
    with engine.connect() as connection:
        yield connection
    engine.dispose()


_CUT = sa.text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_a_database_that_is_restarted(
    on_postgresql: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(on_postgresql)
    server = on_postgresql.server
    assert server is not None
    with under.load:
        under.work_on(1)
        for _ in range(2):
            assert server.process is not None
            server.process.send_signal(signal.SIGINT)  # fast: every session is ended, wherever it is
            server.process.wait(30)
            on_postgresql.parts["database"].start()
            server.wait_until_ready()
            under.work_on(1)
            count_fault("database fault")
    tell(f"PostgreSQL restarted: {under.require_kept()}")


def test_sessions_that_are_cut_amid_a_transaction(
    on_postgresql: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(on_postgresql)
    cut = 0
    with under.load, _administrator(on_postgresql) as administrator:
        for _ in range(10):
            wanted = len(list(under.answers)) + 3
            under.wait_for("more answers", lambda wanted=wanted: len(list(under.answers)) >= wanted)
            cut += administrator.execute(_CUT).scalar_one()
            count_fault("database fault")
    tell(f"{cut} sessions cut: {under.require_kept()}")


def test_a_database_that_takes_no_writes(
    on_postgresql: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(on_postgresql)
    with under.load, _administrator(on_postgresql) as administrator:
        under.work_on(1)
        _set_read_only(administrator, "on")
        try:
            under.work_on(2)  # bytes are what is promised; rows follow
        finally:
            _set_read_only(administrator, "off")
        under.work_on(1)
    count_fault("database fault")
    tell(f"read-only: {under.require_kept()}")


def _set_read_only(administrator: sa.Connection, value: str) -> None:
    administrator.execute(sa.text(f"ALTER SYSTEM SET default_transaction_read_only = {value}"))
    administrator.execute(sa.text("SELECT pg_reload_conf()"))


def test_a_clock_that_is_put_forward_and_back_an_hour(
    on_postgresql: Gateway, loaded: MakeLoaded, count_fault: CountFault, tell: Tell
) -> None:
    under = loaded(on_postgresql)
    database = on_postgresql.database()
    log = on_postgresql.folder / "clock.log"
    with _administrator(on_postgresql) as administrator:
        led = log.read_text().count('"leads"')
        _replace_clock(administrator)
        under.wait_for("the clock leads again", lambda: log.read_text().count('"leads"') > led)
        with under.load:
            for seconds in (_HOUR_S, 0):
                under.work_on(2)
                noticed = log.read_text().count(_NOTICED)
                administrator.execute(sa.text("UPDATE public.put_forward SET seconds = :s"), {"s": seconds})
                count_fault("clock fault")
                # two steps between two looks at the clock, half a second apart, would look like none
                under.wait_for("the step is noticed", lambda n=noticed: log.read_text().count(_NOTICED) > n)  # type: ignore[misc]
            under.work_on(2)
        summary = under.require_kept()
        again = _attempts(database) - _jobs(database)
        administrator.execute(sa.text("DROP FUNCTION public.clock_timestamp()"))
        administrator.execute(sa.text("DROP TABLE public.put_forward"))
    database.close()
    tell(f"clock put forward and back an hour: {again} attempts more than jobs; {summary}")


def _replace_clock(administrator: sa.Connection) -> None:
    """From here on every session sees the clock that `put_forward` says."""
    administrator.execute(sa.text("CREATE TABLE public.put_forward AS SELECT 0 AS seconds"))
    administrator.execute(
        sa.text(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            "'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM public.put_forward))'"
        )
    )
    name = administrator.execute(sa.text("SELECT current_database()")).scalar_one()
    administrator.execute(sa.text(f"ALTER DATABASE {name} SET search_path = public, pg_catalog"))
    administrator.execute(_CUT)


def _attempts(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.sum(job.c.attempt))).scalar_one())


def _jobs(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(job)).scalar_one())

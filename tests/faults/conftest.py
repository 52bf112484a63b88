"""What the tests of faults share: how many of what to do, what was done in the end, and a gateway in parts.

A test counts the faults that it brought about with `count_fault("kill")` (or ``"kill point"``, ``"fuzz case"``,
``"destination fault"`` ..., and how many); the sums are printed in the last lines of the run, under pytest-xdist too.
It ends with `checker.check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fault_fixtures import CountFault, MakeGateway, Tell
from fork_server import ForkServer
from load import AnswerLog, read_template
from parts import Gateway, write_tiny_model
from postgresql_server import PostgresqlServer
from pydicom.dataset import Dataset
from recording_pacs import RecordingPacs

import pipelines

_COUNTED, _TOLD = "fault: ", "fault report"

_told: list[str] = []
_totals: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much is to be done, and how it can be done again."""
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=200, help="processes to kill -9 under load (default 200)")
    group.addoption("--fuzz", type=int, default=100_000, help="mutated PDUs and data sets (default 100000)")
    group.addoption("--faults-seed", type=int, default=1, help="seed of every random choice (default 1)")


@pytest.fixture
def count_fault(request: pytest.FixtureRequest) -> CountFault:
    """`count_fault(kind, n=1)`: `n` more faults of a kind were brought about by this test."""

    def count(kind: str, n: int = 1) -> None:
        # properties of a test travel with its report from the processes of pytest-xdist
        request.node.user_properties.append((_COUNTED + kind, n))

    return count


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """`tell(line)`: a line for the summary of the run."""
    return lambda line: request.node.user_properties.append((_TOLD, line))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what a test counted and told, once, when all of it is over."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == _TOLD:
                _told.append(str(value))
            elif name.startswith(_COUNTED):
                _totals[name.removeprefix(_COUNTED)] += int(str(value))


def _plural(kind: str) -> str:
    return kind if kind.endswith("s") else f"{kind}s"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much was done."""
    if _totals:
        terminalreporter.section("faults")
        terminalreporter.write_line(", ".join(f"{n} {_plural(kind)}" for kind, n in sorted(_totals.items())))
        for line in _told:
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"seed {config.getoption('--faults-seed', 1)}")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of released models with one, which costs next to nothing."""
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_model(folder, Path(pipelines.__file__).resolve().parents[1] / "weights" / "t2-to-stir")
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The instance that `load.SeriesMaker` makes series of."""
    return read_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[AnswerLog]:
    """What the senders of a test hear."""
    log = AnswerLog(tmp_path / "answers.jsonl")
    yield log
    log.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Starts the processes of every gateway."""
    with ForkServer() as running:
        yield running


@pytest.fixture(scope="module")
def make_gateway(
    tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, forks: ForkServer
) -> Iterator[MakeGateway]:
    """`make_gateway("sqlite")` or ``"postgresql"``, and settings: a running gateway, which delivers to its `pacs`."""
    with ExitStack() as running:

        def make(backend: str, **overrides: Any) -> Gateway:
            server = None
            if backend == "postgresql":
                server = PostgresqlServer()
                server.start()
                server.wait_until_ready()
            pacs = running.enter_context(RecordingPacs(tmp_path_factory.mktemp("pacs")))
            gateway = Gateway(tmp_path_factory.mktemp(backend), tiny_weights, forks, pacs, server, overrides)
            return running.enter_context(gateway)

        yield make

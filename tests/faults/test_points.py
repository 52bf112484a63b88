"""kill -9 at every named point of the line: whatever a crash leaves there, the series comes to its end, once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
from fault_fixtures import CountFault, MakeGateway
from load import AnswerLog, Modality, Sent, SeriesMaker
from parts import Gateway, Part
from pydicom.dataset import Dataset

import gateway as source
from gateway.errors import ConfigurationError
from gateway.killpoints import POINTS, VARIABLE, arm
from gateway.store.outbox import PROCESS
from gateway.store.tables import outbox

# which process comes to the points of a stage
PART_OF = {
    "receive": "receiver", "record": "receiver", "adopt": "receiver", "assemble": "clock", "announce": "clock",
    "sweep": "clock", "route": "transfer", "deliver": "transfer", "process": "process",
}  # fmt: skip

# at the second of several, where one is done and another is not
TIMES = {"process.file": 2, **{name: 2 for name in POINTS if name.startswith("receive.")}}


@dataclass
class Line:
    """A gateway with a modality that sends it a series of three."""

    gateway: Gateway
    modality: Modality
    series: list[Sent]
    answers: AnswerLog

    def send(self) -> None:
        """Over one association, as far as it gets."""
        self.modality.send_once(self.series)

    def send_rest(self) -> None:
        """What was not acknowledged."""
        done = {answer.sop_instance_uid for answer in self.answers if answer.is_acknowledged}
        self.modality.send([sent for sent in self.series if sent.sop_instance_uid not in done])

    def part(self, point: str) -> Part:
        """The part that comes to a point."""
        return self.gateway.parts[PART_OF[point.partition(".")[0]]]

    def arm(self, point: str) -> Part:
        """Start that part again, told to die at the point, and wait until it is at work."""
        part = self.part(point)
        part.kill()
        part.start(**{VARIABLE: f"{point}:{TIMES.get(point, 1)}"})
        part.wait_until_ready()
        return part

    def dies_at(self, point: str) -> None:
        """Send, and see it die there."""
        part = self.arm(point)
        self.send()
        part.wait_killed()

    def announced(self, stage: str) -> bool:
        """Whether the outbox says that the broker knows of everything for a stage, and there is something."""
        with self.gateway.database().read() as connection:
            rows = connection.execute(sa.select(outbox.c.published_at).where(outbox.c.stage == stage)).scalars()
            times = list(rows)
        return bool(times) and None not in times


def _expired_lease(line: Line, point: str) -> None:
    """A worker dies with a job, and the clock takes the job back."""
    line.dies_at("process.claimed")
    line.arm(point).wait_killed()
    line.part("process.claimed").start()


def _lost_announcement(line: Line, point: str) -> None:
    """The broker forgets what no worker has heard."""
    line.part("process.claimed").kill()
    line.send()
    until = time.monotonic() + 30
    while not line.announced(PROCESS):
        assert time.monotonic() < until, "no job was announced"
        time.sleep(0.05)
    redis.Redis(unix_socket_path=str(line.gateway.settings.broker_socket)).flushall()
    line.arm(point).wait_killed()
    line.part("process.claimed").start()


def _start_after_death(line: Line, point: str) -> None:
    """The receiver dies once it has answered, and its successor as soon as it has found what it left."""
    line.dies_at("receive.answered")
    part = line.part(point)
    part.start(**{VARIABLE: point})
    part.wait_killed()


PROVOKED: dict[str, Callable[[Line, str], None]] = {
    "sweep.taken": _expired_lease,
    "sweep.committed": _expired_lease,
    "sweep.announced": _lost_announcement,
    "adopt.committed": _start_after_death,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, make_gateway: MakeGateway) -> Gateway:
    """A gateway that all tests of a backend hurt."""
    return make_gateway(request.param)


@pytest.fixture
def line(node: Gateway, template: Dataset, answers: AnswerLog, request: pytest.FixtureRequest) -> Iterator[Line]:
    """The gateway, well, and a new series."""
    series = SeriesMaker(template, request.node.name)(3)
    yield Line(node, Modality(node.port, "SCANNER", answers), series, answers)
    for part in node.parts.values():
        if part.is_armed:
            part.kill()
        if part.process is not None and part.process.poll() is not None:
            part.start()


@pytest.mark.parametrize("point", [point for point in POINTS if point.partition(".")[0] in PART_OF])
def test_a_crash_there_loses_nothing(line: Line, point: str, count_fault: CountFault) -> None:
    PROVOKED.get(point, Line.dies_at)(line, point)
    count_fault("kill point")
    line.part(point).start()
    line.gateway.wait_until_ready()
    line.send_rest()
    report = line.gateway.check(line.answers)
    report.require_kept()
    assert set(report.jobs) == {"SUCCEEDED"}, report.jobs
    assert report.acknowledged == 3


def test_what_dead_attempts_left_is_removed_even_if_the_one_that_succeeded_died_too(
    line: Line, count_fault: CountFault
) -> None:
    line.dies_at("process.file")
    part = line.part("process.committed")
    part.start(**{VARIABLE: "process.committed"})
    part.wait_killed()
    count_fault("kill point", 2)
    part.start()
    line.gateway.check(line.answers).require_kept()


def test_the_points_of_the_list_are_those_of_the_program() -> None:
    program = Path(source.__file__).parent.rglob("*.py")
    found = [name for file in program for name in re.findall(r'\breached\("([a-z.]+)"\)', file.read_text())]
    assert sorted(found) == sorted(POINTS)


@pytest.mark.parametrize("text", ["process.outptu", "process.output:0", "process.output:x", "process.output:"])
def test_a_point_that_there_is_not_is_an_error_of_configuration(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigurationError, match=re.escape(f"{VARIABLE}: found {text!r}; expected one of receive.")):
        arm()

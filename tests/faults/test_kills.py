"""kill -9 of every part of a gateway at random moments under load: what was acknowledged comes to its end, once."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import pytest
from fault_fixtures import CountFault, MakeGateway, Tell
from load import AnswerLog, Load, Modality
from parts import Gateway
from pydicom.dataset import Dataset

from gateway.domain.states import JobState
from gateway.errors import Unavailable

_LONGEST_WAIT_S = 1.0
_ONE_RECEIVER = "one of the receivers"
_AT_MOST_UNDER_WAY = 12


@dataclass(frozen=True, slots=True)
class Kill:
    """Wait, then kill; `starting` says that the part need not be ready for it."""

    wait_s: float
    part: str
    starting: bool


def plan(seed: int, backend: str, parts: list[str], n: int) -> list[Kill]:
    """`n` kills, the same for the same seed."""
    choose = random.Random(f"kills {backend} {seed}")
    kills: list[Kill] = []
    for _ in range(n):
        starting = bool(kills) and kills[-1].part != _ONE_RECEIVER and choose.random() < 0.1
        part = kills[-1].part if starting else choose.choice(parts)
        kills.append(Kill(choose.uniform(0.0, _LONGEST_WAIT_S), part, starting))
    return kills


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("backend", "receivers"), [("sqlite", 1), ("postgresql", 2)])
def test_nothing_is_lost_whatever_is_killed(
    backend: str,
    receivers: int,
    make_gateway: MakeGateway,
    template: Dataset,
    answers: AnswerLog,
    count_fault: CountFault,
    tell: Tell,
    pytestconfig: pytest.Config,
) -> None:
    seed = int(pytestconfig.getoption("--faults-seed", 1))
    n = int(pytestconfig.getoption("--kills", 200)) // 2
    gateway = make_gateway(backend, listener={"processes": receivers})
    parts = sorted(gateway.parts) + [_ONE_RECEIVER] * (receivers > 1)
    kills = plan(seed, backend, parts, n)
    modalities = [Modality(gateway.port, f"SCANNER{number}", answers, seed, 0.05) for number in range(3)]
    database = gateway.database()

    def busy() -> int:
        try:
            return gateway.under_way(database)
        except Unavailable:
            return 0

    with Load(modalities, template, busy, _AT_MOST_UNDER_WAY) as load:
        for kill in kills:
            time.sleep(kill.wait_s)  # the moment is what the seed says: there is nothing to wait for
            execute(gateway, kill)
            gateway.look_after()
            count_fault("kill")
        gateway.wait_until_ready()
    database.close()
    report = gateway.check(answers)
    tell(f"{backend}: {n} kills of {', '.join(parts)}: {report.summary()}")
    report.require_kept()
    assert load.series > n // 10, "there was no load to speak of"
    assert set(report.jobs) <= {JobState.SUCCEEDED}, report.jobs


def execute(gateway: Gateway, kill: Kill) -> None:
    """Kill one part and start it again."""
    part = gateway.parts["receiver" if kill.part == _ONE_RECEIVER else kill.part]
    if not kill.starting:
        part.wait_until_ready()
    if kill.part == _ONE_RECEIVER:
        part.kill_child()  # it is started again by the process that listens
    else:
        part.kill()
        part.start()

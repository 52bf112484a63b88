"""What a pipeline gives back, and the shape that every pipeline has for those who call one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from pipelines.spec import PipelineSpec
from pipelines.volume import Volume

Progress = Callable[[int, int], None]  # (slices done, slices in all), called after each batch


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at in the input: `flagged` asks a reader for caution, otherwise it is only told."""

    name: str
    flagged: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Result:
    """The synthesised volume on the grid of the input or a finer one, what was checked, and seconds by step."""

    volume: Volume
    checks: tuple[Check, ...]
    seconds: Mapping[str, float]


class Pipeline(Protocol):
    """A loaded model. The same input gives the same voxels, bit for bit, on the same machine and thread count."""

    @property
    def spec(self) -> PipelineSpec:
        """What it was loaded from."""

    def __call__(self, volumes: Mapping[str, Volume], progress: Progress) -> Result:
        """The result for one volume of each role; raises Unsuitable for images that this model cannot take."""

    def warm_up(self) -> float:
        """Run once on nothing, so that the first series does not pay for it; seconds taken."""


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Adds to `seconds[step]` what the block takes."""
    started = perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + perf_counter() - started

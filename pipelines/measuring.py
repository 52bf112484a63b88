"""How fast a model is here: its network by each runtime beside plain eager PyTorch, whole pipelines, and the machine.

Everything is timed in turn in each round, so that whatever else the machine does falls on all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipelines import inference, runtimes
from pipelines.errors import RuntimeUnfit
from pipelines.runtime_choices import EAGER, PAYS
from pipelines.self_test import made_up
from pipelines.spec import KINDS, read_manifest

SLICES = 4
_GEMM_SIDE, _GEMMS = 1024, 4  # of a product of matrices, and how many of them
_SIDES = {"hu": 512, "percentiles": 256}  # pixels; the usual matrices of CT and MR


@dataclass(slots=True)
class Measured:
    """One model on this machine. Seconds are of each round, for `slices` that went in.

    network_s      the generator alone, by runtime
    pipeline_s     everything from volume to volume, by runtime
    difference     from eager, as a share of the range, by runtime
    unfit          runtimes that this model cannot have, and why
    flop           of the network for those slices
    gemm_flop_s    floating point operations in a second of processor time of a product of matrices: the peak
    of_peak        share of it that the network reaches, by runtime; processor time, so others do not count
    peak_rss_bytes of the process that measured
    """

    pipeline_id: str
    weights_sha256: str
    matrix: int
    threads: int
    slices: int = SLICES
    network_s: dict[str, list[float]] = field(default_factory=dict)
    pipeline_s: dict[str, list[float]] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    flop: int = 0
    gemm_flop_s: float = 0.0
    of_peak: dict[str, float] = field(default_factory=dict)
    peak_rss_bytes: int = 0

    @property
    def fastest(self) -> str:
        """The runtime with the lowest median for the network; eager unless another pays."""
        times = {name: median(seconds) for name, seconds in self.network_s.items()}
        best = min(times, key=lambda name: times[name])
        return best if times[EAGER] >= PAYS * times[best] else EAGER


def measure(folder: Path, rounds: int, threads: int) -> Measured:
    """Measure the model in `folder` on the CPU. Raises PipelineError for a model that cannot be run.

    Meant for a process of its own: its peak memory is told, and its number of threads is set.
    """
    torch.set_num_threads(threads)
    spec = read_manifest(folder)
    matrix = _SIDES[KINDS[spec.kind]]
    found = Measured(spec.id, spec.generator.sha256, matrix, threads)
    loaded = {EAGER: inference.load_parts(spec)}
    try:
        loaded[runtimes.ONNX] = inference.load_parts(spec, runtime=runtimes.ONNX)
    except RuntimeUnfit as error:
        found.unfit[runtimes.ONNX] = str(error)
    found.difference = {name: one.difference for name, one in loaded.items()}
    given = inference.given_to(loaded[EAGER], SLICES, matrix, matrix)
    volumes = {contract.role: made_up(spec, SLICES, matrix, matrix) for contract in spec.inputs}
    factors = torch.rand(2, _GEMM_SIDE, _GEMM_SIDE)
    work: dict[str, Callable[[], object]] = {"gemm": lambda: [factors[0] @ factors[1] for _ in range(_GEMMS)]}
    for name, one in loaded.items():
        work[f"network {name}"] = partial(_through, one.network, given)
        work[f"pipeline {name}"] = partial(one.pipeline, volumes, lambda done, of: None)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            _through(loaded[EAGER].network, given)
        found.flop = counter.get_total_flops()
        seconds, processor_s = _in_turn(work, rounds)
    found.network_s = {name: seconds[f"network {name}"] for name in loaded}
    found.pipeline_s = {name: seconds[f"pipeline {name}"] for name in loaded}
    peak = _GEMMS * 2 * _GEMM_SIDE**3 / processor_s["gemm"]
    found.gemm_flop_s = peak
    found.of_peak = {name: found.flop / processor_s[f"network {name}"] / peak for name in loaded}
    found.peak_rss_bytes = _peak_rss_bytes()
    return found


def _through(network: nn.Module, given: Sequence[Tensor]) -> None:
    for x in given:
        network(x)


def _in_turn(work: Mapping[str, Callable[[], object]], rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds that each took, round by round, and the least processor time that each took.

    The first round, in which kernels are prepared, is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    processor_s = dict.fromkeys(work, float("inf"))
    for number in range(rounds + 1):
        for name, each in work.items():
            started, worked = perf_counter(), process_time()
            each()
            if number:
                seconds[name].append(perf_counter() - started)
                processor_s[name] = min(processor_s[name], process_time() - worked)
    return seconds, processor_s


def _peak_rss_bytes() -> int:
    """The most memory that this process has had; ru_maxrss would begin with that of the process that started it."""
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(peak.split()[1])

"""``athanor bench inference``: slices a second of every installed pipeline, beside plain eager PyTorch in the same run.

Each pipeline is measured in a process of its own, so that its peak memory is its own and torch is not loaded here.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gateway.commands import console
from gateway.commands.console import err, out, say
from gateway.settings import Settings
from pipelines import runtime_choices
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError
from pipelines.runtime_choices import EAGER, PAYS, Choice, Machine

if TYPE_CHECKING:
    from pipelines.measuring import Measured


def measure_all(settings: Settings, only: str | None, rounds: int, threads: int, record: bool, json: bool) -> None:
    """Measure, print, and with `record` write down which runtime is to be used on this machine."""
    threads = threads or settings.process.cpu_threads
    catalog = Catalog.read(settings.models_dir)
    if only is not None and only not in catalog:
        known = ", ".join(catalog) or "none"
        console.fail(f"found no pipeline {only!r}; expected one of: {known}", console.NOT_FOUND)
    wanted = [spec for spec in catalog.values() if only in (None, spec.id)]
    measured: list[Measured] = []
    with console.progress() as progress:
        bar = progress.add_task("pipelines", total=len(wanted))
        for spec in wanted:
            progress.update(bar, description=spec.id)
            try:
                measured.append(_apart(spec.path, rounds, threads))
            except PipelineError as error:
                say(str(error), style="red", to=err)
            progress.advance(bar)
    machine = Machine.here(threads)
    added = (
        runtime_choices.record(settings.runtimes_file, [_choice(one, machine) for one in measured]) if record else ()
    )
    if json:
        console.show_json({"machine": asdict(machine), "pipelines": [_row(one) for one in measured]})
    else:
        _show(measured, machine)
        if record:
            say(f"{len(added)} choices added to {settings.runtimes_file}; workers use them after a restart")
    if len(measured) < len(wanted):
        console.fail(f"{len(wanted) - len(measured)} of {len(wanted)} pipelines could not be measured")


def _apart(folder: Path, rounds: int, threads: int) -> Measured:
    from pipelines.measuring import measure  # loads torch

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, folder, rounds, threads).result()


def _choice(one: Measured, machine: Machine) -> Choice:
    rates = {name: round(_rate(one, seconds).median, 3) for name, seconds in one.network_s.items()}
    return Choice(one.weights_sha256, machine, one.fastest, one.difference[one.fastest], rates)


@dataclass(frozen=True, slots=True)
class _Rate:
    """Slices a second over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def _rate(one: Measured, seconds: Sequence[float]) -> _Rate:
    rates = [one.slices / each for each in seconds]
    return _Rate(median(rates), min(rates), max(rates))


def _row(one: Measured) -> dict[str, Any]:
    """What was measured, and what follows from it."""
    eager = one.network_s[EAGER]
    ratios = [slow / quick for slow, quick in zip(eager, one.pipeline_s[one.fastest], strict=True)]
    return {
        "pipeline": one.pipeline_id,
        "matrix": one.matrix,
        "runtime": one.fastest,
        "eager_network_slices_per_s": asdict(_rate(one, eager)),
        "network_slices_per_s": {name: asdict(_rate(one, seconds)) for name, seconds in one.network_s.items()},
        "pipeline_slices_per_s": {name: asdict(_rate(one, seconds)) for name, seconds in one.pipeline_s.items()},
        "pipeline_by_eager_network": round(median(ratios), 3),
        "gflop_per_slice": round(one.flop / one.slices / 1e9, 3),
        "gemm_gflop_per_processor_s": round(one.gemm_flop_s / 1e9, 1),
        "network_of_peak": {name: round(share, 3) for name, share in one.of_peak.items()},
        "difference_of_range": one.difference,
        "unfit": one.unfit,
        "peak_rss_bytes": one.peak_rss_bytes,
        "rounds": {"network_s": one.network_s, "pipeline_s": one.pipeline_s},
    }


def _show(measured: Sequence[Measured], machine: Machine) -> None:
    title = f"slices a second, median (least to most); {machine.threads} threads of {machine.processor}"
    table = Table(box=None, pad_edge=False, title=title)
    for column in ("pipeline", "matrix", "computed by", "pipeline", "network alone", "of the peak", "peak memory"):
        table.add_column(column, justify="left" if column in ("pipeline", "computed by") else "right")
    for one in measured:
        row = _row(one)
        for name, seconds in one.network_s.items():
            mark = " *" if name == one.fastest else ""
            table.add_row(
                one.pipeline_id if name == EAGER else "", str(one.matrix) if name == EAGER else "", name + mark,
                str(_rate(one, one.pipeline_s[name])), str(_rate(one, seconds)), f"{one.of_peak[name]:.0%}",
                f"{row['peak_rss_bytes'] / 2**20:.0f} MiB" if name == EAGER else "",
            )  # fmt: skip
        for name, why in one.unfit.items():
            table.add_row("", "", f"{name}: {why}")
    out.print(table)
    out.print(f"* the fastest by at least {PAYS - 1:.0%}. pipeline: from volume to volume; network: the same slices")
    out.print("through the generator alone; eager is plain PyTorch in float32; the peak is a product of matrices")

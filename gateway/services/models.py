"""The generators that a worker holds in memory, warm. Imports torch: only the process worker imports this module."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from gateway import logs, metrics
from gateway.settings.line import Process
from pipelines import inference, runtime_choices, runtimes
from pipelines.catalog import Catalog
from pipelines.errors import PipelineError, RuntimeUnfit
from pipelines.inference import Pipeline
from pipelines.runtime_choices import EAGER, Machine
from pipelines.spec import PipelineSpec

log = logs.get("models")


class Models:
    """Pipelines by id, loaded once on one device, each computed by the runtime that was chosen for it.

    `choices` is the file of the choices for CPUs. It is read once: while this process lives, a model is computed alike.
    """

    def __init__(self, settings: Process, index: int, choices: Path | None = None) -> None:
        self.device = choose_device(settings.device, index)
        self._choices = runtime_choices.read(choices) if choices else ()
        self._runtimes: dict[str, str] = {}
        if self.device == "cpu":
            torch.set_num_threads(settings.cpu_threads)
        else:
            metrics.watch_gpu(lambda: torch.cuda.mem_get_info(self.device))
        metrics.DEVICE.labels(self.device).set(1)
        self._held: dict[str, Pipeline] = {}
        self._standing: dict[str, dict[str, Any]] = {}

    def load(self, spec: PipelineSpec) -> Pipeline:
        """The pipeline of `spec`, loaded when it is first asked for; its digest is checked then."""
        if spec.id not in self._held:
            try:
                self._held[spec.id] = self.load_anew(spec)
            except PipelineError as error:
                self._stands(spec, error=str(error))
                raise
            self._stands(spec, loaded=True, warm=False, runtime=self._runtimes[spec.id])
        return self._held[spec.id]

    def load_anew(self, spec: PipelineSpec) -> Pipeline:
        """The pipeline of `spec` from its files of now; not kept."""
        wanted = self._wanted(spec)
        try:
            pipeline = inference.load(spec, self.device, wanted)
        except RuntimeUnfit as error:
            log.warning("runtime not used; eager computes", pipeline=spec.id, reason=str(error))
            wanted, pipeline = EAGER, inference.load(spec, self.device)
        self._runtimes[spec.id] = wanted
        return pipeline

    def _wanted(self, spec: PipelineSpec) -> str:
        """On a CPU the runtime that was measured to be the fastest, on a GPU bfloat16: where it gives the same."""
        if self.device != "cpu":
            return runtimes.BFLOAT16
        return runtime_choices.chosen(self._choices, spec.generator.sha256, Machine.here(torch.get_num_threads()))

    def warm(self, catalog: Catalog) -> None:
        """Load and run every enabled pipeline once, so that the first series does not pay for it."""
        for spec in catalog.values():
            if not spec.enabled:
                continue
            started = time.perf_counter()
            metrics.MODEL_WARM.labels(spec.id).set(0)
            try:
                self.load(spec).warm_up()
            except PipelineError as error:
                # the others still work; a job for this one ends FAILED with the same words
                log.warning("pipeline cannot be loaded", pipeline=spec.id, reason=str(error))
            else:
                seconds = round(time.perf_counter() - started, 2)
                metrics.MODEL_LOAD_S.labels(spec.id).set(seconds)
                metrics.MODEL_WARM.labels(spec.id).set(1)
                runtime = self._runtimes[spec.id]
                self._stands(spec, loaded=True, warm=True, seconds=seconds, runtime=runtime)
                log.info("warm", pipeline=spec.id, seconds=seconds, runtime=runtime)

    def _stands(self, spec: PipelineSpec, **what: Any) -> None:
        self._standing[spec.id] = {"version": spec.version, **what}

    def standing(self) -> dict[str, dict[str, Any]]:
        """By id: version, whether it is `loaded` and `warm`, seconds that took, `runtime`; or the `error` why not."""
        return dict(self._standing)


def choose_device(wanted: str, index: int) -> str:
    """The torch device of worker `index`: the GPU of that number, else the CPU."""
    if wanted != "auto":
        return f"cuda:{index}" if wanted == "cuda" else wanted
    return f"cuda:{index}" if torch.cuda.is_available() else "cpu"

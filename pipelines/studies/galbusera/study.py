"""Measures the tasks patient by patient and keeps what it has measured, so that it can be stopped and gone on with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.catalog import Catalog
from pipelines.errors import Unsuitable
from pipelines.intensity import Array
from pipelines.metrics.fidelity import vifp
from pipelines.metrics.sharpness import cpbd
from pipelines.metrics.similarity import compare
from pipelines.studies.galbusera import reader
from pipelines.studies.galbusera.cases import FULL_SCALE, Case, scan
from pipelines.studies.galbusera.cohort import (
    FIRST_SEED,
    PATIENTS,
    TASKS,
    TEST,
    Task,
    describe,
    recipes,
    require_unseen,
    splits,
)
from pipelines.studies.galbusera.methods import Method, ablation, methods_of, released

RESULTS = "results.json"
REVISION = 1  # of everything that a measurement depends on but the weights: what another one wrote is measured again

Progress = Callable[[str, int, int], None]  # (what is done, steps done, steps in all)
Results = dict[str, Any]


def measure(out: Path, catalog: Catalog, patients: int, progress: Progress, tasks: Sequence[Task] = TASKS) -> Results:
    """The results of `tasks` on the first `patients` test patients, also in `out`/results.json.

    What that file holds of the same weights is not measured again, nor is it lost for other tasks. Raises ValueError
    when a recipe has trained on a test patient.
    """
    split = splits()
    seeds = split[TASKS[0].id].test[:patients]
    require_unseen(seeds, recipes())
    results = _begin(out, catalog, split[TASKS[0].id].test)
    cases = {task.id: results["tasks"][task.id]["cases"] for task in TASKS}
    work = [(seed, task) for seed in seeds for task in tasks if str(seed) not in cases[task.id]]
    methods: dict[str, Mapping[str, Method]] = {}
    for task in tasks:
        if any(task is other for _, other in work):
            progress(f"{task.title}: fitting baselines", 0, len(work))
            methods[task.id] = methods_of(task, catalog, split[task.id].training)
    for done, (seed, task) in enumerate(work):
        progress(f"{task.title}: patient {seed}", done, len(work))
        cases[task.id][str(seed)] = _case(task, scan(task, seed), methods[task.id])
        _save(out, results)
    everyone = range(FIRST_SEED, FIRST_SEED + PATIENTS) if patients == TEST else seeds
    if results["cohort"].get("patients", 0) < len(everyone):
        results["cohort"] = describe(everyone, partial(progress, "who the patients are"))
    _save(out, results)
    return results


def _begin(out: Path, catalog: Catalog, test: Sequence[int]) -> Results:
    """What `out` holds of the same weights and patients, and empty tasks for the rest."""
    before: Results = {}
    if (out / RESULTS).exists():
        before = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    if before.get("revision") != REVISION:
        before = {}
    tasks = {}
    for task in TASKS:
        weights = {
            name: None if spec is None else {"version": spec.version, "sha256": spec.generator.sha256}
            for name, spec in (("generator", released(task, catalog)), ("l1_only", ablation(task)))
        }
        kept = before.get("tasks", {}).get(task.id, {})
        cases = kept.get("cases", {}) if kept.get("weights") == weights else {}
        tasks[task.id] = {"weights": weights, "cases": {str(s): cases[str(s)] for s in test if str(s) in cases}}
    return {"revision": REVISION, "cohort": before.get("cohort", {}), "tasks": tasks}


def _save(out: Path, results: Results) -> None:
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{RESULTS}.partial"
    unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(out / RESULTS)


def _case(task: Task, case: Case, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Scores of every method and the reader's answers to every image of one patient."""
    scores: dict[str, Any] = {"target": {"cpbd": _sharpness(case.target.voxels)}}
    answers = {"truth": truth(task, case), "target": read(task, case, case.target.voxels)}
    refused: dict[str, str] = {}
    for name, method in methods.items():
        try:
            image = method(case)
        except Unsuitable as reason:  # what a hospital would be told
            refused[name] = str(reason)
            continue
        scores[name] = _scores(image, case.target.voxels)
        answers[name] = read(task, case, image)
    return {"scores": scores, "answers": answers, "refused": refused}


def _scores(image: Array, target: Array) -> dict[str, float | None]:
    similar = asdict(compare(image, target, FULL_SCALE))
    fidelity = float(np.mean([vifp(one, other, FULL_SCALE) for one, other in zip(image, target, strict=True)]))
    scores = {name: _rounded(value) for name, value in (similar | {"vifp": fidelity}).items()}
    return scores | {"cpbd": _sharpness(image)}


def _sharpness(image: Array) -> float | None:
    values = [value for value in (cpbd(one, 0.0, FULL_SCALE) for one in image) if not math.isnan(value)]
    return _rounded(float(np.mean(values))) if values else None


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def read(task: Task, case: Case, image: Array) -> reader.Answers:
    """What the virtual reader says of `image`, which lies on the target's grid."""
    volume = case.target.with_voxels(image)
    if task.id == "t2-super-resolution":
        return reader.read_herniations(volume, case.patient)
    if task.id == "xray-to-t2":
        return reader.read_column(volume, case.patient)
    return reader.read_discs(volume, case.patient, task.target)


def truth(task: Task, case: Case) -> reader.Answers:
    """What there was."""
    if task.id == "t2-super-resolution":
        return reader.true_herniations(case.target, case.patient)
    if task.id == "xray-to-t2":
        return reader.true_column(case.target, case.patient)
    return reader.true_discs(case.patient, task.target)

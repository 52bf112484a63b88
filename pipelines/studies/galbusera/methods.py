"""What stands beside each other in a task: the generator that ships and the baselines, each from a case to an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import interpolate

from pipelines import intensity
from pipelines.catalog import Catalog
from pipelines.inference import load
from pipelines.intensity import Array, IntensityMap
from pipelines.result import Pipeline
from pipelines.spec import PipelineSpec
from pipelines.studies.galbusera.cases import FULL_SCALE, Case, scan, shown
from pipelines.studies.galbusera.cohort import ABLATIONS, Task
from pipelines.training.baselines import fit_baselines

Method = Callable[[Case], Array]  # voxels on the target's grid and scale

GENERATOR, L1_ONLY = "generator", "l1_only"
FITTED_ON = 12  # patients
_PERCENTILES = (0.5, 99.5)
_TARGET = IntensityMap(0.0, FULL_SCALE)


def released(task: Task, catalog: Catalog) -> PipelineSpec | None:
    """The model of `task`, None where none is installed."""
    return catalog.get(task.id)


def ablation(task: Task) -> PipelineSpec | None:
    """The same without a discriminator, None where there is none."""
    return Catalog.read(ABLATIONS).get(f"{task.id}-l1")


def methods_of(task: Task, catalog: Catalog, training: Sequence[int]) -> Mapping[str, Method]:
    """Every method of `task`, the generator first; baselines are fitted on midsagittal slices of `training`."""
    specs = {GENERATOR: released(task, catalog), L1_ONLY: ablation(task)}
    found: dict[str, Method] = {name: partial(_run, load(spec)) for name, spec in specs.items() if spec is not None}
    if task.source == task.target:
        return found | {"cubic": partial(_enlarged, "bicubic"), "linear": partial(_enlarged, "bilinear")}
    pairs = []
    for seed in training[:FITTED_ON]:
        case = scan(replace(task, slices=1), seed)
        pairs += list(zip(_unit(case)[:, None], _TARGET.to_unit(case.target.voxels), strict=True))
    fitted = fit_baselines(pairs)
    return found | {name: partial(_by_slice, fitted[name]) for name in ("pixel_map", "histogram", "identity")}


def generator_of(task: Task, catalog: Catalog) -> Method:
    """The generator of `task`, which must be installed."""
    return partial(_run, load(catalog[task.id]))


def _run(pipeline: Pipeline, case: Case) -> Array:
    """As a hospital would: a series in, a series out. A result in the units of its source is put on the scale."""
    (role,) = [contract.role for contract in pipeline.spec.inputs]
    voxels = pipeline({role: case.source}, lambda done, of: None).volume.voxels
    return shown(voxels, case.scale) if pipeline.spec.kind == "super-resolve" else voxels


def _unit(case: Case) -> Array:
    return intensity.fit(case.source.voxels, _PERCENTILES).to_unit(case.source.voxels)


def _by_slice(method: Callable[[Array], Array], case: Case) -> Array:
    return _TARGET.from_unit(np.stack([method(one[None]) for one in _unit(case)]))


def _enlarged(mode: str, case: Case) -> Array:
    small = torch.from_numpy(case.source.voxels)[:, None]
    large = interpolate(small, case.target.shape[1:], mode=mode, align_corners=False)
    return shown(large[:, 0].numpy(), case.scale)

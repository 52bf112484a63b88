"""The 989 virtual patients of the study, the six tasks, and who is in the training, validation and test set of each."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.studies.galbusera.reader import DISEASED, lowest_discs
from pipelines.training.recipe import RECIPES

ABLATIONS = Path(__file__).parent / "models"  # generators by L1 alone, by the id of the task and "-l1"
FIRST_SEED = 2_018_000
PATIENTS = 989
TEST = 30
# people sent for a lumbar MR because of back pain: Modic changes in 43 % of them (Jensen et al. 2008, Eur Spine J 17)
LESION_RATE = 1.8


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the paper; `id` is that of the pipeline that does it.

    sizes      patients for training, validation and test: Table 1 of the paper
    slices     3 is the midsagittal slice with its neighbours, 1 the midsagittal slice alone
    matrix     rows and columns of the target
    reference  the brighter of CSF and fat at the canal on the scale of the result, as the recipe of the model has it
    """

    id: str
    title: str
    source: str
    target: str
    sizes: tuple[int, int, int]
    slices: int
    matrix: int
    reference: float


TASKS = (
    Task("t2-super-resolution", "Super-resolution", "T2W", "T2W", (767, 192, TEST), 1, 512, reference=700.0),
    Task("t1-to-t2", "T1W to T2W", "T1W", "T2W", (767, 192, TEST), 3, 256, reference=700.0),
    Task("t2-to-t1", "T2W to T1W", "T2W", "T1W", (767, 192, TEST), 3, 256, reference=600.0),
    Task("t2-to-stir", "T2W to STIR", "T2W", "STIR", (284, 71, TEST), 3, 256, reference=1000.0),
    Task("t2-to-tirm", "T2W to TIRM", "T2W", "TIRM", (305, 77, TEST), 3, 256, reference=1000.0),
    Task("xray-to-t2", "X-ray to T2W", "X-ray", "T2W", (363, 91, TEST), 1, 256, reference=700.0),
)


@dataclass(frozen=True, slots=True)
class Split:
    """The seeds of the patients of one task; no patient is in two of the sets."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def splits() -> Mapping[str, Split]:
    """The split of each task, the same at every call.

    The 30 test patients are the same in all tasks, so that tasks can be compared patient by patient, and are in no
    training or validation set of any; the paper does not say how it drew its own.
    """
    rng = np.random.default_rng(FIRST_SEED)
    order = [int(seed) for seed in rng.permutation(np.arange(FIRST_SEED, FIRST_SEED + PATIENTS))]
    test, others = tuple(sorted(order[:TEST])), order[TEST:]
    drawn = {}
    for task in TASKS:
        training, validation, _ = task.sizes
        seeds = [int(seed) for seed in rng.permutation(others)[: training + validation]]
        drawn[task.id] = Split(tuple(sorted(seeds[:training])), tuple(sorted(seeds[training:])), test)
    return drawn


def patient(seed: int) -> SpinePatient:
    """The patient of a seed of this study."""
    return virtual_patient(seed, LESION_RATE)


def recipes() -> list[Path]:
    """The recipes of everything that the study may measure."""
    return sorted([*RECIPES.glob("*.toml"), *ABLATIONS.glob("*/recipe.toml")])


def require_unseen(seeds: Iterable[int], paths: Iterable[Path]) -> None:
    """Raises ValueError when one of the recipes in `paths` trains or validates on one of `seeds`."""
    wanted = set(seeds)
    for path in paths:
        sets = tomllib.loads(path.read_text(encoding="utf-8"))["phantoms"]
        for kind in ("train", "validation"):
            first, count = (sets.get(f"{kind}_{what}", 0) for what in ("first_seed", "patients"))
            seen = sorted(wanted & set(range(first, first + count)))
            if seen:
                raise ValueError(f"{path.name}: found test patients {seen} in its {kind} set, expected none")


def describe(seeds: Sequence[int], progress: Callable[[int, int], None]) -> dict[str, float]:
    """How many patients, their mean age, and the share of them with each finding."""
    rows = []
    for done, seed in enumerate(seeds):
        progress(done, len(seeds))
        one = patient(seed)
        low = lowest_discs(one)
        rows.append(
            {
                "age_years": one.age_years,
                "l4_l5_disc_disease": low[1].grade >= DISEASED,
                "l5_s1_disc_disease": low[0].grade >= DISEASED,
                "l4_s1_modic": any(disc.modic for disc in low),
                "protrusion": any(disc.protrusion_mm for disc in one.discs if disc.name.startswith("L")),
                "lumbar_fracture": any(body.sunk_mm and body.name in one.lumbar for body in one.vertebrae),
                "not_five_lumbar": len(one.lumbar) != 5,
            }
        )
    return {"patients": len(rows)} | {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}

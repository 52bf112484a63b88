"""The virtual reader against what the phantoms hold, in patients whom nobody looked at when its rules were made."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.metrics.agreement import cohen_kappa
from pipelines.studies.galbusera.cases import Case, scan
from pipelines.studies.galbusera.cohort import TASKS, patient, splits
from pipelines.studies.galbusera.column import find_bodies
from pipelines.studies.galbusera.film import Film
from pipelines.studies.galbusera.reader import (
    lowest_discs,
    read_column,
    read_discs,
    read_herniations,
    true_column,
    true_discs,
    true_herniations,
)

TASK = {task.id: task for task in TASKS}
UNSEEN = splits()["t2-to-tirm"].validation


@pytest.fixture(scope="module")
def tirm() -> list[Case]:
    return [scan(replace(TASK["t2-to-tirm"], slices=1), seed) for seed in UNSEEN[:12]]


@pytest.fixture(scope="module")
def fine_t2w() -> list[Case]:
    return [scan(TASK["t2-super-resolution"], seed) for seed in UNSEEN[:8]]


def test_discs_and_endplates_are_read_as_they_are(tirm: list[Case]) -> None:
    read = [read_discs(case.target, case.patient, "TIRM") for case in tirm]
    true = [true_discs(case.patient, "TIRM") for case in tirm]
    discs = [
        [one[f"{level}_disc_disease"] for one in answers for level in ("l4_l5", "l5_s1")] for answers in (read, true)
    ]
    assert len(set(discs[1])) == 2
    assert cohen_kappa(*discs) > 0.6
    looks = [[one["l4_s1_modic_looks"] for one in answers] for answers in (read, true)]
    assert len(set(looks[1])) >= 2
    assert cohen_kappa(*looks) > 0.4


def test_herniations_and_vertebrae_are_counted(fine_t2w: list[Case]) -> None:
    herniations = [read_herniations(case.target, case.patient)["herniations"] for case in fine_t2w]
    truth = [true_herniations(case.target, case.patient)["herniations"] for case in fine_t2w]
    assert len(set(truth)) >= 3
    assert cohen_kappa(herniations, truth) > 0.6
    vertebrae = [int(read_column(case.target, case.patient)["vertebrae"]) for case in fine_t2w]
    there = [int(true_column(case.target, case.patient)["vertebrae"]) for case in fine_t2w]
    assert cohen_kappa(vertebrae, there) > 0.3
    assert np.abs(np.subtract(vertebrae, there)).mean() < 1


def test_bodies_have_the_heights_of_vertebrae(fine_t2w: list[Case]) -> None:
    case = fine_t2w[0]
    bodies = find_bodies(Film(case.target), case.patient, lowest_discs(case.patient)[0].centre_mm[1])
    assert all(12.0 < body.back_mm < 40.0 for body in bodies)


def test_an_image_of_nothing_holds_no_findings(tirm: list[Case], fine_t2w: list[Case]) -> None:
    empty, fine = (case.target.with_voxels(np.zeros_like(case.target.voxels)) for case in (tirm[0], fine_t2w[0]))
    answers = read_discs(empty, tirm[0].patient, "TIRM")
    assert not answers["l4_l5_disc_disease"]
    assert not answers["l4_s1_modic"]
    assert read_herniations(fine, fine_t2w[0].patient) == {"herniations": 0}
    assert read_column(fine, fine_t2w[0].patient)["fracture"] in (True, False)


def test_the_truth_follows_the_grades_and_the_contrast() -> None:
    one = patient(UNSEEN[0])
    lumbosacral = lowest_discs(one)[0]
    assert lumbosacral.name.endswith("-S1")
    discs = tuple(
        replace(disc, grade=4, modic=2) if disc is lumbosacral else replace(disc, grade=2, modic=0)
        for disc in one.discs
    )
    changed = replace(one, discs=discs)
    assert true_discs(changed, "STIR") == {
        "l4_l5_disc_disease": False,
        "l5_s1_disc_disease": True,
        "l4_s1_modic": True,
        "l4_s1_modic_looks": "dark",
    }
    assert true_discs(changed, "T1W")["l4_s1_modic_looks"] == "bright"

"""The virtual reader: fixed rules that answer the questions of the paper's radiologist from grey values.

It is shown where the discs and vertebrae of the patient lie, as one who has the other images beside him; what it says
of them it takes from the image in hand, by the same rule in the acquired and in the synthesised one. The thresholds
were chosen on acquired images of 60 patients of the training set of T2W to STIR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipelines.phantoms.patient import Disc, SpinePatient, Vertebra
from pipelines.studies.galbusera.column import Body, find_bodies
from pipelines.studies.galbusera.film import Film, Values, beside_wall
from pipelines.volume import Volume

Answer = bool | int | str
Answers = dict[str, Answer]

DISEASED = 4  # the Pfirrmann grade from which a disc is diseased: no distinction of nucleus and annulus
LEVELS = {"l4_l5": 1, "l5_s1": 0}  # among the discs from below, also where there are four or six lumbar vertebrae
HERNIATED_MM = 3.5  # beyond the edge of the vertebral bodies, in the midsagittal slice; bulges end below
COLLAPSED = 0.8  # of the usual height: a fracture (Genant et al. 1993, grade 1 from 20 % on)
SEEN_COLLAPSED = 0.67  # as measured, since the heights of sound bodies scatter by a tenth


@dataclass(frozen=True, slots=True)
class Rules:
    """What the reader goes by in one contrast.

    disc          below this ratio of nucleus to `against` a disc is diseased
    bright, dark  logarithms of the ratio of endplate to marrow beyond which an endplate is changed
    looks         how a Modic change of type 1, 2 and 3 looks in this contrast
    """

    disc: float
    against: str
    bright: float
    dark: float
    looks: tuple[str, str, str]


RULES: Mapping[str, Rules] = MappingProxyType(
    {
        "T1W": Rules(0.53, "marrow", 0.23, -0.33, ("dark", "bright", "dark")),
        "T2W": Rules(0.19, "fluid", 0.28, -0.50, ("bright", "bright", "dark")),
        "STIR": Rules(0.32, "fluid", 0.45, -0.50, ("bright", "dark", "dark")),
        "TIRM": Rules(0.21, "fluid", 0.45, -0.45, ("bright", "dark", "dark")),
    }
)


def lowest_discs(patient: SpinePatient) -> tuple[Disc, Disc]:
    """The lumbosacral disc and the one above it."""
    lumbar = [disc for disc in patient.discs if disc.name.startswith("L")]
    return lumbar[0], lumbar[1]


def read_discs(volume: Volume, patient: SpinePatient, contrast: str) -> Answers:
    """Whether L4-L5 and L5-S1 are diseased, whether an endplate of L4 to S1 is changed, and how it looks."""
    film, rules = Film(volume), RULES[contrast]
    answers: Answers = {}
    strongest = 0.0
    for level, index in LEVELS.items():
        disc = lowest_discs(patient)[index]
        marrow = _marrow(film, patient, disc)
        against = marrow if rules.against == "marrow" else _fluid(film, patient, disc)
        answers[f"{level}_disc_disease"] = bool(_nucleus(film, disc) < rules.disc * against)
        change = _endplate_change(film, disc, marrow, rules)
        strongest = max(strongest, change, key=abs)
    answers["l4_s1_modic"] = strongest != 0.0
    answers["l4_s1_modic_looks"] = "bright" if strongest > 0 else "dark" if strongest < 0 else "normal"
    return answers


def true_discs(patient: SpinePatient, contrast: str) -> Answers:
    """What `read_discs` should say of this patient; of two changes that look different, the lower one counts."""
    answers: Answers = {
        f"{level}_disc_disease": lowest_discs(patient)[index].grade >= DISEASED for level, index in LEVELS.items()
    }
    types = [disc.modic for disc in lowest_discs(patient) if disc.modic]
    answers["l4_s1_modic"] = bool(types)
    answers["l4_s1_modic_looks"] = RULES[contrast].looks[types[0] - 1] if types else "normal"
    return answers


def _nucleus(film: Film, disc: Disc) -> float:
    u = np.linspace(-0.35, 0.35, 9) * disc.half_depth_mm
    v = np.linspace(-0.35, 0.35, 5) * (disc.half_height_mm + 1.0)
    return _mean(film.around(disc.centre_mm, disc.tilt_rad, u, v))


def _fluid(film: Film, patient: SpinePatient, disc: Disc, share: float = 90.0) -> float:
    """CSF near the disc: the sac's bright end, since roots and cord lie in it."""
    z = disc.centre_mm[1] + np.linspace(-10.0, 30.0, 41)[:, None] + np.zeros((1, 8))
    depth = np.linspace(0.1, 0.9, 8)[None, :] + np.zeros_like(z)
    values = film.at(beside_wall(patient, z, depth), z)
    return float(np.nanpercentile(values, share)) if np.isfinite(values).any() else float("nan")


def _marrow(film: Film, patient: SpinePatient, disc: Disc) -> float:
    """Marrow in the middle of the bodies below and above, away from endplates and the basivertebral vein."""
    index = patient.discs.index(disc)
    medians = []
    for body in patient.vertebrae[index : index + 2]:
        u = np.linspace(-0.5, 0.2, 9) * body.half_depth_mm
        v = np.linspace(-0.25, 0.25, 7) * body.half_height_mm
        values = film.around(body.centre_mm, body.tilt_rad, u, v)
        medians.append(float(np.median(values)))
    return _mean(np.asarray(medians))


def _endplate_change(film: Film, disc: Disc, marrow: float, rules: Rules) -> float:
    """The logarithm of endplate to marrow where it is changed most, front, middle or back; 0 where it is normal."""
    if not marrow > 0.0:  # an image of nothing, or one that ends above the disc
        return 0.0
    changes = []
    for start in (-0.75, -0.25, 0.25):
        u = np.linspace(start, start + 0.5, 7) * disc.half_depth_mm
        beyond = disc.half_height_mm + np.linspace(3.5, 6.0, 5)
        sides = [film.around(disc.centre_mm, disc.tilt_rad, u, side * beyond) for side in (-1.0, 1.0)]
        ratios = [max(_mean(side) / marrow, 1e-3) for side in sides]
        changes.append(_mean(np.log(np.asarray(ratios))))
    odd = [change for change in changes if change < rules.dark or change > rules.bright]
    return max(odd, key=abs, default=0.0)


def _mean(values: Values) -> float:
    """The mean of what lies in the image; NaN, which no rule takes for a finding, when nothing does."""
    inside = values[np.isfinite(values)]
    return float(inside.mean()) if inside.size else float("nan")


def read_herniations(volume: Volume, patient: SpinePatient) -> Answers:
    """How many lumbar discs of a midsagittal T2W reach into the canal."""
    film = Film(volume)
    return {"herniations": sum(_reach_mm(film, patient, disc) >= HERNIATED_MM for disc in _lumbar_discs(patient))}


def true_herniations(volume: Volume, patient: SpinePatient) -> Answers:
    """How many protrusions this slice meets where they reach that far."""
    x_mm = volume.origin_mm[0]
    seen = [
        (disc.protrusion_mm + 1.0) * np.exp(-0.5 * ((x_mm - disc.protrusion_x_mm) / 5.0) ** 2) - 1.0
        for disc in _lumbar_discs(patient)
        if disc.protrusion_mm
    ]
    return {"herniations": sum(bool(mm >= HERNIATED_MM) for mm in seen)}


def _lumbar_discs(patient: SpinePatient) -> list[Disc]:
    return [disc for disc in patient.discs if disc.name.startswith("L")]


def _reach_mm(film: Film, patient: SpinePatient, disc: Disc) -> float:
    """From the edge of the vertebral bodies to where fluid or fat begins, in the middle of the disc."""
    u = disc.half_depth_mm + np.arange(0.0, 14.0, 0.25)
    v = np.linspace(-0.4, 0.4, 5) * disc.half_height_mm
    line = np.median(film.around(disc.centre_mm, disc.tilt_rad, u, v), axis=0)
    bright = line > 0.35 * _fluid(film, patient, disc)
    return float(u[int(np.argmax(bright))] - disc.half_depth_mm) if bright.any() else 0.0


def read_column(volume: Volume, patient: SpinePatient) -> Answers:
    """How many vertebral bodies stand above the sacrum in the image, and whether one of them has collapsed."""
    bodies = find_bodies(Film(volume), patient, lowest_discs(patient)[0].centre_mm[1])
    return {"vertebrae": len(bodies), "fracture": _collapsed(bodies, SEEN_COLLAPSED)}


def true_column(volume: Volume, patient: SpinePatient) -> Answers:
    """How many bodies above the sacrum lie in the image whole, and whether one of them is fractured that much."""
    top_mm = volume.origin_mm[2] - 3.0
    whole = [
        body
        for body in patient.vertebrae
        if not body.name.startswith("S") and body.centre_mm[1] + body.half_height_mm * np.cos(body.tilt_rad) < top_mm
    ]
    return {"vertebrae": len(whole), "fracture": _collapsed([_drawn(body) for body in whole], COLLAPSED)}


def _collapsed(bodies: Sequence[Body], share: float) -> bool:
    """Whether the front or the middle of one body is lower than this share of what is usual in the column."""
    if not bodies:
        return False
    heights = np.array([[body.front_mm, body.middle_mm] for body in bodies])
    return bool((heights < share * np.median(heights, axis=0)).any())


def _drawn(body: Vertebra) -> Body:
    """The heights that the phantom gives a body, endplates left out."""
    whole = 2.0 * body.half_height_mm
    hollow = 2.0 * body.concavity_mm + body.sunk_mm
    return Body(whole * (1.0 - body.wedge), whole * (1.0 - 0.5 * body.wedge) - hollow, whole)

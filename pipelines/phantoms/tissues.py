"""The one table of tissue properties: proton density, T1, T2 and fat fraction at 1.5 T, with their sources.

A voxel holds a water compartment (the T1 and T2 here) and a fat compartment (one T1 and T2 per patient). Values marked
"chosen" have no measurement behind them; they were set between those of the tissues that they resemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    """What a voxel is made of; the values of the truth label maps."""

    AIR = 0
    SUBCUTANEOUS_FAT = 1
    FAT = 2
    MUSCLE = 3
    CORTEX = 4
    MARROW = 5
    NUCLEUS = 6
    ANNULUS = 7
    CSF = 8
    CORD = 9
    NERVE_ROOT = 10
    FLOW_VOID = 11
    SLOW_BLOOD = 12
    BOWEL_WALL = 13
    BOWEL_FLUID = 14
    ORGAN = 15
    SKIN = 16
    LIGAMENT = 17
    MODIC_1 = 18
    MODIC_2 = 19
    MODIC_3 = 20
    OEDEMA = 21
    HAEMANGIOMA = 22
    METASTASIS = 23
    BASIVERTEBRAL_VEIN = 24
    DENSE_COLLAGEN = 25


@dataclass(frozen=True, slots=True)
class Properties:
    """Water T1 and T2 in ms, proton density (CSF = 1), fat fraction, and the fat fraction's texture amplitude."""

    t1_ms: float
    t2_ms: float
    proton_density: float
    fat_fraction: float
    texture: float
    source: str


@dataclass(frozen=True, slots=True)
class FatCompartment:
    """T1 and T2 in ms of the fat in every voxel of one patient."""

    t1_ms: float
    t2_ms: float


FAT_PROTON_DENSITY = 0.95
FAT_T1_MS = (230.0, 265.0)  # tabulated 240-250 at 1.5 T; also what clinical inversion times of 150-165 ms null
# 60-80 in single echo, 68 at 3 T, up to 165; the refocusing train of a TSE undoes the J-coupling, so that fat is often
# brighter than fluid there: the upper end is chosen so that both orders occur
FAT_T2_MS = (70.0, 260.0)

PROPERTIES: dict[Tissue, Properties] = {
    Tissue.AIR: Properties(1000, 1, 0.0, 0.0, 0.0, "no signal"),
    Tissue.SUBCUTANEOUS_FAT: Properties(900, 40, 0.80, 0.96, 0.03, "chosen: adipose tissue, 4 % water"),
    Tissue.FAT: Properties(900, 40, 0.80, 0.93, 0.05, "chosen: adipose tissue with septa and vessels"),
    Tissue.MUSCLE: Properties(940, 40, 0.80, 0.05, 0.05, "de Bazelaire 2004 (898/29 at 3 T); 860-900/50 at 1.5 T"),
    Tissue.CORTEX: Properties(600, 9, 0.12, 0.02, 0.0, "chosen: cortical bone and ligament, T2 5-15"),
    Tissue.DENSE_COLLAGEN: Properties(600, 9, 0.12, 0.02, 0.0, "chosen: as cortex; fascia, dura, rim of a disc"),
    Tissue.MARROW: Properties(900, 45, 0.85, 0.35, 0.08, "Drake-Perez 2018 (bulk 515/101); Baum 2018 (fat fraction)"),
    Tissue.NUCLEUS: Properties(1165, 130, 0.80, 0.0, 0.0, "Drake-Perez 2018; by Pfirrmann grade in NUCLEUS_BY_GRADE"),
    Tissue.ANNULUS: Properties(750, 48, 0.55, 0.0, 0.0, "by Pfirrmann grade in ANNULUS_T2_MS"),
    Tissue.CSF: Properties(4200, 1500, 1.0, 0.0, 0.0, "Drake-Perez 2018 (4273/1578)"),
    Tissue.CORD: Properties(780, 95, 0.65, 0.0, 0.0, "Drake-Perez 2018 (T2 101.6); Stanisz 2005 (745/74)"),
    Tissue.NERVE_ROOT: Properties(800, 85, 0.65, 0.05, 0.03, "chosen: as the cord"),
    Tissue.FLOW_VOID: Properties(1400, 200, 0.05, 0.0, 0.0, "chosen: arterial flow dephases the spin echo"),
    Tissue.SLOW_BLOOD: Properties(1400, 180, 0.45, 0.0, 0.0, "chosen: venous blood, part of the void"),
    Tissue.BOWEL_WALL: Properties(950, 55, 0.75, 0.15, 0.15, "chosen: near muscle"),
    Tissue.BOWEL_FLUID: Properties(2600, 500, 0.95, 0.0, 0.0, "chosen: mucous fluid"),
    Tissue.ORGAN: Properties(950, 80, 0.80, 0.02, 0.03, "de Bazelaire 2004 (kidney 966-1412/85-87)"),
    Tissue.SKIN: Properties(850, 28, 0.60, 0.10, 0.0, "chosen: short T2 of dermis"),
    Tissue.LIGAMENT: Properties(700, 20, 0.40, 0.10, 0.05, "chosen: elastic ligament (flavum), T2 15-25"),
    Tissue.MODIC_1: Properties(1200, 85, 0.90, 0.12, 0.04, "chosen: marrow replaced by water (Modic 1988)"),
    Tissue.MODIC_2: Properties(900, 45, 0.85, 0.78, 0.05, "chosen: fatty marrow (Modic 1988)"),
    Tissue.MODIC_3: Properties(900, 40, 0.30, 0.20, 0.03, "chosen: sclerosis (Modic 1988)"),
    Tissue.OEDEMA: Properties(1200, 90, 0.92, 0.12, 0.05, "chosen: water-replacing"),
    Tissue.HAEMANGIOMA: Properties(1000, 110, 0.90, 0.60, 0.10, "chosen: fat and slow venous blood"),
    Tissue.METASTASIS: Properties(1100, 80, 0.88, 0.04, 0.03, "chosen: cellular, fat replaced"),
    Tissue.BASIVERTEBRAL_VEIN: Properties(1300, 130, 0.85, 0.20, 0.0, "chosen: slow venous blood in marrow"),
}

# T1 ms, T2 ms, proton density of the nucleus, by Pfirrmann grade: T2 from 479 discs (210 +- 32, 129 +- 19, 84 +- 10,
# 51 +- 9 for grades I to IV; Marinelli found 108 for II and 53 for IV), T1 and proton density from Drake-Perez 2018
NUCLEUS_BY_GRADE: dict[int, tuple[float, float, float]] = {
    1: (1250, 210, 0.92),
    2: (1120, 129, 0.84),
    3: (900, 84, 0.72),
    4: (700, 51, 0.58),
    5: (580, 42, 0.48),
}
ANNULUS_T2_MS: dict[int, float] = {1: 55, 2: 50, 3: 45, 4: 38, 5: 36}  # anterior annulus, same series

ROOT_CSF_SHARE = (0.0, 0.95)  # a root of the cauda equina is thinner than a pixel: how much fluid its pixels hold
CONSTANTS_SPREAD = 0.06  # relative SD of T1, T2 and proton density between patients


def vary(properties: Properties, rng: np.random.Generator, spread: float = CONSTANTS_SPREAD) -> Properties:
    """One patient's value of `properties`: relative scatter on the constants, absolute scatter on the fat fraction."""
    t1, t2, density = np.clip(1.0 + spread * rng.standard_normal(3), 0.75, 1.25)
    fat = properties.fat_fraction * (1.0 + 0.5 * spread * float(rng.standard_normal()))
    return Properties(
        properties.t1_ms * float(t1),
        properties.t2_ms * float(t2),
        properties.proton_density * float(1.0 + 0.5 * (density - 1.0)),
        float(np.clip(fat, 0.0, 0.99)),
        properties.texture,
        properties.source,
    )


def mix(one: Properties, other: Properties, share: float) -> Properties:
    """`one` with a `share` of `other` in the same pixel: densities and relaxation rates in proportion."""
    kept = 1.0 - share
    return Properties(
        1.0 / (kept / one.t1_ms + share / other.t1_ms),
        1.0 / (kept / one.t2_ms + share / other.t2_ms),
        kept * one.proton_density + share * other.proton_density,
        kept * one.fat_fraction + share * other.fat_fraction,
        kept * one.texture + share * other.texture,
        one.source,
    )

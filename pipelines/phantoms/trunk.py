"""Draws the axial slice of a virtual patient: chest, abdomen or pelvis, with what may be wrong in it.

Sizes are those of adults; more small structure is drawn than a body holds, so that a denoiser does not learn that
whatever is small is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipelines.phantoms.body import HU, REGIONS, AxialBody, Matter, Shape, texture_fields

Point = tuple[float, float]


class _Painter:
    """Collects the shapes of one slice; every number is drawn from one generator."""

    def __init__(self, rng: np.random.Generator, enhanced: bool) -> None:
        self.rng = rng
        self.shapes: list[Shape] = []
        self.hu = {matter: float(rng.uniform(*bounds)) for matter, bounds in HU.items()}
        if enhanced:
            self.hu[Matter.BLOOD] = float(rng.uniform(110, 320))
            self.hu[Matter.LIVER] += float(rng.uniform(20, 60))
            self.hu[Matter.ORGAN] += float(rng.uniform(40, 140))
            self.hu[Matter.MUSCLE] += float(rng.uniform(5, 15))

    def add(self, matter: Matter, centre: Point, radii: Point, angle: float = 0.0, waver: float = 0.0,
            edge_mm: float = 0.0, within: str = "cavity", hu: float | None = None) -> Shape:  # fmt: skip
        """Paints one more shape over those before; `waver` is the size of its rim's irregularity."""
        wobble = tuple(
            (waves, float(abs(self.rng.normal(0, waver / waves**0.5))), float(self.rng.uniform(0, 6.28)))
            for waves in ((2, 3, 5) if waver else ())
        )
        value = self.hu[matter] if hu is None else hu
        shape = Shape(matter, centre, radii, value, angle, wobble, edge_mm, within)
        self.shapes.append(shape)
        return shape

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def near(self, centre: Point, spread: float) -> Point:
        return centre[0] + float(self.rng.normal(0, spread)), centre[1] + float(self.rng.normal(0, spread))

    def bone(self, centre: Point, radii: Point, angle: float = 0.0, cortex_mm: float = 1.6, waver: float = 0.0,
             within: str = "skin") -> None:  # fmt: skip
        """Cortex with marrow inside."""
        outer = self.add(Matter.CORTEX, centre, radii, angle, waver, within=within)
        inside = (max(radii[0] - cortex_mm, 0.4), max(radii[1] - cortex_mm, 0.4))
        self.shapes.append(replace(outer, matter=Matter.MARROW, radii_mm=inside, hu=self.hu[Matter.MARROW]))


def axial_body(seed: int, region: str | None = None, lesion_rate: float = 1.0, scale: float = 1.0) -> AxialBody:
    """The slice of virtual patient `seed`, the same at every call; `scale` multiplies the size of the whole body.

    Half of the patients got contrast agent. `lesion_rate` scales how many lesions there are.
    """
    return axial_parts(seed, region, lesion_rate, scale).body


@dataclass(frozen=True, slots=True, eq=False)
class AxialParts:
    """A body with the ends of its groups: shapes[:wall], then organs, spine, small structure, lesions, the couch."""

    body: AxialBody
    spine_mm: Point  # the middle of the vertebral body
    hu: Mapping[Matter, float]
    ends: tuple[int, int, int, int, int]

    def group(self, index: int) -> tuple[Shape, ...]:
        """The shapes of one group: 0 the wall, 1 organs, 2 the spine, 3 small structure, 4 lesions, 5 the couch."""
        bounds = (0, *self.ends, len(self.body.shapes))
        return self.body.shapes[bounds[index] : bounds[index + 1]]


def axial_parts(seed: int, region: str | None = None, lesion_rate: float = 1.0, scale: float = 1.0) -> AxialParts:
    """The slice of `axial_body`, with what belongs to what."""
    rng = np.random.default_rng([seed, 20260202])
    drawn = str(rng.choice(REGIONS))
    region = drawn if region is None else region
    width = scale * float(rng.uniform(140, 205))
    half = (width, width * float(rng.uniform(0.6, 0.8)))
    painter = _Painter(rng, enhanced=bool(rng.random() < 0.5))
    skin, cavity, spine = _wall(painter, half, region)
    wall = len(painter.shapes)
    {"chest": _chest, "abdomen": _abdomen, "pelvis": _pelvis}[region](painter, cavity, spine)
    organs = len(painter.shapes)
    _spine(painter, spine)
    column = len(painter.shapes)
    _small_structure(painter, half, cavity)
    small = len(painter.shapes)
    _lesions(painter, cavity, spine, lesion_rate)
    lesions = len(painter.shapes)
    _table(painter, half)
    texture = float(rng.uniform(0.4, 1.5))
    body = AxialBody(seed, region, tuple(painter.shapes), skin, cavity, half, texture, texture_fields(rng))
    return AxialParts(body, spine, painter.hu, (wall, organs, column, small, lesions))


def _wall(painter: _Painter, half: Point, region: str) -> tuple[Shape, Shape, Point]:
    """Subcutaneous fat, the muscles of wall and back: (skin, cavity, the middle of the vertebral body)."""
    a, b = half
    fat_side, fat_front = painter.between(5, 0.22 * a), painter.between(5, 0.25 * b)
    skin = painter.add(Matter.MUSCLE, (0, 0), (a, b), waver=0.01, within="", hu=20.0)
    painter.shapes.append(replace(skin, matter=Matter.FAT, radii_mm=(a - 1.6, b - 1.6), hu=painter.hu[Matter.FAT]))
    muscle = (a - fat_side, b - 0.5 * (fat_front + 10.0))
    shift = 0.5 * (fat_front - 10.0)
    painter.add(Matter.MUSCLE, (0, shift), muscle, waver=0.015, within="skin", edge_mm=1.0)
    thick = painter.between(7, 16)
    inside = (muscle[0] - thick, muscle[1] - thick - 11.0)
    cavity = Shape(Matter.FAT, (0, shift - 10.0), inside, painter.hu[Matter.FAT])
    painter.shapes.append(cavity)
    spine = (painter.between(-3, 3), cavity.centre_mm[1] + cavity.radii_mm[1] - painter.between(14, 24))
    for side in (-1, 1):
        back = (spine[0] + side * painter.between(27, 36), spine[1] + painter.between(27, 36))
        painter.add(Matter.MUSCLE, back, (24, 17), side * 0.3, 0.06, 1.0, within="skin")
        if region != "chest":
            psoas = (spine[0] + side * painter.between(36, 44), spine[1] + painter.between(-8, 4))
            painter.add(Matter.MUSCLE, psoas, (painter.between(11, 19), painter.between(14, 24)), side * 0.4, 0.05, 1.5)
    return skin, cavity, spine


def _spine(painter: _Painter, spine: Point) -> None:
    """Vertebral body, canal with its content, and the arch."""
    x, y = spine
    width, depth = painter.between(19, 25), painter.between(14, 18)
    for side in (-1, 1):
        painter.bone((x + side * 13, y + depth + 6), (5, 9), side * 0.25)  # pedicle
        painter.bone((x + side * 28, y + depth + 12), (18, 4.5), side * 0.3)  # transverse process
        painter.bone((x + side * 9, y + depth + 19), (12, 4), -side * 0.7)  # lamina
    painter.bone((x, y + depth + 31), (4, 11))  # spinous process
    if painter.rng.random() < 0.3:  # the slice runs through a disc
        painter.add(Matter.OTHER, spine, (width, depth), waver=0.03, within="skin", hu=painter.between(60, 110))
    else:
        painter.bone(spine, (width, depth), cortex_mm=painter.between(0.8, 1.8), waver=0.03)
    canal = (x, y + depth + 7)
    painter.add(Matter.FAT, canal, (11, 8.5), within="skin")
    painter.add(Matter.FLUID, canal, (9, 7.5), within="skin")
    painter.add(Matter.NERVE, canal, (5.5, 4), within="skin", edge_mm=1.0)


def _ribs(painter: _Painter, cavity: Shape) -> None:
    """Pieces of ribs in the wall, each along its curve."""
    a, b = cavity.radii_mm[0] + 5, cavity.radii_mm[1] + 5
    for theta in np.arange(-1.2, 4.3, painter.between(0.32, 0.5)):
        angle = float(theta + painter.rng.normal(0, 0.05))
        centre = (cavity.centre_mm[0] + a * float(np.cos(angle)), cavity.centre_mm[1] - b * float(np.sin(angle)))
        tangent = float(np.arctan2(-b * np.cos(angle), -a * np.sin(angle)))
        painter.bone(centre, (painter.between(6, 18), painter.between(3, 4.5)), tangent, cortex_mm=1.2)


def _chest(painter: _Painter, cavity: Shape, spine: Point) -> None:
    a, b = cavity.radii_mm
    _ribs(painter, cavity)
    lungs = []
    for side in (-1, 1):
        centre = (side * 0.53 * a, cavity.centre_mm[1] + painter.between(-0.05, 0.12) * b)
        lungs.append(painter.add(Matter.LUNG, centre, (0.44 * a, 0.86 * b), side * 0.06, 0.03, painter.between(0, 2)))
    for lung in lungs:
        _tree(painter, lung)
    heart = (painter.between(5, 30), cavity.centre_mm[1] - painter.between(0.1, 0.35) * b)
    painter.add(Matter.FAT, heart, (0.36 * a, 0.46 * b), 0.5, 0.04, 2.0)
    painter.add(Matter.MUSCLE, heart, (0.32 * a, 0.41 * b), 0.5, 0.04, 2.0)
    for _ in range(int(painter.rng.integers(2, 5))):
        size = painter.between(10, 28)
        painter.add(Matter.BLOOD, painter.near(heart, 0.13 * a), (size, 0.8 * size), painter.between(0, 3), 0.08, 2.0)
    aorta = (spine[0] + painter.between(20, 30), spine[1] - painter.between(10, 20))
    painter.add(Matter.BLOOD, aorta, (painter.between(10, 15),) * 2)
    painter.add(Matter.MUSCLE, (spine[0] + 6, spine[1] - 28), (8, 6), waver=0.1)  # oesophagus
    trachea = (spine[0] + painter.between(-4, 4), spine[1] - painter.between(38, 50))
    painter.add(Matter.MUSCLE, trachea, (10, 9.5))
    painter.add(Matter.AIR, trachea, (8.2, 7.8), hu=-990.0)
    painter.bone((painter.between(-3, 3), cavity.centre_mm[1] - b - 5), (18, 5))  # sternum
    for side in (-1, 1):
        painter.bone((side * (0.75 * a), spine[1] + 30), (28, 4), -side * 0.6)  # scapula


def _tree(painter: _Painter, lung: Shape) -> None:
    """Vessels and airways of a lung, smaller towards its rim."""
    for _ in range(int(painter.rng.integers(60, 130))):
        theta, out = painter.between(0, 6.28), float(np.sqrt(painter.rng.random())) * 0.93
        centre = (
            lung.centre_mm[0] + out * lung.radii_mm[0] * float(np.cos(theta)),
            lung.centre_mm[1] + out * lung.radii_mm[1] * float(np.sin(theta)),
        )
        size = painter.between(0.5, 1.2 + 3.0 * (1.0 - out))
        angle, length = painter.between(0, 3.14), float(np.exp(painter.between(0, 2.2)))
        painter.add(Matter.BLOOD, centre, (size * length, size), angle, edge_mm=painter.between(0, 1.5))
        if size > 2.0 and painter.rng.random() < 0.4:
            beside = painter.near(centre, size)
            painter.add(Matter.MUSCLE, beside, (size, size), hu=-100.0)
            painter.add(Matter.AIR, beside, (0.7 * size, 0.7 * size), hu=-950.0)


def _abdomen(painter: _Painter, cavity: Shape, spine: Point) -> None:
    a, b = cavity.radii_mm
    y0 = cavity.centre_mm[1]
    _ribs(painter, cavity)
    liver = painter.add(
        Matter.LIVER, (-0.5 * a, y0 - painter.between(-0.1, 0.2) * b), (painter.between(0.35, 0.58) * a, 0.8 * b),
        painter.between(-0.3, 0.3), 0.05, painter.between(0, 3),
    )  # fmt: skip
    for _ in range(int(painter.rng.integers(8, 24))):
        place, size = painter.near(liver.centre_mm, 0.22 * a), painter.between(0.8, 4.0)
        faint = liver.hu + painter.between(-0.2, 1.0) * (painter.hu[Matter.BLOOD] - liver.hu)
        painter.add(Matter.BLOOD, place, (size * painter.between(1, 5), size), painter.between(0, 3), 0, 1.0, hu=faint)
    painter.add(Matter.ORGAN, (0.66 * a, y0 + 0.15 * b), (0.2 * a, 0.42 * b), -0.2, 0.06, 1.0)  # spleen
    for side in (-1, 1):
        centre = (spine[0] + side * painter.between(55, 68), spine[1] - painter.between(-6, 14))
        size = painter.between(20, 29)
        painter.add(Matter.ORGAN, centre, (size, 0.85 * size), side * 0.5, 0.05, painter.between(0, 2))
        painter.add(Matter.FAT, centre, (0.42 * size, 0.28 * size), side * 0.5, 0.15, 2.0, hu=-60.0)
    stomach = (painter.between(0.2, 0.45) * a, y0 - 0.45 * b)
    painter.add(Matter.MUSCLE, stomach, (0.3 * a, 0.28 * b), 0.4, 0.08)
    painter.add(Matter.FLUID, stomach, (0.3 * a - 4, 0.28 * b - 4), 0.4, 0.08)
    if painter.rng.random() < 0.6:
        painter.add(Matter.AIR, (stomach[0], stomach[1] - 0.12 * b), (0.18 * a, 0.1 * b), hu=-990.0)
    painter.add(
        Matter.ORGAN, (0.0, y0 - 0.02 * b), (0.3 * a, 0.1 * b), painter.between(-0.3, 0.3), 0.1, 2.0
    )  # pancreas
    _bowel(painter, (0.0, y0 - 0.35 * b), (0.5 * a, 0.3 * b), int(painter.rng.integers(4, 12)))
    _great_vessels(painter, spine)


def _pelvis(painter: _Painter, cavity: Shape, spine: Point) -> None:
    a, b = cavity.radii_mm
    y0 = cavity.centre_mm[1]
    high = painter.rng.random() < 0.5
    for side in (-1, 1):
        painter.add(
            Matter.MUSCLE, (side * 0.75 * a, spine[1] + 8), (0.3 * a, 30), -side * 0.5, 0.06, 1.0, within="skin"
        )
        if high:
            painter.bone((side * 0.66 * a, y0 + 0.35 * b), (0.36 * a, 8), -side * 0.9, 1.8)
        else:
            painter.bone((side * 0.72 * a, y0 + 0.1 * b), (24, 24), cortex_mm=2.0)
            painter.bone((side * 0.55 * a, y0 + 0.1 * b), (7, 27), cortex_mm=1.8)
    painter.bone((spine[0], spine[1] + 8), (0.3 * a, 16), waver=0.06)
    if not high:
        painter.add(Matter.MUSCLE, (0, y0 - 0.25 * b), (0.36 * a, 0.33 * b), waver=0.04)
        painter.add(Matter.FLUID, (0, y0 - 0.25 * b), (0.34 * a, 0.3 * b), waver=0.04)  # bladder
    _bowel(painter, (0.0, y0 + 0.0 * b), (0.5 * a, 0.45 * b), int(painter.rng.integers(6, 16)))
    for side in (-1, 1):
        for _ in range(2):
            painter.add(Matter.BLOOD, (side * painter.between(40, 70), y0 + painter.between(-20, 25)), (6, 5.5))


def _great_vessels(painter: _Painter, spine: Point) -> None:
    painter.add(Matter.BLOOD, (spine[0] + 8, spine[1] - 27), (painter.between(8, 13),) * 2)
    painter.add(Matter.BLOOD, (spine[0] - 20, spine[1] - 25), (painter.between(9, 14), painter.between(6, 11)), 0.2)


def _bowel(painter: _Painter, centre: Point, spread: Point, loops: int) -> None:
    """Loops with a wall and gas, fluid or stool."""
    for _ in range(loops):
        place = (
            centre[0] + spread[0] * float(painter.rng.normal(0, 0.7)),
            centre[1] + spread[1] * float(painter.rng.normal(0, 0.7)),
        )
        size = (painter.between(9, 26), painter.between(8, 17))
        angle, wall = painter.between(0, 3), painter.between(1.5, 3.5)
        outer = painter.add(Matter.MUSCLE, place, size, angle, 0.08, 1.0)
        inside = (size[0] - wall, size[1] - wall)
        matter, hu = [
            (Matter.AIR, -980.0), (Matter.FLUID, painter.between(0, 30)), (Matter.OTHER, painter.between(-60, 80)),
        ][int(painter.rng.choice(3, p=[0.3, 0.45, 0.25]))]  # fmt: skip
        painter.shapes.append(replace(outer, matter=matter, radii_mm=inside, hu=hu))


def _small_structure(painter: _Painter, half: Point, cavity: Shape) -> None:
    """Vessels and strands in fat, septa, calcifications, and odd bits of every contrast."""
    a, b = half
    for _ in range(int(painter.rng.integers(40, 120))):
        place = (painter.between(-0.9, 0.9) * a, painter.between(-0.9, 0.9) * b)
        if (place[0] / a) ** 2 + (place[1] / b) ** 2 > 0.85:
            continue
        size = float(np.exp(painter.between(np.log(0.5), np.log(4.0))))
        length = min(float(np.exp(painter.between(0.0, 2.7))), 9.0 / size)
        hu = float(painter.rng.choice([-105.0, 40.0, 55.0, painter.hu[Matter.BLOOD]])) + float(
            painter.rng.normal(0, 25)
        )
        painter.add(Matter.OTHER, place, (size * length, size), painter.between(0, 3.14), 0.1,
                    painter.between(0, 2), within="skin", hu=hu)  # fmt: skip
    for _ in range(int(painter.rng.poisson(3))):
        size = painter.between(0.5, 2.0)
        place = (painter.between(-0.6, 0.6) * a, painter.between(-0.6, 0.6) * b)
        painter.add(Matter.OTHER, place, (size, size * painter.between(0.6, 1)), hu=painter.between(250, 1100))


def _lesions(painter: _Painter, cavity: Shape, spine: Point, lesion_rate: float) -> None:
    """Round, low in contrast against whatever lies there: what a noisy image hides first."""
    a, b = cavity.radii_mm
    hosts = [s for s in painter.shapes if s.matter in (Matter.LIVER, Matter.ORGAN) and min(s.radii_mm) > 15]
    for _ in range(int(painter.rng.poisson(3.0 * lesion_rate))):
        size = float(np.exp(painter.between(np.log(1.5), np.log(10.0))))
        if hosts and painter.rng.random() < 0.6:
            host = hosts[int(painter.rng.integers(len(hosts)))]
            place, base = painter.near(host.centre_mm, 0.4 * min(host.radii_mm)), host.hu
        elif painter.rng.random() < 0.3:
            place, base = painter.near(spine, 7.0), painter.hu[Matter.MARROW]
        else:
            place, base = (painter.between(-0.7, 0.7) * a, painter.between(-0.7, 0.7) * b), painter.hu[Matter.MUSCLE]
        contrast = float(painter.rng.choice([-1, 1])) * painter.between(8, 60)
        painter.add(Matter.LESION, place, (size, size * painter.between(0.7, 1.0)), painter.between(0, 3), 0.06,
                    painter.between(0, 2), within="skin", hu=base + contrast)  # fmt: skip


def _table(painter: _Painter, half: Point) -> None:
    """The couch under the patient: a thin shell."""
    y = half[1] + painter.between(4, 9)
    painter.add(Matter.OTHER, (0.0, y + 6.0), (200.0, 6.0), within="", hu=-350.0)
    painter.add(Matter.OTHER, (0.0, y + 6.0), (197.0, 4.6), within="", hu=-930.0)

"""The trunk of a virtual patient as a volume: the shapes of its axial slice get a course along z, and a spine is built.

Endplates are tilted and hollow, ribs and vessels run obliquely, organs, bowel loops and lesions begin and end: what a
thick slice blurs. Lengths and slopes are those of adults or chosen; small structure is dense on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from pipelines.phantoms.body import Matter, Shape
from pipelines.phantoms.solids import Solid, SolidBody
from pipelines.phantoms.trunk import AxialParts, Point, axial_parts

WALL, ORGANS, SPINE, SMALL, LESIONS, COUCH = range(6)
REACH_MM = 45.0  # small things are spread over so much above and below the middle
SMALLEST_RADIUS_MM = 1.0  # of a lesion


def trunk_volume(
    seed: int,
    region: str | None = None,
    lesion_rate: float = 1.0,
    scale: float = 1.0,
    steepness: float = 1.0,
) -> SolidBody:
    """The volume of virtual patient `seed`, the same at every call, around z = 0.

    `lesion_rate` scales how many lesions of 2 to 10 mm there are, `steepness` how much ribs and vessels slant.
    """
    parts = axial_parts(seed, region, lesion_rate, scale)
    rng = np.random.default_rng([seed, 20261121])
    growth, body = float(rng.normal(0.0, 0.0012)), parts.body
    wall = [Solid(shape, taper=growth) for shape in parts.group(WALL)]
    # every solid is cut to the borders of skin and cavity, so both must follow the wall
    skin, cavity = Solid(body.skin, taper=growth), Solid(body.cavity, taper=growth)
    lesions = tuple(_lesions(rng, parts, lesion_rate))
    solids = (
        *wall,
        *_organs(rng, parts, steepness),
        *_spine(rng, parts),
        *(solid for shape in parts.group(SMALL) for solid in _scattered(rng, shape, steepness)),
        *lesions,
        *(Solid(shape) for shape in parts.group(COUCH)),
    )
    return SolidBody(body, solids, skin, cavity, lesions)


def _organs(rng: np.random.Generator, parts: AxialParts, steepness: float) -> Iterator[Solid]:
    """Each shape with its course; what lies inside another (marrow, lumen) follows it and ends a little earlier."""
    around: Shape | None = None
    courses: list[Solid] = []
    for shape in parts.group(ORGANS):
        if around is not None and shape.centre_mm == around.centre_mm and max(shape.radii_mm) <= max(around.radii_mm):
            wall_mm = max(0.0, min(around.radii_mm) - min(shape.radii_mm))
            for one in courses:
                inside = replace(shape, centre_mm=one.shape.centre_mm, angle=one.shape.angle)
                yield replace(one, shape=inside, half_mm=max(0.5, one.half_mm - wall_mm))
        else:
            around, courses = shape, list(_course(rng, shape, steepness))
            yield from courses


def _course(rng: np.random.Generator, shape: Shape, steepness: float) -> Iterator[Solid]:
    """How one shape of an organ's goes on."""
    large, small = max(shape.radii_mm), min(shape.radii_mm)
    sway = (float(rng.normal(0.0, 2.0)), float(rng.normal(0.0, 2.0)))
    wave, phase = float(rng.uniform(60.0, 160.0)), float(rng.uniform(0.0, 6.28))
    if shape.matter is Matter.CORTEX:  # ribs descend along their curve; the pelvis is steep
        slope = _along(shape, steepness * float(rng.uniform(0.6, 1.8)) * (1.0 if large < 20.0 else 0.4))
        yield Solid(shape, float(rng.uniform(-25.0, 25.0)), float(rng.uniform(25.0, 60.0)), slope)
    elif shape.matter is Matter.LUNG or large > 45.0:
        half = float(rng.uniform(60.0, 130.0))
        yield Solid(shape, float(rng.uniform(-0.7, 0.7)) * half, half, sway=sway, wave_mm=wave, phase=phase)
    elif shape.matter is Matter.BLOOD and small > 5.0:  # great vessels run along the body
        slope = (float(rng.normal(0.0, 0.15)), float(rng.normal(0.0, 0.15)))
        yield Solid(shape, 0.0, slope=slope, sway=sway, wave_mm=wave, phase=phase)
    elif small < 6.0 and shape.edge_mm <= 2.0 and shape.matter in (Matter.BLOOD, Matter.OTHER, Matter.MUSCLE):
        yield from _scattered(rng, shape, steepness)
    else:
        half = float(rng.uniform(0.8, 2.0)) * max(large, 8.0)
        yield Solid(shape, float(rng.uniform(-0.8, 0.8)) * half, half, sway=sway, wave_mm=wave, phase=phase)


def _along(shape: Shape, slant: float) -> tuple[float, float]:
    """A slope of `slant` mm a mm along the longer axis of the shape."""
    angle = shape.angle if shape.radii_mm[0] >= shape.radii_mm[1] else shape.angle + 0.5 * np.pi
    return slant * float(np.cos(angle)), slant * float(np.sin(angle))


def _scattered(rng: np.random.Generator, shape: Shape, steepness: float) -> Iterator[Solid]:
    """A small thing, and others like it above and below, so that each slice shows as many as the slice at z = 0.

    The section of a tube is longer than wide by as much as it slants.
    """
    aspect = max(shape.radii_mm) / min(shape.radii_mm)
    slant = steepness * float(np.sqrt(max(aspect**2 - 1.0, 0.0))) * float(rng.choice((-1, 1)))
    slant = float(np.clip(slant, -4.0, 4.0))
    half = float(np.exp(rng.uniform(np.log(1.5), np.log(18.0)))) / max(1.0, abs(slant)) + min(shape.radii_mm)
    count = int(np.clip(round(REACH_MM / half), 1, 12))
    for _ in range(count):
        aside = rng.normal(0.0, 10.0, 2)
        place = (shape.centre_mm[0] + float(aside[0]), shape.centre_mm[1] + float(aside[1]))
        one = replace(shape, centre_mm=place, edge_mm=0.0, angle=shape.angle + float(rng.normal(0.0, 0.5)))
        height = float(rng.uniform(-REACH_MM, REACH_MM))
        yield Solid(one, height, half, _along(one, slant), (float(rng.normal(0.0, 1.0)),) * 2, 25.0)


def _spine(rng: np.random.Generator, parts: AxialParts) -> Iterator[Solid]:
    """Discs, vertebral bodies with endplates, canal, and the arch of each vertebra."""
    (x, y), hu = parts.spine_mm, parts.hu
    wide, deep = float(rng.uniform(19, 25)), float(rng.uniform(14, 18))
    lordosis = float(rng.normal(0.0, 0.18))  # how far the column leans at z = 0
    period = float(rng.uniform(29.0, 39.0))
    disc = float(rng.uniform(5.0, 12.0))
    first = float(rng.uniform(0.0, period))
    slope = (0.0, lordosis)

    def piece(matter: Matter, place: Point, radii: Point, value: float) -> Shape:
        return Shape(matter, place, radii, value, within="skin")

    annulus = piece(Matter.OTHER, (x, y), (wide - 0.5, deep - 0.5), float(rng.uniform(60, 110)))
    yield Solid(annulus, slope=slope)
    for index in range(-3, 4):
        z = first + index * period
        here = (x, y + lordosis * z)
        tilt = -lordosis + float(rng.normal(0.0, 0.06))
        half, plate = 0.5 * (period - disc), float(rng.uniform(0.5, 1.3))
        hollow, cortex = float(rng.uniform(0.5, 3.0)), float(rng.uniform(0.6, 1.5))
        shell = piece(Matter.CORTEX, here, (wide, deep), hu[Matter.CORTEX] * float(rng.uniform(0.5, 1.0)))
        shell = replace(shell, wobble=((2, 0.02, 0.4), (3, 0.015, 1.0)))
        body = Solid(shell, z, half, slope, flat=True, tilt=tilt, hollow_mm=hollow)
        yield body
        marrow = replace(shell, matter=Matter.MARROW, radii_mm=(wide - cortex, deep - cortex), hu=hu[Matter.MARROW])
        yield replace(body, shape=marrow, half_mm=half - plate)
    canal = (x, y + deep + 7)
    for matter, radii in ((Matter.FAT, (11.0, 8.5)), (Matter.FLUID, (9.0, 7.5)), (Matter.NERVE, (5.5, 4.0))):
        yield Solid(piece(matter, canal, radii, hu[matter]), slope=slope)
    for index in range(-3, 4):
        z = first + index * period
        back = y + deep + lordosis * z
        for side in (-1.0, 1.0):
            for place, radii, angle, height, half in (
                ((x + side * 13, back + 6), (5.0, 9.0), side * 0.25, 5.0, 7.5),  # pedicle
                ((x + side * 28, back + 12), (18.0, 4.5), side * 0.3, 3.0, 5.0),  # transverse process
                ((x + side * 9, back + 19), (12.0, 4.0), -side * 0.7, -5.0, 10.0),  # lamina
                ((x + side * 18, back + 14), (6.0, 7.0), 0.0, -0.5 * period, 9.0),  # articular processes
            ):
                yield from _bone(hu, place, radii, angle, z + height, half)
        yield from _bone(hu, (x, back + 31), (4.0, 11.0), 0.0, z - 8.0, 10.0)  # spinous process


def _bone(
    hu: Mapping[Matter, float], place: Point, radii: Point, angle: float, z_mm: float, half_mm: float
) -> Iterator[Solid]:
    """Cortex of 1.4 mm with marrow inside."""
    outer = Shape(Matter.CORTEX, place, radii, hu[Matter.CORTEX], angle)
    yield Solid(outer, z_mm, half_mm)
    inner = replace(outer, matter=Matter.MARROW, radii_mm=(radii[0] - 1.4, radii[1] - 1.4), hu=hu[Matter.MARROW])
    yield Solid(inner, z_mm, half_mm - 1.4)


def _lesions(rng: np.random.Generator, parts: AxialParts, rate: float) -> Iterator[Solid]:
    """Round lesions of 2 to 10 mm across, in organs, marrow and muscle, and calcifications of 1 to 3 mm."""
    a, b = parts.body.cavity.radii_mm
    hosts = [s for s in parts.group(ORGANS) if s.matter in (Matter.LIVER, Matter.ORGAN) and min(s.radii_mm) > 15]
    for _ in range(int(rng.poisson(14.0 * rate))):
        radius = float(np.exp(rng.uniform(np.log(SMALLEST_RADIUS_MM), np.log(5.0))))
        if hosts and rng.random() < 0.6:
            host = hosts[int(rng.integers(len(hosts)))]
            spread, (x, y), base = 0.4 * min(host.radii_mm), host.centre_mm, host.hu
        elif rng.random() < 0.3:
            spread, (x, y), base = 7.0, parts.spine_mm, parts.hu[Matter.MARROW]
        else:
            spread, (x, y), base = 0.3 * min(a, b), parts.body.cavity.centre_mm, parts.hu[Matter.MUSCLE]
        place = (x + float(rng.normal(0.0, spread)), y + float(rng.normal(0.0, spread)))
        value = base + float(rng.choice((-1, 1))) * float(rng.uniform(10.0, 80.0))
        radii = (radius, radius * float(rng.uniform(0.75, 1.0)))
        shape = Shape(Matter.LESION, place, radii, value, float(rng.uniform(0.0, 3.0)))
        yield Solid(shape, float(rng.uniform(-30.0, 30.0)), radius * float(rng.uniform(0.8, 1.2)))
    for _ in range(int(rng.poisson(6))):
        radius = float(rng.uniform(0.5, 1.5))
        place = (float(rng.uniform(-0.6, 0.6)) * a, float(rng.uniform(-0.6, 0.6)) * b)
        shape = Shape(Matter.OTHER, place, (radius, radius), float(rng.uniform(250.0, 1100.0)))
        yield Solid(shape, float(rng.uniform(-30.0, 30.0)), radius)

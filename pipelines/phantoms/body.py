"""The axial CT phantom: the trunk of a virtual patient as shapes in Hounsfield units, painted at any pixel spacing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Labels = NDArray[np.uint8]

FIELD_SIZE = 512
FIELD_STEP_MM = 0.7  # the texture fields repeat after 358 mm
REGIONS = ("chest", "abdomen", "pelvis")


class Matter(IntEnum):
    """What a pixel is made of; the values of the truth label maps. BORDER marks pixels that hold more than one."""

    BORDER = 0
    AIR = 1
    LUNG = 2
    FAT = 3
    MUSCLE = 4
    LIVER = 5
    ORGAN = 6
    BLOOD = 7
    FLUID = 8
    MARROW = 9
    CORTEX = 10
    NERVE = 11
    LESION = 12
    OTHER = 13


# HU (lowest, highest) between patients. Marrow: Pickhardt 2013 (at least 160 normal, at most 110 osteoporotic); the
# others are the usual textbook ranges at 120 kV without contrast agent
HU: dict[Matter, tuple[float, float]] = {
    Matter.AIR: (-1000.0, -1000.0),
    Matter.LUNG: (-880.0, -740.0),
    Matter.FAT: (-120.0, -90.0),
    Matter.MUSCLE: (40.0, 62.0),
    Matter.LIVER: (35.0, 68.0),
    Matter.ORGAN: (28.0, 50.0),
    Matter.BLOOD: (35.0, 52.0),
    Matter.FLUID: (-2.0, 22.0),
    Matter.MARROW: (80.0, 260.0),
    Matter.CORTEX: (600.0, 1300.0),
    Matter.NERVE: (22.0, 38.0),
}
# coarse (about 12 mm), middle (4 mm) and fine (1.5 mm) texture in HU; chosen
TEXTURE: dict[Matter, tuple[float, float, float]] = {
    Matter.LUNG: (18.0, 22.0, 22.0),
    Matter.FAT: (3.0, 4.0, 3.0),
    Matter.MUSCLE: (3.0, 5.0, 2.0),
    Matter.LIVER: (2.0, 2.0, 1.0),
    Matter.ORGAN: (2.0, 3.0, 1.0),
    Matter.MARROW: (15.0, 20.0, 30.0),
    Matter.OTHER: (20.0, 30.0, 15.0),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """An ellipse in mm (x to the left, y to the back), its rim wavering by `wobble`: (waves, share, phase) each.

    `edge_mm` is how far its border is smeared: organs meet the slice at a slant. Nothing of it shows beyond the border
    of what it lies `within`: "skin", "cavity" or, when empty, anywhere.
    """

    matter: Matter
    centre_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    hu: float
    angle: float = 0.0
    wobble: tuple[tuple[int, float, float], ...] = ()
    edge_mm: float = 0.0
    within: str = "skin"


@dataclass(frozen=True, slots=True, eq=False)
class AxialBody:
    """One slice of one virtual patient: its shapes from the outermost on, and its texture."""

    seed: int
    region: str
    shapes: tuple[Shape, ...]
    skin: Shape
    cavity: Shape
    half_size_mm: tuple[float, float]
    texture: float
    fields: NDArray[np.float32] = field(repr=False)  # (3, FIELD_SIZE, FIELD_SIZE)


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixel centres in mm: square, `spacing_mm` apart, its middle at `centre_mm`."""

    rows: int
    columns: int
    spacing_mm: float
    centre_mm: tuple[float, float] = (0.0, 0.0)

    def axes_mm(self) -> tuple[Plane, Plane]:
        """(x of each column, y of each row)."""
        x, y = (
            (middle + (np.arange(count) - 0.5 * (count - 1)) * self.spacing_mm).astype(np.float32)
            for middle, count in zip(self.centre_mm, (self.columns, self.rows), strict=True)
        )
        return x, y


def paint(body: AxialBody, grid: Grid) -> tuple[Plane, Labels]:
    """(HU, Matter) of each pixel of `grid`; a pixel on a border gets its share of both sides."""
    x, y = grid.axes_mm()
    hu = np.full((grid.rows, grid.columns), -1000.0, dtype=np.float32)
    labels = np.full(hu.shape, Matter.AIR, dtype=np.uint8)
    textures = _textures(body, x, y)
    limits = {"skin": np.zeros_like(hu), "cavity": np.zeros_like(hu)}
    for name, shape in (("skin", body.skin), ("cavity", body.cavity)):
        where, cover = coverage(shape, x, y, grid.spacing_mm)
        limits[name][where] = cover
    for shape in body.shapes:
        where, cover = coverage(shape, x, y, grid.spacing_mm)
        if cover.size == 0:
            continue
        if shape.within:
            cover = cover * limits[shape.within][where]
        value: Plane = np.full(cover.shape, shape.hu, dtype=np.float32)
        for amplitude, texture in zip(TEXTURE.get(shape.matter, ()), textures, strict=False):
            value = value + np.float32(amplitude * body.texture) * texture[where]
        hu[where] += cover * (value - hu[where])
        here = labels[where]
        here[cover > 0.0] = Matter.BORDER
        here[cover >= 1.0] = shape.matter
    return hu, labels


def coverage(shape: Shape, x: Plane, y: Plane, spacing_mm: float) -> tuple[tuple[slice, slice], Plane]:
    """Where `shape` may lie, and the share of each pixel there that it fills."""
    reach = max(shape.radii_mm) * (1.0 + sum(share for _, share, _ in shape.wobble)) + shape.edge_mm + spacing_mm
    columns = slice(*np.searchsorted(x, (shape.centre_mm[0] - reach, shape.centre_mm[0] + reach)))
    rows = slice(*np.searchsorted(y, (shape.centre_mm[1] - reach, shape.centre_mm[1] + reach)))
    dx, dy = x[None, columns] - np.float32(shape.centre_mm[0]), y[rows, None] - np.float32(shape.centre_mm[1])
    cosine, sine = np.float32(np.cos(shape.angle)), np.float32(np.sin(shape.angle))
    u, v = (dx * cosine + dy * sine) / shape.radii_mm[0], (dy * cosine - dx * sine) / shape.radii_mm[1]
    level = np.sqrt(u * u + v * v) + np.float32(1e-6)
    slope = np.sqrt((u / shape.radii_mm[0]) ** 2 + (v / shape.radii_mm[1]) ** 2) / level + np.float32(1e-6)
    rim: Plane = np.ones((1, 1), dtype=np.float32)
    if shape.wobble:
        theta = np.arctan2(v, u)
        for waves, share, phase in shape.wobble:
            rim = rim + np.float32(share) * np.cos(waves * theta + np.float32(phase)).astype(np.float32)
    outside_mm = (level - rim) / slope
    cover = np.clip(0.5 - outside_mm / max(shape.edge_mm, spacing_mm), 0.0, 1.0)
    return (rows, columns), np.asarray(cover, dtype=np.float32)


def _textures(body: AxialBody, x: Plane, y: Plane) -> list[Plane]:
    rows, columns = (np.rint(axis / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE for axis in (y, x))
    return [texture[np.ix_(rows, columns)] for texture in body.fields]


def texture_fields(rng: np.random.Generator) -> NDArray[np.float32]:
    """Three fields of unit variance that repeat at their edges: coarse, middle, fine; float32 (3, size, size)."""
    frequency = np.fft.fftfreq(FIELD_SIZE, FIELD_STEP_MM)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    fields = []
    for size_mm in (12.0, 4.0, 1.5):
        share = np.exp(-0.5 * (radius * size_mm) ** 2)
        plane = np.fft.ifft2(np.fft.fft2(rng.standard_normal((FIELD_SIZE, FIELD_SIZE))) * share).real
        fields.append(plane / plane.std())
    return np.stack(fields).astype(np.float32)

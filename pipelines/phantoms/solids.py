"""The third dimension of the axial phantom: shapes that go on, lean, sway and end along z, painted as slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.body import FIELD_SIZE, FIELD_STEP_MM, TEXTURE, AxialBody, Grid, Plane, Shape, coverage

Stack = NDArray[np.float32]  # (slices, rows, columns)
SCALES_MM = (12.0, 4.0, 1.5)  # of the three textures of a body
SUBSLICES = (-1.0 / 3.0, 0.0, 1.0 / 3.0)  # where a slice is sampled whose content changes within it
SLANT = 0.7  # mm aside for one mm along z, from which on it does


@dataclass(frozen=True, slots=True)
class Solid:
    """`shape` at `z_mm`, and how it goes on to `half_mm` above and below (infinite: throughout).

    slope   (dx, dy) of its middle for each mm along z
    sway    how far the middle swings aside in x and y, over a `wave_mm` from `phase` on
    taper   relative growth of its radii for each mm along z
    flat    ends on a plane rather than round; that plane rises by `tilt` for each mm to the back and is pressed in by
            `hollow_mm` in the middle
    """

    shape: Shape
    z_mm: float = 0.0
    half_mm: float = float("inf")
    slope: tuple[float, float] = (0.0, 0.0)
    sway: tuple[float, float] = (0.0, 0.0)
    wave_mm: float = 100.0
    phase: float = 0.0
    taper: float = 0.0
    flat: bool = False
    tilt: float = 0.0
    hollow_mm: float = 0.0

    def section(self, z_mm: float) -> Shape | None:
        """What a plane at `z_mm` cuts out of it; None where it misses."""
        along = z_mm - self.z_mm
        share = 1.0
        if not self.flat and np.isfinite(self.half_mm):
            if abs(along) >= self.half_mm:
                return None
            share = float(np.sqrt(1.0 - (along / self.half_mm) ** 2))
        share *= max(0.2, 1.0 + self.taper * along)
        swing = float(np.sin(2.0 * np.pi * along / self.wave_mm + self.phase) - np.sin(self.phase))
        x, y = (
            middle + slope * along + sway * swing
            for middle, slope, sway in zip(self.shape.centre_mm, self.slope, self.sway, strict=True)
        )
        radii = (max(self.shape.radii_mm[0] * share, 0.05), max(self.shape.radii_mm[1] * share, 0.05))
        return replace(self.shape, centre_mm=(x, y), radii_mm=radii)

    def heights(self, z_mm: float, thickness_mm: float) -> tuple[float, ...]:
        """Where a slice around `z_mm` has to be cut to see its share of this; none where it cannot be."""
        reach = self.half_mm + abs(self.tilt) * max(self.shape.radii_mm) + 0.5 * thickness_mm
        if abs(z_mm - self.z_mm) > reach:
            return ()
        changes = max(map(abs, self.slope)) > SLANT or abs(z_mm - self.z_mm) > 0.75 * self.half_mm
        if self.flat or not (changes or self.half_mm < 6.0):
            return (z_mm,)
        return tuple(z_mm + thickness_mm * offset for offset in SUBSLICES)


@dataclass(frozen=True, slots=True, eq=False)
class SolidBody:
    """A virtual patient with height: solids from the outermost on; `body` is a slice of it and lends the texture."""

    body: AxialBody
    solids: tuple[Solid, ...]
    skin: Solid
    cavity: Solid
    lesions: tuple[Solid, ...]


def paint_slices(patient: SolidBody, grid: Grid, z_mm: Sequence[float], thickness_mm: float) -> Stack:
    """HU of slices around each of `z_mm`, which lie `thickness_mm` apart: (slices, rows, columns).

    A voxel on a border gets its share of both sides, along z too.
    """
    x, y = grid.axes_mm()
    stack = np.full((len(z_mm), grid.rows, grid.columns), -1000.0, dtype=np.float32)
    textures = _textures(patient.body, len(z_mm), x, y, thickness_mm)
    for hu, z, *fields in zip(stack, z_mm, *textures, strict=True):
        limits = {}
        for name, solid in (("skin", patient.skin), ("cavity", patient.cavity)):
            limits[name] = np.zeros_like(hu)
            for where, cover in _cover(solid, x, y, grid.spacing_mm, z, thickness_mm):
                limits[name][where] = cover
        for solid in patient.solids:
            for where, cover in _cover(solid, x, y, grid.spacing_mm, z, thickness_mm):
                share = cover * limits[solid.shape.within][where] if solid.shape.within else cover
                value: Plane = np.full(cover.shape, solid.shape.hu, dtype=np.float32)
                for amplitude, field in zip(TEXTURE.get(solid.shape.matter, ()), fields, strict=False):
                    value = value + np.float32(amplitude * patient.body.texture) * field[where]
                hu[where] += share * (value - hu[where])
    return stack


def _cover(
    solid: Solid, x: Plane, y: Plane, spacing_mm: float, z_mm: float, thickness_mm: float
) -> list[tuple[tuple[slice, slice], Plane]]:
    """[(where, share of each voxel there that the solid fills)], empty where it does not reach."""
    heights = solid.heights(z_mm, thickness_mm)
    cuts = [solid.section(height) for height in heights]
    shapes = [cut for cut in cuts if cut is not None]
    if not shapes:
        return []
    pieces = [coverage(shape, x, y, spacing_mm) for shape in shapes]
    if len(pieces) == 1:
        (where, cover), (shape,) = pieces[0], shapes
        if cover.size and solid.flat:
            cover = cover * _flat_end(solid, shape, x[where[1]], y[where[0]], z_mm, thickness_mm)
        return [(where, cover / np.float32(len(heights)))] if cover.size else []
    windows = [where for where, cover in pieces if cover.size]
    if not windows:
        return []
    rows, columns = (
        slice(min(one[axis].start for one in windows), max(one[axis].stop for one in windows)) for axis in (0, 1)
    )
    total = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    for (own_rows, own_columns), cover in pieces:
        if cover.size:
            total[
                own_rows.start - rows.start : own_rows.stop - rows.start,
                own_columns.start - columns.start : own_columns.stop - columns.start,
            ] += cover
    return [((rows, columns), (total / np.float32(len(heights))).astype(np.float32))]


def _flat_end(solid: Solid, shape: Shape, x: Plane, y: Plane, z_mm: float, thickness_mm: float) -> Plane:
    """The share of a slice that lies between the two end planes."""
    dx, dy = x[None, :] - np.float32(shape.centre_mm[0]), y[:, None] - np.float32(shape.centre_mm[1])
    middle = np.clip(1.0 - (dx / shape.radii_mm[0]) ** 2 - (dy / shape.radii_mm[1]) ** 2, 0.0, 1.0)
    inside_mm = solid.half_mm - solid.hollow_mm * middle - np.abs(z_mm - solid.z_mm - solid.tilt * dy)
    return np.asarray(np.clip(0.5 + inside_mm / thickness_mm, 0.0, 1.0), dtype=np.float32)


def _textures(body: AxialBody, slices: int, x: Plane, y: Plane, thickness_mm: float) -> list[Stack]:
    """The three textures of the body in each slice, alike over as many mm along z as they are in the plane.

    A slice of white texture along z is the body's field moved elsewhere: what lies further apart than its grain is
    independent.
    """
    rng = np.random.default_rng([body.seed, 61])
    rows, columns = (np.rint(axis / FIELD_STEP_MM).astype(np.intp) for axis in (y, x))
    stacks = []
    for field, size_mm in zip(body.fields, SCALES_MM, strict=True):
        sigma = size_mm / (2.0 * np.pi) / thickness_mm
        reach = int(np.ceil(3.0 * sigma))
        weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weight /= np.sqrt(np.sum(weight**2))
        moves = rng.integers(0, FIELD_SIZE, (slices + 2 * reach, 2))
        white = np.stack(
            [field[np.ix_((rows + down) % FIELD_SIZE, (columns + right) % FIELD_SIZE)] for down, right in moves]
        )
        smooth = sum(np.float32(share) * white[offset : offset + slices] for offset, share in enumerate(weight))
        stacks.append(np.asarray(smooth, dtype=np.float32))
    return stacks

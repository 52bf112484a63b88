"""A bench for thin slices: edges, plates and small spheres at known places along z, without noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from pipelines.intensity import Array
from pipelines.phantoms.body import AxialBody, Grid, Matter, Shape, texture_fields
from pipelines.phantoms.ct import SOFT
from pipelines.phantoms.ct_volume import FOLD, thickened
from pipelines.phantoms.solids import Solid, SolidBody, paint_slices
from pipelines.phantoms.tomography import APERTURE_MM, through_kernel
from pipelines.training.thin_baselines import Method

GRID = Grid(160, 160, 0.8)
SLICES = 60  # thin, of 1 mm
SOFT_HU, BONE_HU, PLATE_HU, MARROW_HU, LESION_HU = 50.0, 300.0, 700.0, 180.0, 50.0
DIAMETERS_MM = (2.0, 3.0, 4.0, 6.0, 8.0)
TILT = 0.3  # mm along z for each mm to the back: 17 degrees
PHASES_MM = tuple(0.3 + 0.6 * step for step in range(9))  # where in a thick slice an edge lies
PLACES = tuple((x, y) for y in (-40.0, 0.0, 40.0) for x in (-40.0, 0.0, 40.0))


def bench(methods: Mapping[str, Method]) -> dict[str, dict[str, float]]:
    """For each method, and the thin slices themselves as "truth", mean over nine places in a thick slice:

    the 10-90 % width in mm of an edge across z and of one that is tilted; of a plate of 1 mm between marrow and soft
    tissue its height as a share of the truth; of spheres of some mm their contrast as a share of the truth.
    """
    edges, tilted, plates = (_seen(_columns(tilt, plate)) for tilt, plate in ((0.0, 0.0), (TILT, 0.0), (0.0, 1.0)))
    spheres = {diameter: _seen(_spheres(diameter)) for diameter in DIAMETERS_MM}
    heights = _plate_heights(plates)
    contrasts = {diameter: _contrasts(volume, diameter) for diameter, volume in spheres.items()}
    table = {}
    for name, method in {**methods, "truth": None}.items():

        def made(volume: Array, method: Method | None = method) -> Array:
            return volume if method is None else method(thickened(volume))

        table[name] = {
            "edge_mm": float(np.mean([edge_width(one) for one in _profiles(made(edges))])),
            "tilted_edge_mm": float(np.mean([edge_width(one) for one in _profiles(made(tilted))])),
            "plate_share": float(np.mean(_plate_heights(made(plates)) / heights)),
        } | {
            f"sphere_{diameter:g}_mm_share": float(np.mean(_contrasts(made(volume), diameter) / contrasts[diameter]))
            for diameter, volume in spheres.items()
        }
    return table


def edge_width(profile: Array, step_mm: float = 1.0) -> float:
    """mm between 90 and 10 % of a fall from BONE_HU to SOFT_HU, both crossings next to that of 50 %."""
    share = (profile - SOFT_HU) / (BONE_HU - SOFT_HU)
    middle = int(np.argmax(share < 0.5))
    high = middle - 1
    while high > 0 and share[high] < 0.9:
        high -= 1
    low = middle
    while low < len(share) - 1 and share[low] > 0.1:
        low += 1
    start = high + (share[high] - 0.9) / (share[high] - share[high + 1])
    end = low - (0.1 - share[low]) / (share[low - 1] - share[low])
    return float((end - start) * step_mm)


def _columns(tilt: float, plate_mm: float) -> Iterable[Solid]:
    """Columns of bone that end within a thick slice, each elsewhere; with a plate they are marrow that ends in one."""
    for place, phase in zip(PLACES, PHASES_MM, strict=True):
        shape = Shape(Matter.LESION, place, (14.0, 14.0), PLATE_HU if plate_mm else BONE_HU)
        column = Solid(shape, phase - 40.0, 40.0, flat=True, tilt=tilt)
        yield column
        if plate_mm:
            marrow = Shape(Matter.LESION, place, (14.0, 14.0), MARROW_HU)
            yield Solid(marrow, phase - 40.0, 40.0 - plate_mm, flat=True, tilt=tilt)


def _spheres(diameter_mm: float) -> Iterable[Solid]:
    radius = 0.5 * diameter_mm
    for place, phase in zip(PLACES, PHASES_MM, strict=True):
        yield Solid(Shape(Matter.LESION, place, (radius, radius), SOFT_HU + LESION_HU), phase, radius)


def _seen(solids: Iterable[Solid]) -> Array:
    """The thin slices of `solids` in a large disc of soft tissue, through a soft kernel."""
    disc = Shape(Matter.FLUID, (0.0, 0.0), (150.0, 150.0), SOFT_HU, within="")
    fields = texture_fields(np.random.default_rng(0))
    body = AxialBody(0, "bench", (disc,), disc, disc, (150.0, 150.0), 0.0, fields)
    patient = SolidBody(body, (Solid(disc), *solids), Solid(disc), Solid(disc), ())
    heights = [float(z) for z in np.arange(SLICES) - 0.5 * (SLICES - 1)]
    painted = paint_slices(patient, GRID, heights, 1.0)
    return np.stack([through_kernel(one, GRID.spacing_mm, SOFT, APERTURE_MM) for one in painted])


def _profiles(volume: Array) -> list[Array]:
    """Along z through the middle of each place."""
    columns = [round(x / GRID.spacing_mm + 0.5 * (GRID.columns - 1)) for x, _ in PLACES]
    rows = [round(y / GRID.spacing_mm + 0.5 * (GRID.rows - 1)) for _, y in PLACES]
    return [volume[:, row, column] for row, column in zip(rows, columns, strict=True)]


def _plate_heights(volume: Array) -> Array:
    """HU by which the highest slice near each plate stands above marrow."""
    near = slice(SLICES // 2 - FOLD, SLICES // 2 + 2 * FOLD)
    return np.array([profile[near].max() - MARROW_HU for profile in _profiles(volume)], dtype=np.float32)


def _contrasts(volume: Array, diameter_mm: float) -> Array:
    """HU above soft tissue of the slices around the middle of each sphere, over half its diameter."""
    found = []
    for profile, phase in zip(_profiles(volume), PHASES_MM, strict=True):
        away = np.abs(np.arange(SLICES) - 0.5 * (SLICES - 1) - phase)
        inside = away <= max(0.25 * diameter_mm, float(away.min()))
        found.append(float(profile[inside].mean()) - SOFT_HU)
    return np.array(found, dtype=np.float32)

"""The trunk as a volume: solids lean and end as they say, partial volume along z adds up, a seed is a patient."""

import numpy as np
import pytest

from pipelines.phantoms.body import AxialBody, Grid, Matter, Shape, texture_fields
from pipelines.phantoms.ct import SOFT, axial_body
from pipelines.phantoms.ct_volume import FOLD, scan_volume, thickened
from pipelines.phantoms.solids import Solid, SolidBody, paint_slices
from pipelines.phantoms.trunk import axial_parts
from pipelines.phantoms.trunk_volume import trunk_volume

GRID = Grid(64, 64, 0.5)


def alone(*solids: Solid, texture: float = 0.0, matter: Matter = Matter.FLUID) -> SolidBody:
    """Solids in a disc of 0 HU."""
    disc = Shape(matter, (0.0, 0.0), (60.0, 60.0), 0.0, within="")
    fields = texture_fields(np.random.default_rng(0))
    body = AxialBody(0, "bench", (disc,), disc, disc, (60.0, 60.0), texture, fields)
    return SolidBody(body, (Solid(disc), *solids), Solid(disc), Solid(disc), ())


def painted(*solids: Solid, slices: int = 20) -> np.ndarray:
    return paint_slices(alone(*solids), GRID, [float(z) for z in np.arange(slices) - 0.5 * (slices - 1)], 1.0)


@pytest.mark.parametrize("radius", [1.5, 4.0, 7.0])
def test_a_sphere_holds_its_volume(radius: float) -> None:
    sphere = Solid(Shape(Matter.LESION, (0.3, 0.1), (radius, radius), 100.0), 0.2, radius)
    filled_mm3 = painted(sphere).sum() / 100.0 * 0.25
    assert filled_mm3 == pytest.approx(4.0 / 3.0 * np.pi * radius**3, rel=0.1)


def test_a_flat_end_fills_its_share_of_a_slice() -> None:
    column = Solid(Shape(Matter.LESION, (0.0, 0.0), (12.0, 12.0), 100.0), -19.7, 20.0, flat=True)  # ends at 0.3
    assert painted(column)[:, 32, 32][8:12] == pytest.approx([100, 100, 30, 0], abs=1)


def test_a_tilted_end_rises_to_the_back_and_a_hollow_one_is_lower_in_the_middle() -> None:
    shape = Shape(Matter.LESION, (0.0, 0.0), (12.0, 12.0), 100.0)
    tilted = painted(Solid(shape, -20.0, 20.0, flat=True, tilt=0.4)).sum(axis=0)
    assert tilted[48, 32] - tilted[16, 32] == pytest.approx(100.0 * 0.4 * 16.0, rel=0.05)
    hollow = painted(Solid(shape, -20.0, 20.0, flat=True, hollow_mm=2.0)).sum(axis=0)
    assert hollow[32, 50] - hollow[32, 32] > 80.0


def test_a_slanting_tube_moves_aside() -> None:
    tube = Solid(Shape(Matter.BLOOD, (0.0, 0.0), (2.0, 2.0), 100.0), slope=(0.5, -1.0))
    volume = painted(tube)
    rows, columns = np.indices(volume.shape[1:])
    middles = [((columns * one).sum() / one.sum(), (rows * one).sum() / one.sum()) for one in volume[[5, 14]]]
    assert (middles[1][0] - middles[0][0]) * 0.5 == pytest.approx(0.5 * 9, abs=0.2)
    assert (middles[1][1] - middles[0][1]) * 0.5 == pytest.approx(-1.0 * 9, abs=0.2)


def test_texture_has_its_strength_and_fades_along_z() -> None:
    volume = paint_slices(alone(texture=1.0, matter=Matter.LUNG), GRID, [float(z) for z in range(24)], 1.0)
    assert volume.std() == pytest.approx(np.sqrt(18**2 + 22**2 + 22**2), rel=0.2)
    apart = [np.corrcoef(volume[:-step].ravel(), volume[step:].ravel())[0, 1] for step in (1, 8)]
    assert apart[0] > 0.15 > abs(apart[1])


def test_a_seed_is_a_patient_with_the_slice_of_the_same_seed() -> None:
    one, again = trunk_volume(5), trunk_volume(5)
    assert one.solids == again.solids
    assert trunk_volume(6).solids != one.solids
    assert one.body.shapes == axial_body(5).shapes
    parts = axial_parts(5)
    assert sum((parts.group(index) for index in range(6)), ()) == parts.body.shapes


@pytest.mark.parametrize("region", ["chest", "abdomen", "pelvis"])
def test_every_region_changes_from_slice_to_slice(region: str) -> None:
    patient = trunk_volume(7, region)
    radii = [solid.half_mm for solid in patient.lesions if solid.shape.matter is Matter.LESION]
    assert radii
    assert 0.5 < min(radii) <= max(radii) < 7
    volume = paint_slices(patient, Grid(96, 96, 4.0), [-10.0, -9.0, 9.0, 10.0], 1.0)
    near, far = (np.abs(volume[1] - volume[index])[20:76, 20:76].mean() for index in (0, 2))
    assert near < far


def test_a_thick_slice_is_the_mean_of_its_thin_ones_and_its_noise_has_their_photons() -> None:
    patient, grid = trunk_volume(8, "abdomen"), Grid(48, 48, 0.8)
    rng = np.random.default_rng(1)
    full, tenth = (scan_volume(patient, grid, 2, 1.0, SOFT, dose, rng, noises=6) for dose in (2.0, 0.2))
    assert full.thin.shape == (2 * FOLD, 48, 48)
    assert tenth.noise.std() / full.noise.std() == pytest.approx(np.sqrt(10), rel=0.15)
    np.testing.assert_allclose(full.thick() - full.noise[:2], thickened(full.thin), atol=1e-3)
    np.testing.assert_allclose(thickened(full.thin)[1], full.thin[5:].mean(axis=0), atol=1e-3)

"""The CT phantom: the projector and the noise against theory, the dose, the kernels, and the body as its labels say."""

import numpy as np
import pytest

from pipelines.metrics.ct import noise_spectrum
from pipelines.phantoms.body import HU, REGIONS, Matter
from pipelines.phantoms.ct import SHARP, SOFT, AxialBody, Grid, axial_body, paint, photons_at, scan
from pipelines.phantoms.tomography import (
    MU_WATER_PER_MM,
    attenuation,
    back_project,
    counting_noise,
    noise_power,
    project,
    through_kernel,
)

SPACING_MM = 0.7


def axis(size: int, spacing_mm: float = SPACING_MM) -> np.ndarray:
    return ((np.arange(size) - 0.5 * (size - 1)) * spacing_mm).astype(np.float32)


def water_disc(radius_mm: float, size: int = 128, spacing_mm: float = 2.8) -> np.ndarray:
    y = axis(size, spacing_mm)
    return np.where(np.hypot(y[:, None], y[None, :]) < radius_mm, 0, -1000).astype(np.float32)


def test_a_disc_projects_to_its_chords_from_every_side() -> None:
    views = attenuation(water_disc(150), 2.8, 120)
    offset = (np.arange(views.shape[1]) - 0.5 * (views.shape[1] - 1)) * SPACING_MM
    chord = 2 * np.sqrt(np.maximum(150**2 - offset**2, 0)) * MU_WATER_PER_MM
    inside = np.abs(offset) < 130
    assert views[:, inside] == pytest.approx(np.tile(chord[inside], (120, 1)), rel=0.03)


def test_a_point_is_reconstructed_where_it_was() -> None:
    hu = np.full((65, 65), -1000, np.float32)
    hu[20, 41] = 0  # up and to the right of the middle
    image = back_project(project(hu, SPACING_MM, 120, 101), SPACING_MM, axis(65), axis(65))
    assert np.unravel_index(image.argmax(), image.shape) == (20, 41)


def test_the_noise_power_of_a_reconstruction_is_that_of_theory() -> None:
    rng = np.random.default_rng(0)
    sinograms = rng.normal(0, 0.05, (4, 180, 200))
    patches = [back_project(one, SPACING_MM, axis(96), axis(96))[16:80, 16:80] for one in sinograms]
    spectrum = noise_spectrum(patches, SPACING_MM)
    inner = slice(3, 30)  # the detrended zero and the limiting frequency apart
    expected = noise_power(0.05**2, SPACING_MM, 180, spectrum.frequency_per_mm)
    assert spectrum.power[inner] / expected[inner] == pytest.approx(1.0, abs=0.25)
    assert np.mean(spectrum.power[inner] / expected[inner]) == pytest.approx(1.0, abs=0.04)


def test_counting_noise_has_the_variance_of_poisson_and_electronics() -> None:
    clean = np.full(200_000, 4.0)
    photons = 1e5
    counts = photons * np.exp(-4.0)
    noise = counting_noise(clean, photons, np.random.default_rng(1))
    assert noise.var() == pytest.approx(1 / counts + 10**2 / counts**2, rel=0.02)


def test_noise_falls_with_the_root_of_the_dose() -> None:
    # a small body: where few photons are left, the electronic noise adds its own
    body, grid = axial_body(2, "abdomen", scale=0.6), Grid(64, 64, SPACING_MM)
    sigma = [scan(body, grid, dose, np.random.default_rng(5)).noise.std() for dose in (8.0, 2.0, 0.8)]
    assert sigma[1] / sigma[0] == pytest.approx(2.0, rel=0.03)
    assert sigma[2] / sigma[0] == pytest.approx(np.sqrt(10), rel=0.06)
    assert photons_at(body, 0.25) == pytest.approx(0.25 * photons_at(body, 1.0))


def test_a_sharper_kernel_shows_more_of_edges_and_of_noise() -> None:
    part = scan(axial_body(2, "abdomen"), Grid(128, 128, SPACING_MM), 0.25, np.random.default_rng(5))
    (soft, noisy_soft), (sharp, noisy_sharp) = part.seen(SOFT), part.seen(SHARP)
    assert np.std(noisy_sharp - sharp) > 1.5 * np.std(noisy_soft - soft)
    assert np.abs(np.diff(sharp)).max() > np.abs(np.diff(soft)).max()
    flat = np.full((40, 40), 57.0, np.float32)
    np.testing.assert_allclose(through_kernel(flat, SPACING_MM, SOFT, 0.6), flat, atol=1e-3)


@pytest.fixture(scope="module", params=REGIONS)
def body(request: pytest.FixtureRequest) -> AxialBody:
    return axial_body(11, request.param)


def test_a_seed_is_a_body(body: AxialBody) -> None:
    again = axial_body(11, body.region)
    assert again.shapes == body.shapes
    assert axial_body(12, body.region).shapes != body.shapes


def test_the_body_holds_what_its_labels_say(body: AxialBody) -> None:
    hu, matter = paint(body, Grid(512, 512, 0.8))
    assert hu[matter == Matter.AIR].max() < -900
    for tissue in (Matter.FAT, Matter.MUSCLE, Matter.MARROW, Matter.CORTEX):
        assert np.count_nonzero(matter == tissue) > 50
    low, high = HU[Matter.FAT]
    assert low - 15 < np.median(hu[matter == Matter.FAT]) < high + 15
    assert np.median(hu[matter == Matter.CORTEX]) > 400
    assert (np.count_nonzero(matter == Matter.LUNG) > 1000) == (body.region == "chest")


def test_every_grid_sees_the_same_body(body: AxialBody) -> None:
    whole, _ = paint(body, Grid(256, 256, 1.4))
    part, _ = paint(body, Grid(64, 64, 1.4, (1.4 * 10.0, 1.4 * -20.0)))
    np.testing.assert_allclose(part, whole[256 // 2 - 52 : 256 // 2 + 12, 128 - 22 : 128 + 42], atol=0.5)

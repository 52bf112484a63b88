"""Motion of the spine phantom against theory: ghosts, shifts and energy; and without motion nothing has changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import jv

from pipelines.phantoms.acquisition import breathing_share, draw_visit, slice_anatomy, slice_signal
from pipelines.phantoms.motion import MILD, SEVERE, Course, Motion, PhaseAxis, draw_course, moving_kspace
from pipelines.phantoms.spine import STIR, T1W, T2W, Prescription, Scanner, acquire, virtual_patient

SIZE, ROW, COLUMN = 128, 50, 60
PERIOD_LINES = 16  # a breath every so many lines: ghosts every SIZE / PERIOD_LINES pixels
BETWEEN = SIZE // PERIOD_LINES
AMPLITUDE_PX = 1.7
SPACING_MM = 1.25
EVERYWHERE, NOWHERE = np.ones(SIZE), np.zeros(SIZE)
FREQUENCY = np.fft.fftfreq(SIZE)
SMALL = Prescription(slices=1, matrix=128)
QUIET = Scanner(snr=1e4, coverage=(1.0, 1.0))


def point() -> np.ndarray:
    image = np.zeros((SIZE, SIZE), dtype=np.float32)
    image[ROW, COLUMN] = 1.0
    return image


def breathing_course() -> Course:
    """One line a train, so that a breath takes PERIOD_LINES neighbours in k-space."""
    motion = Motion(AMPLITUDE_PX * SPACING_MM, period_s=PERIOD_LINES * 0.5, echo_train=1)
    return draw_course(motion, SIZE, 0.5, np.random.default_rng(4))


def shifting_course(seed: int = 5) -> Course:
    return draw_course(Motion(shifts=4, shift_mm=5.0), SIZE, 3.0, np.random.default_rng(seed))


# sums of all voxels of two slices of 64 x 64, drawn before there was motion
@pytest.mark.parametrize(
    ("seed", "t1w", "t2w", "stir"),
    [
        (3, 1289139, 1065570, 686254),
        (9, 5347818, 4795008, 3101710),
        (1000, 5988234, 5710029, 2293238),
        (9000, 12363108, 11952160, 4617177),
        (9017, 6637609, 6110776, 3118542),
    ],
)
def test_a_seed_draws_the_images_that_it_always_drew(seed: int, t1w: int, t2w: int, stir: int) -> None:
    patient = virtual_patient(seed)
    for sequence, total in ((T1W, t1w), (T2W, t2w), (STIR, stir)):
        voxels = acquire(patient, sequence, Prescription(slices=2, matrix=64)).voxels
        assert voxels.sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)


def test_motion_draws_nothing_that_noise_would_have_drawn() -> None:
    patient, left = virtual_patient(3), []
    for motion in (Motion(), Motion(shifts=2), SEVERE):
        rng = np.random.default_rng(1)
        scanner = replace(QUIET, motion=motion)
        slice_signal(patient, slice_anatomy(patient, SMALL, scanner, 0), T2W, scanner, rng, SMALL)
        left.append(rng.random())
    assert left[0] == left[1] == left[2]


@pytest.mark.parametrize("axis", ["AP", "HF"])
def test_the_least_motion_is_none(axis: PhaseAxis) -> None:
    patient, scanner = virtual_patient(3), replace(QUIET, phase_axis=axis)
    still = acquire(patient, T2W, SMALL, scanner).voxels
    moved = acquire(patient, T2W, SMALL, replace(scanner, motion=Motion(breathing_mm=1e-6))).voxels
    assert np.abs(moved - still).max() <= 1


def test_ghosts_across_the_motion_follow_the_bessel_functions() -> None:
    """Phase along HF, motion along AP: at each frequency f along AP the ghost of order m is J_m(2 pi f a) strong."""
    kspace = moving_kspace(point(), EVERYWHERE, breathing_course(), SPACING_MM, "HF")
    along_rows = np.abs(np.fft.ifft(kspace, axis=0))
    for order in (-3, -2, -1, 0, 1, 2, 3):
        expected = np.abs(jv(order, 2 * np.pi * FREQUENCY * AMPLITUDE_PX))
        np.testing.assert_allclose(along_rows[ROW + order * BETWEEN], expected, atol=1e-4)
    between = np.delete(along_rows, np.arange(ROW % BETWEEN, SIZE, BETWEEN), axis=0)
    assert between.max() < 1e-4


def test_ghosts_along_the_motion_hold_the_energy_that_theory_gives_them() -> None:
    """Phase and motion along AP: order m has J_m(2 pi f a)^2 of the energy at f, and lies m N / p pixels away."""
    image = np.fft.ifft2(moving_kspace(point(), EVERYWHERE, breathing_course(), SPACING_MM, "AP"))
    assert np.abs(np.delete(image, ROW, axis=0)).max() < 1e-5, "ghosts lie along the phase-encoding axis"
    profile = np.abs(image[ROW]) ** 2
    for order in (-1, 0, 1):
        middle = COLUMN + order * BETWEEN
        found = profile[middle - BETWEEN // 2 : middle + BETWEEN // 2 + 1].sum()
        expected = np.mean(jv(order, 2 * np.pi * FREQUENCY * AMPLITUDE_PX) ** 2)
        assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("axis", ["AP", "HF"])
def test_shifts_of_the_whole_patient_conserve_energy(axis: PhaseAxis) -> None:
    image = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
    course = shifting_course()
    assert np.abs(course.shift).max() > 2.0
    moved = np.fft.ifft2(moving_kspace(image, NOWHERE, course, SPACING_MM, axis))
    assert np.sum(np.abs(moved) ** 2) == pytest.approx(float(np.sum(image**2)), rel=1e-5)
    assert np.abs(np.abs(moved) - image).max() > 0.2


@pytest.mark.parametrize("axis", ["AP", "HF"])
def test_who_lies_elsewhere_all_the_time_is_imaged_there(axis: PhaseAxis) -> None:
    train = np.zeros(SIZE, dtype=np.intp)
    shift = np.tile(SPACING_MM * np.array([3.0, -2.0]), (SIZE, 1))
    course = Course(train, np.full(SIZE, 5.0 * SPACING_MM), shift)
    image = np.fft.ifft2(moving_kspace(point(), EVERYWHERE, course, SPACING_MM, axis))
    np.testing.assert_allclose(image, np.roll(point(), (3, -2 + 5), axis=(0, 1)), atol=1e-4)


def test_a_train_fills_one_line_in_each_band_and_the_middle_one_the_centre() -> None:
    course = draw_course(replace(SEVERE, echo_train=16), 256, 3.6, np.random.default_rng(2))
    np.testing.assert_array_equal(np.diff(np.fft.fftshift(course.train)) % 16, 1)
    assert course.train[0] == 8
    np.testing.assert_array_equal(course.shift[0], 0.0)
    for train in range(16):
        lines = course.train == train
        assert np.ptp(course.breathing[lines]) == 0.0
        assert np.ptp(course.shift[lines], axis=0).max() == 0.0


def test_each_series_of_a_visit_has_a_motion_of_its_own_and_keeps_it() -> None:
    patient = virtual_patient(3)
    scanner = replace(QUIET, motion=Motion(shifts=1, shift_mm=4.0))
    same, other = replace(T2W, te_ms=T2W.te_ms), replace(T2W, name="T2W again")
    first, again, another = (acquire(patient, one, SMALL, scanner).voxels for one in (T2W, same, other))
    np.testing.assert_array_equal(first, again)
    assert (
        np.abs(first - another).mean()
        > 5
        * np.abs(  # beyond what noise of its own explains
            acquire(patient, T2W, SMALL, QUIET).voxels - acquire(patient, other, SMALL, QUIET).voxels
        ).mean()
    )


def test_more_motion_puts_more_ghosts_into_the_air() -> None:
    patient = virtual_patient(9002)  # its field of view ends in air
    prescription, scanner = draw_visit(patient)
    prescription = replace(prescription, slices=1, matrix=128)
    air = slice_anatomy(patient, prescription, scanner, 0).points[::2, ::2] == 0
    means = [
        float(acquire(patient, T2W, prescription, replace(scanner, snr=1e4, motion=motion)).voxels[0][air].mean())
        for motion in (Motion(), MILD, SEVERE)
    ]
    assert 2.0 * means[0] < 1.5 * means[1] < means[2]


def test_a_saturation_band_keeps_the_ghosts_of_the_belly_off_the_spine() -> None:
    """What such bands are for, and the vertebrae themselves do not move: without a belly to see they have no ghosts."""
    patient = virtual_patient(9002)
    prescription, scanner = draw_visit(patient)
    prescription = replace(prescription, slices=1, matrix=128)
    spine = breathing_share(patient, prescription) == 0.0
    assert 30 < np.count_nonzero(spine) < 110

    def ghosts(saturation: float) -> float:
        quiet = replace(scanner, snr=1e4, saturation=saturation, saturation_gap_mm=4.0)
        still, moved = (
            acquire(patient, T2W, prescription, replace(quiet, motion=motion)).voxels[0][:, spine]
            for motion in (Motion(), Motion(breathing_mm=5.0))
        )
        return float(np.abs(moved - still).mean())

    assert ghosts(0.03) < 0.25 * ghosts(1.0)


def test_fat_is_displaced_along_the_axis_that_is_not_phase_encoded() -> None:
    """Seen at the back, where the fat under the skin ends: it moves by the chemical shift, or stays."""
    patient = virtual_patient(9002)

    def end_of_the_back(axis: PhaseAxis, shift_px: float) -> float:
        scanner = replace(QUIET, chemical_shift_px=shift_px, phase_axis=axis)
        bright = acquire(patient, T1W, SMALL, scanner).voxels[0] > 500
        return float(np.median([np.flatnonzero(row).max() for row in bright]))

    still = end_of_the_back("AP", 0.0)
    assert still < 115
    assert end_of_the_back("HF", 6.0) == pytest.approx(still + 6, abs=1)
    assert end_of_the_back("AP", 6.0) == pytest.approx(still, abs=2)  # the back is curved


def test_nonsense_is_refused_in_words() -> None:
    for wrong in ({"breathing_mm": -1.0}, {"shifts": -1}, {"shift_mm": -0.1}):
        with pytest.raises(ValueError, match="no negative"):
            Motion(**wrong)
    for wrong in ({"period_s": 0.0}, {"echo_train": 0}):
        with pytest.raises(ValueError, match="period above 0 s"):
            Motion(**wrong)
    patient, scanner = virtual_patient(3), replace(QUIET, motion=MILD)
    anatomy = slice_anatomy(patient, SMALL, scanner, 0)
    with pytest.raises(ValueError, match="found no prescription"):
        slice_signal(patient, anatomy, T2W, scanner, np.random.default_rng(0))

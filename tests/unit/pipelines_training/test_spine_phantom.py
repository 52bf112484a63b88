"""The virtual patients: the same for the same seed, anatomically ordered, and true to their label maps."""

import numpy as np
import pytest

from pipelines.phantoms.spine import (
    STIR,
    T2W,
    Prescription,
    Scanner,
    SpinePatient,
    Tissue,
    acquire,
    truth,
    virtual_patient,
)

SMALL = Prescription(slices=3, matrix=128, fov_mm=280)
QUIET = Scanner(snr=200, coil_strength=0.0, chemical_shift_px=0.0, coverage=(1.0, 1.0))


@pytest.fixture(scope="module")
def patient() -> SpinePatient:
    return virtual_patient(3)


def test_a_seed_is_a_patient(patient: SpinePatient) -> None:
    again, other = virtual_patient(3), virtual_patient(4)
    assert again.vertebrae == patient.vertebrae
    assert again.discs == patient.discs
    assert other.vertebrae != patient.vertebrae
    first, second = acquire(patient, T2W, SMALL), acquire(again, T2W, SMALL)
    np.testing.assert_array_equal(first.voxels, second.voxels)


def test_a_series_lies_in_the_patient_as_a_sagittal_one_does(patient: SpinePatient) -> None:
    volume = acquire(patient, T2W, SMALL)
    assert volume.shape == (3, 128, 128)
    assert volume.direction[:, 0].tolist() == [1, 0, 0]  # slices from right to left
    assert volume.direction[:, 1].tolist() == [0, 0, -1]  # rows to the feet
    assert volume.direction[:, 2].tolist() == [0, 1, 0]  # columns to the back
    middle = np.array(volume.origin_mm) + 63.5 * 280 / 128 * (volume.direction[:, 1] + volume.direction[:, 2])
    np.testing.assert_allclose(middle[1:], SMALL.centre_mm[1:], atol=1e-6)
    assert volume.voxels.min() >= 0
    assert volume.voxels.max() <= 4095
    np.testing.assert_array_equal(volume.voxels, np.rint(volume.voxels))


def test_signals_follow_the_truth(patient: SpinePatient) -> None:
    tissues = truth(patient, SMALL)
    t2w, stir = (acquire(patient, sequence, SMALL, QUIET).voxels for sequence in (T2W, STIR))

    def mean(voxels: np.ndarray, tissue: Tissue) -> float:
        assert np.count_nonzero(tissues == tissue) > 20
        return float(voxels[tissues == tissue].mean())

    for voxels in (t2w, stir):
        assert mean(voxels, Tissue.CSF) > 2 * mean(voxels, Tissue.MUSCLE)
        assert mean(voxels, Tissue.AIR) < 0.1 * mean(voxels, Tissue.CSF)
    assert mean(t2w, Tissue.SUBCUTANEOUS_FAT) > 2 * mean(t2w, Tissue.MUSCLE)
    assert mean(stir, Tissue.SUBCUTANEOUS_FAT) < 0.6 * mean(stir, Tissue.MUSCLE)


def test_the_column_is_stacked_from_the_sacrum_up() -> None:
    counts = set()
    for seed in range(60):
        patient = virtual_patient(seed)
        heights = [vertebra.centre_mm[1] for vertebra in patient.vertebrae]
        assert heights == sorted(heights)
        assert all(1 <= disc.grade <= 5 for disc in patient.discs)
        assert all(disc.grade >= 3 for disc in patient.discs if disc.modic)
        counts.add(len(patient.lumbar))
    assert counts == {4, 5, 6}


def test_discs_wear_with_age() -> None:
    patients = [virtual_patient(seed) for seed in range(80)]
    ages = [patient.age_years for patient in patients]
    grades = [np.mean([disc.grade for disc in patient.discs[3:8]]) for patient in patients]
    assert np.corrcoef(ages, grades)[0, 1] > 0.4


def test_lesions_are_painted_where_the_patient_has_them() -> None:
    patient = next(p for p in map(virtual_patient, range(200)) if any(d.modic == 1 for d in p.discs[3:8]))
    prescription = Prescription(slices=9, matrix=128, fov_mm=300)
    disc = next(d for d in patient.discs[3:8] if d.modic == 1)
    tissues = truth(patient, prescription)
    rows, columns = np.nonzero((tissues == Tissue.MODIC_1).any(axis=0))
    y_mm, z_mm = prescription.axes_mm()
    distance = np.hypot(y_mm[columns] - disc.centre_mm[0], z_mm[rows] - disc.centre_mm[1])
    assert distance.min() < 20

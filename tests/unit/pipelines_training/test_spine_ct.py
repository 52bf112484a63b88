"""The CT of the spine phantom: HU where they belong, marrow that loses HU with its fat, and noise as CT has it."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.phantoms.acquisition import Prescription, Scanner, slice_anatomy
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.spine import truth
from pipelines.phantoms.spine_ct import (
    HOUNSFIELD,
    STORED_HU,
    CtGrid,
    counting_texture,
    hounsfield_of,
    scan_spine,
    spine_hu,
)
from pipelines.phantoms.tissues import Tissue
from pipelines.phantoms.tomography import SHARP, SOFT

SAGITTAL = CtGrid("sagittal", (1, 128, 128), (4.0, 2.0, 2.0), (0.0, 0.0, -10.0))


@pytest.fixture(scope="module")
def patient() -> SpinePatient:
    return virtual_patient(3)


def test_every_tissue_has_hu() -> None:
    assert set(HOUNSFIELD) == set(Tissue)


def test_tissues_have_their_hu(patient: SpinePatient) -> None:
    volume = scan_spine(patient, SAGITTAL)
    labels = truth(patient, Prescription(1, 128, 256.0, 4.0, 0.0, SAGITTAL.centre_mm))
    assert volume.unit == "HU"

    def middle(tissue: Tissue) -> float:
        assert np.count_nonzero(labels == tissue) > 10
        return float(np.median(volume.voxels[labels == tissue]))

    assert middle(Tissue.AIR) == pytest.approx(-1000, abs=1)
    assert middle(Tissue.SUBCUTANEOUS_FAT) == pytest.approx(-106, abs=20)
    assert middle(Tissue.CSF) == pytest.approx(9, abs=15)
    assert middle(Tissue.MUSCLE) == pytest.approx(56, abs=20)
    assert middle(Tissue.CSF) < middle(Tissue.CORD) < middle(Tissue.MUSCLE)
    assert 100 < middle(Tissue.MARROW) < 300
    assert volume.voxels.max() > 700  # cortex, though thinner than a voxel


def test_marrow_loses_hu_with_its_fat_over_patients_and_inside_one(patient: SpinePatient) -> None:
    hu, fat = [], []
    for seed in range(40):
        one = virtual_patient(seed)
        base, slope, _ = hounsfield_of(one)
        for vertebra in one.vertebrae:
            fat.append(one.compartments[vertebra.marrow].fat_fraction)
            hu.append(base[vertebra.marrow] + slope[vertebra.marrow] * fat[-1])
    assert np.corrcoef(fat, hu)[0, 1] < -0.5
    marrow = np.full((2, 2), patient.vertebrae[5].marrow, dtype=np.uint8)
    fine = np.array([[0.0, 1.0], [-1.0, 2.0]], dtype=np.float32)
    inside = spine_hu(patient, marrow, fine)
    assert inside[1, 1] < inside[0, 1] < inside[0, 0] < inside[1, 0]


def test_sclerosis_is_dense_and_metastases_are_lytic_or_blastic() -> None:
    metastases = []
    for seed in range(40):
        base, _, _ = hounsfield_of(virtual_patient(seed))
        assert base[Tissue.MODIC_3] > 250
        assert base[Tissue.CORTEX] > base[Tissue.DENSE_COLLAGEN] + 400
        metastases.append(float(base[Tissue.METASTASIS]))
    assert 5 < sum(value > 300 for value in metastases) < 30
    assert all(value < 120 or value > 200 for value in metastases)


def test_what_mr_cannot_tell_apart_has_the_same_mr_constants(patient: SpinePatient) -> None:
    assert patient.compartments[Tissue.DENSE_COLLAGEN] == patient.compartments[Tissue.CORTEX]
    points = slice_anatomy(patient, Prescription(matrix=128), Scanner(), 8).points
    assert np.count_nonzero(points == Tissue.DENSE_COLLAGEN) > 100
    assert np.count_nonzero(points == Tissue.CORTEX) > 100


def test_axial_and_sagittal_slices_show_the_same_patient(patient: SpinePatient) -> None:
    sagittal = scan_spine(patient, CtGrid("sagittal", (7, 16, 96), (3.0, 3.0, 3.0)))
    axial = scan_spine(patient, CtGrid("axial", (16, 96, 7), (3.0, 3.0, 3.0)))
    # (x, -z, y) and (z, y, x) of the same points
    turned = axial.voxels.transpose(2, 0, 1)[:, ::-1]
    assert np.median(np.abs(turned - sagittal.voxels)) < 5
    assert np.corrcoef(turned.ravel(), sagittal.voxels.ravel())[0, 1] > 0.98
    for volume, corner in ((sagittal, (-9.0, -142.5, 22.5)), (axial, (-9.0, -142.5, -22.5))):
        assert volume.origin_mm == pytest.approx(corner)


def test_outside_the_flanks_there_is_air(patient: SpinePatient) -> None:
    volume = scan_spine(patient, CtGrid("axial", (1, 60, 80), (5.0, 6.0, 6.0), (0.0, -50.0, 0.0)))
    assert volume.voxels[0, :, 0].max() == -1000
    assert volume.voxels[0, :, 40].max() > -200


def test_noise_has_its_size_and_grows_with_frequency(patient: SpinePatient) -> None:
    rng = np.random.default_rng(1)
    soft, sharp = (counting_texture((128, 128), 1.0, 20.0, rng, kernel) for kernel in (SOFT, SHARP))
    for noise in (soft, sharp):
        assert noise.std() == pytest.approx(20.0, rel=1e-3)
        power = np.abs(np.fft.rfft2(noise)) ** 2
        assert power[1:3, 1:3].mean() < 0.3 * power[20:30, 20:30].mean()

    def neighbours(noise: np.ndarray) -> float:
        return float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])

    assert neighbours(soft) > neighbours(sharp)
    noisy, clean = scan_spine(patient, SAGITTAL, 30.0), scan_spine(patient, SAGITTAL)
    assert np.std(noisy.voxels - clean.voxels) > 15  # in air it is cut at the lowest stored value
    assert noisy.voxels.min() >= STORED_HU[0]

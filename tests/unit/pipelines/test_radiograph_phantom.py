"""The lateral radiograph of a virtual patient: attenuation, posture, and L5 on L5."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.phantoms.acquisition import Prescription
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.radiograph import (
    MU_WATER_PER_MM,
    Exposure,
    Projection,
    attenuation_of,
    corners,
    expose,
    lowest_lumbar,
    on_slice,
    project,
    rigid,
)


@pytest.fixture(scope="module")
def projection() -> Projection:
    return project(virtual_patient(7), 64)


def test_attenuation_follows_hounsfields_definition() -> None:
    mu = attenuation_of(np.array([-1000.0, 0.0, 50.0, 1000.0], np.float32))
    assert mu[:3] == pytest.approx([0.0, MU_WATER_PER_MM, 1.05 * MU_WATER_PER_MM])
    assert mu[3] > 2.0 * MU_WATER_PER_MM  # calcium absorbs more than its HU say


def test_trunk_attenuates_as_so_much_water(projection: Projection) -> None:
    """A lateral lumbar spine lies behind 250 to 450 mm of tissue; beside the trunk there is nothing."""
    water_mm = projection.sums / MU_WATER_PER_MM
    assert 250 < float(np.median(water_mm[24:40, 34:40])) < 480
    assert float(water_mm[:, 0].max()) < 5


def test_same_patient_and_exposure_give_the_same_picture(projection: Projection) -> None:
    one, again = (expose(projection, Exposure(), np.random.default_rng(3), 64) for _ in range(2))
    assert np.array_equal(one.pixels, again.pixels)
    noisier = expose(projection, Exposure(photons=1e4), np.random.default_rng(3), 64)
    assert np.std(np.diff(noisier.pixels)) > np.std(np.diff(one.pixels))


@pytest.mark.parametrize("lordosis", [-20.0, 10.0, 20.0])
def test_standing_changes_the_angle_between_l1_and_l5(projection: Projection, lordosis: float) -> None:
    from pipelines.phantoms.radiograph import _Posture

    patient = projection.patient
    posture = _Posture.of(patient, Exposure(lordosis_deg=lordosis))
    top = next(one for one in patient.vertebrae if one.name == patient.lumbar[-1])
    tilts = []
    for vertebra in (top, lowest_lumbar(patient)):
        before = corners(vertebra)
        after = posture.standing(before)
        assert posture.lying(after) == pytest.approx(before, abs=1e-6)
        edges = [points[1] - points[0] for points in (before, after)]
        turned = [np.degrees(np.arctan2(edge[1], edge[0])) for edge in edges]
        tilts.append(turned[1] - turned[0])
    assert tilts[1] == pytest.approx(0.0, abs=1.5)  # L5 keeps its place
    assert abs(tilts[0] - tilts[1]) == pytest.approx(abs(lordosis), abs=4.0)  # first order
    assert np.sign(tilts[0]) == -np.sign(lordosis)  # with more lordosis the upper endplates face further back


def test_rigid_registration_finds_rotation_and_shift() -> None:
    angle, shift = 0.2, np.array([3.0, -40.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    source = corners(lowest_lumbar(virtual_patient(1)))
    rotation, found = rigid(source, source @ turn.T + shift)
    assert rotation == pytest.approx(turn)
    assert found == pytest.approx(shift)


def test_registered_radiograph_lies_on_l5(projection: Projection) -> None:
    """However the patient stood, what is at L5 on the slice stays there; what is far from it does not."""
    prescription, patient = Prescription(matrix=64), projection.patient
    y_mm, z_mm = prescription.axes_mm()
    y5, z5 = lowest_lumbar(patient).centre_mm
    row, column = int(np.argmin(np.abs(z_mm - z5))), int(np.argmin(np.abs(y_mm - y5)))
    calm = Exposure(photons=1e9, scatter=0.0, blur_mm=0.01)
    seen = []
    for exposure in (replace(calm, lordosis_deg=0.0), replace(calm, lordosis_deg=18.0, turn_deg=9.0)):
        radiograph = expose(projection, exposure, np.random.default_rng(1), 128)
        seen.append(on_slice(radiograph, patient, prescription, 0.0, np.random.default_rng(2)))
    at_l5 = (slice(row - 4, row + 5), slice(column - 5, column + 6))
    here = float(np.corrcoef(seen[0][at_l5].ravel(), seen[1][at_l5].ravel())[0, 1])
    assert here > 0.9

"""Reads grey values of a sagittal series at places in the patient, whatever grid the series lies on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pipelines.phantoms.patient import CURVE_Z_MM, SpinePatient
from pipelines.volume import Volume

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A sagittal series whose rows run to the feet and whose columns run to the back."""

    volume: Volume

    def at(self, y_mm: Values, z_mm: Values) -> Values:
        """Grey values at the points (y, z), the mean over the slices; NaN outside the images."""
        _, row_mm, column_mm = self.volume.spacing_mm
        rows = (self.volume.origin_mm[2] - z_mm) / row_mm
        columns = (y_mm - self.volume.origin_mm[1]) / column_mm
        places = np.stack([rows.ravel(), columns.ravel()])
        values = [map_coordinates(one, places, order=1, cval=np.nan) for one in self.volume.voxels.astype(np.float64)]
        return np.asarray(np.mean(values, axis=0).reshape(rows.shape))

    def around(self, centre_mm: tuple[float, float], tilt_rad: float, u_mm: Values, v_mm: Values) -> Values:
        """Grey values on the grid of `u_mm` (to the back) and `v_mm` (upwards) about a tilted centre: (v, u)."""
        u, v = u_mm[None, :], v_mm[:, None]
        cosine, sine = np.cos(tilt_rad), np.sin(tilt_rad)
        return self.at(centre_mm[0] + u * cosine - v * sine, centre_mm[1] + u * sine + v * cosine)


def beside_wall(patient: SpinePatient, z_mm: Values, depth: Values) -> Values:
    """y at `depth` of the dural sac, 0 its front and 1 its back, at each height."""
    wall, slope, front, sac = (
        np.interp(z_mm, CURVE_Z_MM, curve)
        for curve in (patient.body.posterior_wall, patient.body.slope, patient.body.sac_front, patient.body.sac_depth)
    )
    return np.asarray(wall + (front + depth * sac) / slope)

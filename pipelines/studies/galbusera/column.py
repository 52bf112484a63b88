"""Finds the vertebral bodies in an image: how many there are above the sacrum, and how high each of them is.

Nothing here knows where a vertebra is. Known are the line along which the column runs and the level of the lumbosacral
disc, which the paper's registration of radiograph and MR gives; all else is found in the grey values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

from pipelines.phantoms.patient import CURVE_Z_MM, SpinePatient
from pipelines.studies.galbusera.film import Film, Values

STEP_MM = 0.5
BODY_MM = np.arange(17.0, 34.1, STEP_MM)  # heights that a vertebral body may have
USUAL_MM, SPREAD_MM = 26.0, 4.0  # of a body; how much another height costs
DISC_MM = np.arange(4.0, 15.1, STEP_MM)
USUAL_DISC_MM, SPREAD_DISC_MM = 9.5, 2.5
COLUMNS_MM = np.arange(-12.0, 12.1, 2.0)  # to the back of the line
START_MM = 12.0  # above the middle of the lumbosacral disc, within which the lowest body begins
RIM_MM = 3.0
COST = 0.04  # of a height that is unusual by its spread
GAIN = 0.3  # of one more body
EDGE = 0.72  # of the marrow's grey value


@dataclass(frozen=True, slots=True)
class Body:
    """One vertebral body: heights in mm at its front, in its middle and at its back."""

    front_mm: float
    middle_mm: float
    back_mm: float


def straightened(film: Film, patient: SpinePatient, from_z_mm: float) -> Values:
    """The column as if it were straight: rows are `STEP_MM` apart from `from_z_mm` up, columns `COLUMNS_MM`.

    It ends where the image ends.
    """
    middle = 0.5 * (patient.body.anterior_wall + patient.body.posterior_wall)
    middle = gaussian_filter1d(middle, 16.0 / 0.5)
    tangent = np.stack([np.gradient(middle, CURVE_Z_MM), np.ones_like(middle)])
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(middle), np.diff(CURVE_Z_MM)))])
    start = float(np.interp(from_z_mm, CURVE_Z_MM, length))
    along = np.arange(start, length[-1], STEP_MM)
    y, z = (np.interp(along, length, curve) for curve in (middle, CURVE_Z_MM))
    unit = tangent / np.hypot(*tangent)
    up_y, up_z = (np.interp(along, length, part) for part in unit)
    u = COLUMNS_MM[None, :]
    values = film.at(y[:, None] + u * up_z[:, None], z[:, None] - u * up_y[:, None])
    inside = np.flatnonzero(np.isfinite(values).all(axis=1))
    if not len(inside):
        return values[:0]
    values[: inside[0]] = values[inside[0]]  # the image may end within the lumbosacral disc
    return values[: inside[-1] + 1]


def find_bodies(film: Film, patient: SpinePatient, lumbosacral_z_mm: float) -> list[Body]:
    """The vertebral bodies whose both endplates the image shows, from the lowest above the sacrum upwards."""
    column = straightened(film, patient, lumbosacral_z_mm)
    return [_measured(column, floor, ceiling) for floor, ceiling in _chain(_relative(column))]


def _relative(column: Values) -> Values:
    """Grey values along the column as shares of the marrow's: most of any stretch of a spine is marrow."""
    profile = column[:, np.abs(COLUMNS_MM) <= 8.0].mean(axis=1)
    usual = gaussian_filter1d(median_filter(profile, round(90.0 / STEP_MM), mode="nearest"), 10.0 / STEP_MM) + 1e-6
    return np.asarray(gaussian_filter1d(profile / usual, 0.5 / STEP_MM))


def _chain(relative: Values) -> list[tuple[int, int]]:
    """Rows of the lower and upper endplate of each body: the chain of bodies and discs with the most evidence.

    Dynamic programming over the rows; the lowest endplate lies within `START_MM` of the first row.
    """
    rows = len(relative)
    discs, bodies = (np.rint(mm / STEP_MM).astype(np.intp) for mm in (DISC_MM, BODY_MM))
    disc_cost = COST * ((DISC_MM - USUAL_DISC_MM) / SPREAD_DISC_MM) ** 2
    floor, ceiling = np.full(rows, -np.inf), np.full(rows, -np.inf)  # the best chain whose last endplate is here
    below = np.full((2, rows), -1)  # the endplate before that one
    floor[: round(START_MM / STEP_MM)] = 0.0
    unlike = np.concatenate([[0.0], np.cumsum(np.minimum(np.abs(relative - 1.0), 0.5))])
    for row in range(discs[0], rows):
        before = row - discs[discs <= row]
        reached = ceiling[before] - disc_cost[: len(before)]
        if reached.max() > floor[row]:
            floor[row], below[0, row] = reached.max(), before[int(np.argmax(reached))]
        before = row - bodies[bodies <= row]
        if len(before):
            reached = floor[before] + _evidence(relative, unlike, before, row)
            ceiling[row], below[1, row] = reached.max(), before[int(np.argmax(reached))]
    ceiling[max(rows - round(RIM_MM / STEP_MM), 0) :] = -np.inf  # the rim of an image looks like an endplate
    found = []
    top = int(np.argmax(ceiling)) if np.isfinite(ceiling).any() else -1
    while top >= 0:
        found.append((int(below[1, top]), top))
        top = int(below[0, found[-1][0]])
    return found[::-1]


def _evidence(relative: Values, unlike: Values, bottoms: NDArray[np.intp], top: int) -> Values:
    """How much the rows from each of `bottoms` to `top` look like a body: even marrow between two dark endplates.

    unlike  running sum of how far each row is from marrow
    """
    length = top - bottoms
    margin = np.maximum(length // 5, 1)
    start, end = bottoms + margin, top - margin
    marrow = 1.0 - 2.0 * (unlike[end] - unlike[start]) / (end - start)
    odd = ((length * STEP_MM - USUAL_MM) / SPREAD_MM) ** 2
    return np.asarray(marrow - 0.5 * (relative[bottoms] + relative[top]) + GAIN - COST * odd)


def _measured(column: Values, floor: int, ceiling: int) -> Body:
    """Heights at three places, from the middle outwards to where the marrow ends."""
    smooth = gaussian_filter1d(column, 0.4 / STEP_MM, axis=0)
    middle, reach = (floor + ceiling) // 2, round(4.0 / STEP_MM)
    heights = []
    for place in (COLUMNS_MM <= -8.0, np.abs(COLUMNS_MM) <= 3.0, COLUMNS_MM >= 8.0):
        line = smooth[:, place].mean(axis=1)
        quarter = max((ceiling - floor) // 4, 1)
        dark = line < EDGE * np.median(line[middle - quarter : middle + quarter + 1])
        up = dark[middle + quarter : ceiling + reach + 1]
        down = dark[max(floor - reach, 0) : middle - quarter + 1][::-1]
        steps = sum(int(np.argmax(side)) if side.any() else len(side) for side in (up, down))
        heights.append((2 * quarter + steps) * STEP_MM)
    return Body(*heights)

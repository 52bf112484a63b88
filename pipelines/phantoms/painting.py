"""Which tissue lies where: the label map of one sagittal slice, painted from the back of the picture to the front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.patient import CURVE_Z_MM, FIELD_SIZE, FIELD_STEP_MM, Blob, Curve, Disc, SpinePatient, Vertebra
from pipelines.phantoms.tissues import Tissue

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

CORTEX_MM = 0.9
PEDICLE_MM = (8.5, 17.0)  # |x| of the pedicles and the foramina between them
FACET_MM = (9.0, 23.0)
LAMINA_MM = 9.0
SPINOUS_MM = 3.5


@dataclass(frozen=True, slots=True)
class _Slice:
    """The points of one slice and the label under each: all planes are (rows, columns), in mm."""

    labels: Labels
    x: Plane
    y: Plane
    z: Plane
    texture: tuple[Plane, Plane]  # coarse and middle fields here

    def window(self, y_mm: float, z_mm: float, reach_mm: float) -> _Slice:
        """The part within `reach_mm` of a point, sharing memory with the whole."""
        near_y = np.flatnonzero(np.abs(self.y[self.y.shape[0] // 2] - y_mm) < reach_mm)
        near_z = np.flatnonzero(np.abs(self.z[:, self.z.shape[1] // 2] - z_mm) < reach_mm)
        rows = slice(int(near_z[0]), int(near_z[-1]) + 1) if near_z.size else slice(0, 0)
        columns = slice(int(near_y[0]), int(near_y[-1]) + 1) if near_y.size else slice(0, 0)
        here = (rows, columns)
        coarse, medium = (plane[here] for plane in self.texture)
        return _Slice(self.labels[here], self.x[here], self.y[here], self.z[here], (coarse, medium))

    def local(self, centre_mm: tuple[float, float], tilt_rad: float) -> tuple[Plane, Plane]:
        """(u, v): mm to the back and upwards from `centre_mm` along axes tilted by `tilt_rad`."""
        dy, dz = self.y - np.float32(centre_mm[0]), self.z - np.float32(centre_mm[1])
        cosine, sine = np.float32(np.cos(tilt_rad)), np.float32(np.sin(tilt_rad))
        return dy * cosine + dz * sine, dz * cosine - dy * sine

    def paint(self, mask: Mask, label: int) -> None:
        self.labels[mask] = label


def paint_slice(patient: SpinePatient, x: Plane, y_mm: Curve, z_mm: Curve) -> Labels:
    """Compartment of each point, uint8 (rows, columns).

    x     mm to the left of each point (rows, columns), or anything that broadcasts to it: the points of a thick slice
    y_mm  mm to the back of each column
    z_mm  mm to the head of each row
    """
    shape = (len(z_mm), len(y_mm))
    rows, columns = z_mm.astype(np.float32), y_mm.astype(np.float32)
    middle_x = float(np.mean(x))
    coarse, medium = (_field(patient, pair, middle_x, rows, columns) for pair in range(2))
    curve = np.interp(z_mm, CURVE_Z_MM, patient.body.curve_mm * np.cos(2 * np.pi * CURVE_Z_MM / 400)).astype(np.float32)
    whole = _Slice(
        labels=np.full(shape, Tissue.AIR, dtype=np.uint8),
        x=np.broadcast_to(x, shape).astype(np.float32) - curve[:, None],
        y=columns[None, :] + 0.35 * medium,  # boundaries of living tissue are not drawn with a ruler
        z=rows[:, None] + 0.35 * coarse,
        texture=(coarse, medium),
    )
    along = _curves(patient, z_mm)
    _paint_trunk(whole, patient, along)
    _paint_vessels(whole, patient, along)
    _paint_canal(whole, patient, along)
    for vertebra in patient.vertebrae:
        _paint_arch(whole, patient, vertebra)
    for disc in patient.discs:
        _paint_disc(whole.window(*disc.centre_mm, 36.0), disc)
    for vertebra in patient.vertebrae:
        _paint_body(whole.window(*vertebra.centre_mm, 34.0), vertebra)
    for disc in patient.discs:
        if disc.modic:
            _paint_modic(whole.window(*disc.centre_mm, 36.0), disc, patient)
    for blob in patient.blobs:
        _paint_blob(whole.window(blob.centre_mm[1], blob.centre_mm[2], 14.0), blob, patient)
    return whole.labels


def _field(patient: SpinePatient, pair: int, x_mm: float, z_mm: Plane, y_mm: Plane) -> Plane:
    """A texture field at `x_mm`: the two fields of a pair turned into each other, so that neighbours resemble."""
    angle = x_mm / (14.0, 7.0)[pair]
    rows = np.round(z_mm / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE
    columns = np.round(y_mm / FIELD_STEP_MM).astype(np.intp) % FIELD_SIZE
    first, second = patient.fields[2 * pair], patient.fields[2 * pair + 1]
    here = np.ix_(rows, columns)
    mixed: Plane = np.float32(np.cos(angle)) * first[here] + np.float32(np.sin(angle)) * second[here]
    return mixed


def _stretched(whole: _Slice, patient: SpinePatient) -> Plane:
    """The middle field drawn out along the muscle fibres, about 2.5 by 10 mm."""
    x_mm = float(np.mean(whole.x))
    return _field(patient, 1, x_mm, whole.z[:, 0] / 2.5, 1.7 * whole.y[0])


def _curves(patient: SpinePatient, z_mm: Curve) -> dict[str, Plane]:
    """The body's longitudinal curves at the rows of the slice, each (rows, 1)."""
    names = (
        "posterior_wall",
        "slope",
        "anterior_wall",
        "sac_front",
        "sac_depth",
        "pad",
        "fascia",
        "skin",
        "front_skin",
    )
    return {
        name: np.interp(z_mm, CURVE_Z_MM, getattr(patient.body, name)).astype(np.float32)[:, None] for name in names
    }


def _paint_trunk(whole: _Slice, patient: SpinePatient, along: dict[str, Plane]) -> None:
    """Skin, fat, muscles of the back and the belly, and the mixture of bowel and fat between."""
    body = patient.body
    coarse, medium = whole.texture
    inside = (whole.y > along["front_skin"]) & (whole.y < along["skin"])
    whole.paint(inside, Tissue.SKIN)
    whole.paint((whole.y > along["front_skin"] + 2) & (whole.y < along["skin"] - 2), Tissue.SUBCUTANEOUS_FAT)
    wall = along["front_skin"] + 2 + body.front_fat_mm
    whole.paint((whole.y > wall) & (whole.y < along["fascia"]), Tissue.MUSCLE)
    cavity = (whole.y > wall + 9) & (whole.y < along["anterior_wall"] + 12)
    whole.paint(cavity, Tissue.FAT)
    ventral = cavity & (whole.y < along["anterior_wall"] - 14 + 3 * coarse)
    fluid, loops, gas = body.bowel
    whole.paint(ventral & (coarse > fluid), Tissue.BOWEL_WALL)
    whole.paint(ventral & (coarse > loops) & (medium > 0.2), Tissue.BOWEL_FLUID)
    whole.paint(ventral & (coarse > gas), Tissue.AIR)
    if abs(float(np.mean(whole.x))) > 28:
        z_kidney = next(v for v in patient.vertebrae if v.name == "L2").centre_mm[1] + 8
        kidney = ((whole.z - z_kidney) / 52) ** 2 + ((whole.y - along["anterior_wall"] - 14) / 24) ** 2 < 1
        whole.paint(kidney & (np.abs(whole.x) > 30), Tissue.ORGAN)
    lateral = np.abs(whole.x)
    # the intermuscular and interspinous planes are fatty in the midline; streaks follow the fibres
    streaks = 1.1 * _stretched(whole, patient) + 0.5 * coarse
    low = np.clip(-whole.z / 120, 0, 1)
    threshold = 1.5 - 2.6 * body.infiltration - 0.9 * low
    behind = (whole.y > along["posterior_wall"] + 6) & (whole.y < along["fascia"] - 1.5)
    whole.paint(behind & (streaks > threshold), Tissue.FAT)
    whole.paint(behind & (lateral < SPINOUS_MM) & (streaks > -0.7), Tissue.FAT)
    whole.paint((np.abs(whole.y - along["fascia"]) < 1.1), Tissue.DENSE_COLLAGEN)
    # the fat plane between two layers of the erector spinae
    layer = 0.62 * along["fascia"] + 0.38 * along["posterior_wall"] + 2 * coarse
    whole.paint(behind & (lateral > 6) & (np.abs(whole.y - layer) < 0.9 + 0.5 * medium), Tissue.FAT)
    # psoas: thin at L1, thick and further forward at L5
    growth = np.clip((70 - whole.z) / 120, 0.0, 1.1)
    centre_x, centre_y = 30 + 8 * growth, along["posterior_wall"] - 16 - 10 * growth
    radius_x, radius_y = (4 + 15 * growth) * body.psoas, (5 + 17 * growth) * body.psoas
    psoas = ((lateral - centre_x) / radius_x) ** 2 + ((whole.y - centre_y) / radius_y) ** 2 < 1
    whole.paint(psoas, Tissue.MUSCLE)
    whole.paint(psoas & (streaks > 1.9), Tissue.FAT)


def _paint_vessels(whole: _Slice, patient: SpinePatient, along: dict[str, Plane]) -> None:
    """Aorta and inferior vena cava down to the bifurcation, then the iliac vessels to both sides."""
    body = patient.body
    descent = np.clip(body.bifurcation_z_mm - whole.z, 0, None)
    for (x_mm, gap_mm, radius_mm), tissue in (
        (body.cava, Tissue.SLOW_BLOOD),
        (body.aorta, Tissue.FLOW_VOID),
    ):
        centre_y = along["anterior_wall"] - gap_mm - radius_mm + 0.12 * descent
        centre_x = x_mm + np.sign(x_mm) * 0.55 * descent
        radius = radius_mm * np.where(descent > 0, 0.65, 1.0)
        distance2 = (whole.x - centre_x) ** 2 + (whole.y - centre_y) ** 2
        whole.paint(distance2 < (radius + 1.2) ** 2, Tissue.MUSCLE)
        whole.paint(distance2 < radius**2, tissue)
    crus = (whole.z > body.bifurcation_z_mm + 50) & (np.abs(whole.x) < 22)
    front = along["anterior_wall"] - whole.y
    whole.paint(crus & (front > 1) & (front < 5 + np.clip((whole.z - 60) / 20, 0, 4)), Tissue.MUSCLE)


def _paint_canal(whole: _Slice, patient: SpinePatient, along: dict[str, Plane]) -> None:
    """Epidural fat, the sac with its fluid, the cord above the conus and the roots below it."""
    body = patient.body
    depth = (whole.y - along["posterior_wall"]) * along["slope"]
    lateral = np.abs(whole.x)
    width = body.sac_half_width_mm
    end = along["sac_front"] + along["sac_depth"] + along["pad"]
    whole.paint((depth > -8) & (depth < end + 3.0) & (lateral < LAMINA_MM + 4), Tissue.LIGAMENT)
    whole.paint((depth > -8) & (depth < end) & (lateral < width + 3), Tissue.FAT)
    # lateral recess and foramina hold fat as far as the facets
    whole.paint((depth > -2) & (depth < 15) & (lateral >= width + 2) & (lateral < FACET_MM[1]), Tissue.FAT)
    whole.paint((depth > -2) & (depth < 0.9) & (lateral < width + 3), Tissue.DENSE_COLLAGEN)
    roundness = np.sqrt(np.clip(1.0 - (lateral / width) ** 2, 0.0, 1.0))
    half = 0.5 * along["sac_depth"]
    offset = depth - along["sac_front"] - half
    sac = (np.abs(offset) < half * roundness) & (half > 0.8)
    whole.paint((np.abs(offset) < half * roundness + 0.5) & (half > 0.8), Tissue.DENSE_COLLAGEN)
    whole.paint(sac, Tissue.CSF)
    _, medium = whole.texture
    below = whole.z < body.conus_z_mm + 6
    strands = np.sin(2 * np.pi * (offset - 0.4 * whole.x + 0.8 * medium + 0.02 * whole.z) / body.root_period_mm)
    whole.paint(sac & below & (offset > -0.15 * half) & (strands > 0.35), Tissue.NERVE_ROOT)
    tip = np.clip((whole.z - body.conus_z_mm) / 28, 0.0, 1.0) ** 0.6
    cord = ((offset + 0.8) / (body.cord_half_depth_mm * tip + 1e-3)) ** 2 + (whole.x / (5.5 * tip + 1e-3)) ** 2 < 1
    whole.paint(sac & cord, Tissue.CORD)


def _outline(vertebra: Vertebra, x: Plane, u: Plane, v: Plane) -> tuple[Plane, Plane, Plane]:
    """Half depth at this x and v, half height at this u, and a level below 1 inside the body's rounded outline."""
    across = np.clip(1.0 - np.abs(x / vertebra.half_width_mm) ** 3, 0.0, 1.0) ** 0.5
    depth = (
        vertebra.half_depth_mm * across * (0.94 + 0.06 * np.clip(v / vertebra.half_height_mm, -1.2, 1.2) ** 2) + 1e-3
    )
    front = np.clip(u / vertebra.half_depth_mm, -1.1, 1.1)
    height = vertebra.half_height_mm * (1.0 - vertebra.wedge * (1.0 - front) * 0.5)
    hollow = vertebra.concavity_mm + np.where(v > 0, vertebra.sunk_mm, 0.0)
    height = np.maximum(height - hollow * np.clip(1.0 - front**2, 0.0, 1.0), 2.0)
    return depth, height, (u / depth) ** 8 + (v / height) ** 8


def _paint_body(part: _Slice, vertebra: Vertebra) -> None:
    """A vertebral body: cortex, marrow, the basivertebral vein and the oedema of a fresh fracture."""
    if part.labels.size == 0:
        return
    u, v = part.local(vertebra.centre_mm, vertebra.tilt_rad)
    depth, height, inside = _outline(vertebra, part.x, u, v)
    body = (inside < 1) & (np.abs(part.x) < vertebra.half_width_mm)
    part.paint(body, Tissue.CORTEX)
    marrow = body & (depth - np.abs(u) > CORTEX_MM) & (height - np.abs(v) > CORTEX_MM)
    part.paint(marrow, vertebra.marrow)
    channel = (u > 0.55 * depth) & (np.abs(v) < 0.9 + 0.16 * (u - 0.55 * depth)) & (np.abs(part.x) < 5)
    part.paint(marrow & channel, Tissue.BASIVERTEBRAL_VEIN)
    if vertebra.oedema:
        coarse, medium = part.texture
        floor = height * (1.0 - 2.0 * vertebra.oedema) + 2.5 * medium + 2.0 * coarse
        part.paint(marrow & (v > floor), Tissue.OEDEMA)
        line = np.abs(v - 0.55 * height - 0.8 * medium) < 0.7
        part.paint(marrow & line & (np.abs(u) < 0.8 * depth), Tissue.MODIC_3)  # the fracture line is compacted bone


def _paint_disc(part: _Slice, disc: Disc) -> None:
    """A disc: annulus with its bulge or protrusion, nucleus with its cleft."""
    if part.labels.size == 0:
        return
    u, v = part.local(disc.centre_mm, disc.tilt_rad)
    across = np.clip(1.0 - np.abs(part.x / disc.half_width_mm) ** 3, 0.0, 1.0) ** 0.5
    depth = disc.half_depth_mm * across + 1e-3
    swollen = 3.5 * np.clip(1.0 - (u / depth) ** 2, 0.0, 1.0)  # into the concave endplates, which are painted over it
    height = disc.half_height_mm + swollen
    reach = depth + np.where(u > 0, disc.bulge_mm, 0.6 * disc.bulge_mm) * across
    annulus = (np.abs(u / reach) ** 3 + np.abs(v / height) ** 4 < 1) & (np.abs(part.x) < disc.half_width_mm)
    part.paint(annulus & (np.abs(u) > reach - 1.6), Tissue.DENSE_COLLAGEN)
    part.paint(annulus & (np.abs(u) <= reach - 1.6), disc.annulus)
    if disc.protrusion_mm:
        back = (u - depth + 1.0) / (disc.protrusion_mm + 1.0)
        focus = np.exp(-0.5 * ((part.x - disc.protrusion_x_mm) / 5.0) ** 2)
        bump = (u > depth - 1.5) & (back**2 + (v / (0.7 * disc.half_height_mm + 1.5)) ** 2 < focus**2)
        part.paint(bump, disc.annulus)
    _, medium = part.texture
    nucleus = ((u - 0.04 * depth) / (0.68 * depth)) ** 2 + np.abs(v / (0.80 * height)) ** 2.6 < 1 + 0.1 * medium
    part.paint(nucleus & annulus & (across > 0.45), disc.nucleus)
    cleft = (np.abs(v) < 0.55) & (np.abs(u) < 0.5 * depth)
    if disc.grade in (2, 3):
        part.paint(cleft & nucleus & (across > 0.45), disc.annulus)


def _paint_modic(part: _Slice, disc: Disc, patient: SpinePatient) -> None:
    """Endplate changes of one type on both sides of a disc, inside marrow only."""
    if part.labels.size == 0:
        return
    u, v = part.local(disc.centre_mm, disc.tilt_rad)
    coarse, medium = part.texture
    start, end = disc.modic_extent
    along = (u > start * disc.half_depth_mm) & (u < end * disc.half_depth_mm)
    deep = np.abs(v) < disc.half_height_mm + 2.0 + disc.modic_depth_mm + 1.2 * medium + 1.2 * coarse
    marrow = patient.tissues[part.labels] == Tissue.MARROW
    part.paint(marrow & along & deep, (Tissue.MODIC_1, Tissue.MODIC_2, Tissue.MODIC_3)[disc.modic - 1])


def _paint_blob(part: _Slice, blob: Blob, patient: SpinePatient) -> None:
    """An ellipsoid lesion with an irregular edge, inside marrow only."""
    if part.labels.size == 0:
        return
    x, y, z = blob.centre_mm
    distance = np.sqrt((part.x - x) ** 2 + (part.y - y) ** 2 + (part.z - z) ** 2)
    _, medium = part.texture
    marrow = patient.tissues[part.labels] == Tissue.MARROW
    part.paint(marrow & (distance < blob.radius_mm * (1 + 0.15 * medium)), blob.tissue)


def _paint_arch(whole: _Slice, patient: SpinePatient, vertebra: Vertebra) -> None:
    """Spinous process in the midline, lamina beside it, then pedicle, articular processes and foramen."""
    if vertebra.name in ("S2", "S3", "S4"):
        return
    y, z = vertebra.centre_mm
    part = whole.window(y + vertebra.half_depth_mm + 22, z, 46.0)
    if part.labels.size == 0:
        return
    lumbar = vertebra.name.startswith("L")
    size = 1.0 if lumbar else 0.8
    back = vertebra.half_depth_mm
    canal = float(np.interp(z, CURVE_Z_MM, patient.body.sac_depth + patient.body.sac_front)) + 3.0
    u, v = part.local(vertebra.centre_mm, vertebra.tilt_rad)
    lateral = np.abs(part.x)
    droop = -0.15 if lumbar else -0.75  # thoracic processes point down
    out = u - back - canal
    if vertebra.name != "S1":
        spinous = (
            np.abs((out - 13 * size) / (14 * size)) ** 3 + np.abs((v + 9 - droop * (out - 8)) / (8.5 * size)) ** 3
        ) ** (1 / 3)
        _bone(part, spinous, 9 * size, lateral < SPINOUS_MM, vertebra.marrow)
    lamina = np.sqrt(((out - 3.5) / 3.8) ** 2 + ((v + 5 + 0.5 * (out - 3.5)) / 10.0) ** 2)
    _bone(part, lamina, 4.5, (lateral >= SPINOUS_MM) & (lateral < FACET_MM[0]), vertebra.marrow)
    if vertebra.name == "S1":
        return
    inside_pedicle = (lateral > PEDICLE_MM[0]) & (lateral < PEDICLE_MM[1])
    pedicle = np.maximum(np.abs((u - back - 2) / 9.0), np.abs((v - 0.38 * vertebra.half_height_mm) / (7.2 * size)))
    _bone(part, pedicle, 7.2, inside_pedicle, vertebra.marrow)
    root = ((u - back - 4) / 2.6) ** 2 + ((v + 0.45 * vertebra.half_height_mm) / 3.4) ** 2
    part.paint(inside_pedicle & (root < 1), Tissue.NERVE_ROOT)
    facets = (lateral > FACET_MM[0] + 2) & (lateral < FACET_MM[1])
    upper = np.sqrt(((u - back - 13 - 0.2 * v) / 4.8) ** 2 + ((v - 9) / 11.0) ** 2)  # superior articular process
    _bone(part, upper, 5.0, facets, vertebra.marrow)
    lower = np.sqrt(((u - back - 20 - 0.2 * v) / 4.6) ** 2 + ((v + 12) / 11.0) ** 2)  # inferior articular process
    _bone(part, lower, 5.0, facets, vertebra.marrow)
    joint = np.abs(u - back - 16.8 - 0.2 * (v + 16)) < 0.45
    part.paint(joint & facets & (np.abs(v + 17) < 6), Tissue.BOWEL_FLUID)
    transverse = np.sqrt(((u - back - 8) / 5.0) ** 2 + ((v - 4) / 5.5) ** 2)
    _bone(part, transverse, 5.0, (lateral >= FACET_MM[1]) & (lateral < 36), vertebra.marrow)


def _bone(part: _Slice, level: Plane, scale_mm: float, where: Mask, marrow: int) -> None:
    """A piece of bone: cortex where `level` < 1, marrow further in; level 1 stands for a half size of `scale_mm`."""
    part.paint(where & (level < 1), Tissue.CORTEX)
    part.paint(where & (level < 1 - 1.1 / scale_mm), marrow)

"""Draws a virtual patient from a seed: the sizes, grades and lesions of one lumbar spine and the body around it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.patient import (
    CURVE_Z_MM,
    FIELD_SIZE,
    FIELD_STEP_MM,
    Blob,
    Body,
    Curve,
    Disc,
    SpinePatient,
    Vertebra,
)
from pipelines.phantoms.tissues import (
    ANNULUS_T2_MS,
    FAT_T1_MS,
    FAT_T2_MS,
    NUCLEUS_BY_GRADE,
    PROPERTIES,
    ROOT_CSF_SHARE,
    FatCompartment,
    Properties,
    Tissue,
    mix,
    vary,
)

SACRUM = ("S4", "S3", "S2", "S1")
THORACIC = ("T12", "T11", "T10", "T9", "T8")


class _Compartments:
    """Collects rows for the label maps: the tissues first, then one row for each vertebra and disc."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rows = [vary(PROPERTIES[tissue], rng) for tissue in Tissue if tissue != Tissue.DENSE_COLLAGEN]
        self.rows.append(self.rows[Tissue.CORTEX])  # MR cannot tell them apart
        self.tissues = [int(tissue) for tissue in Tissue]

    def add(self, tissue: Tissue, row: Properties) -> int:
        self.rows.append(row)
        self.tissues.append(int(tissue))
        return len(self.rows) - 1


def virtual_patient(seed: int, lesion_rate: float = 1.0) -> SpinePatient:
    """The virtual patient of `seed`, the same at every call; `lesion_rate` scales how often lesions occur.

    Ages 20-85; four and six lumbar vertebrae in one patient of twenty each; Pfirrmann grades rise with age and towards
    the sacrum; Modic changes follow the grades (Modic 1988), fractures and low bone density follow age.
    """
    rng = np.random.default_rng([seed, 20260101])
    age_years = float(rng.uniform(20, 85))
    rows = _Compartments(rng)
    vertebrae = _vertebrae(rng, age_years, rows, lesion_rate)
    discs, vertebrae = _discs(rng, age_years, vertebrae, rows, lesion_rate)
    blobs = _blobs(rng, age_years, vertebrae, lesion_rate)
    body = _body(rng, age_years, vertebrae)
    fat = FatCompartment(float(rng.uniform(*FAT_T1_MS)), float(rng.uniform(*FAT_T2_MS)))
    fields = _fields(rng)
    root, csf = rows.rows[Tissue.NERVE_ROOT], rows.rows[Tissue.CSF]
    rows.rows[Tissue.NERVE_ROOT] = mix(root, csf, float(rng.uniform(*ROOT_CSF_SHARE)))
    return SpinePatient(
        seed=seed,
        age_years=age_years,
        vertebrae=vertebrae,
        discs=discs,
        blobs=blobs,
        body=body,
        fat=fat,
        compartments=tuple(rows.rows),
        tissues=np.asarray(rows.tissues, dtype=np.uint8),
        fields=fields,
    )


def _vertebrae(
    rng: np.random.Generator, age_years: float, rows: _Compartments, lesion_rate: float
) -> tuple[Vertebra, ...]:
    """Bodies from S4 to T8, stacked later by `_discs`; half sizes from 24-30 mm heights and 32-38 mm depths."""
    count = int(rng.choice([4, 5, 6], p=[0.05, 0.90, 0.05]))
    lumbar = tuple(f"L{number}" for number in range(count, 0, -1))
    scale = float(rng.normal(1.0, 0.06))
    slope = np.deg2rad(rng.normal(38, 7))  # of the sacrum, supine
    upper = np.deg2rad(rng.normal(-11, 4))
    fat_fraction = float(np.clip(0.27 + 0.0045 * (age_years - 20) + rng.normal(0, 0.06), 0.15, 0.75))
    fractures = rng.random() < 0.10 * lesion_rate * (2.0 if age_years > 60 else 0.7)
    broken = (
        set(rng.choice([*lumbar[1:], "T12", "T11"], size=int(rng.integers(1, 3)), replace=False))
        if fractures
        else set()
    )
    bodies = []
    for index, name in enumerate((*SACRUM, *lumbar, *THORACIC)):
        above = index - len(SACRUM)  # 0 is the lowest lumbar vertebra
        if above < 0:
            half_height, half_depth, half_width = [
                (9.0, 6.0, 18.0),
                (10.0, 8.0, 20.0),
                (11.5, 11.0, 23.0),
                (14.0, 16.0, 26.0),
            ][index]
            tilt = slope * (0.45, 0.9, 1.12, 1.0)[index]
        else:
            half_height = 13.6 - 0.12 * above - (0.35 * (above - count + 1) if above >= count else 0.0)
            half_depth = 17.3 - 0.3 * above - (0.35 * (above - count + 1) if above >= count else 0.0)
            half_width = 25.0 - 0.9 * above
            tilt = upper + (slope * 0.62 - upper) * np.exp(-above / 1.45)
        size = scale * rng.normal(1.0, 0.02, 3)
        marrow = replace(
            vary(PROPERTIES[Tissue.MARROW], rng, 0.03),
            fat_fraction=float(np.clip(fat_fraction + rng.normal(0, 0.03), 0.1, 0.85)),
            texture=float(rng.uniform(0.03, 0.12)),
        )
        loss = float(rng.uniform(0.15, 0.5)) if name in broken else 0.0
        bodies.append(
            Vertebra(
                name=name,
                centre_mm=(0.0, 0.0),
                tilt_rad=float(tilt + np.deg2rad(rng.normal(0, 1.5))),
                half_height_mm=float(half_height * size[0]) * (1 - 0.4 * loss),
                half_depth_mm=float(half_depth * size[1]) * (1 + 0.1 * loss),
                half_width_mm=float(half_width * size[2]),
                wedge=float(max(rng.normal(0.03, 0.02), 0.0)) + loss * 0.7,
                concavity_mm=float(rng.uniform(0.8, 2.4)) if above >= 0 else 0.4,
                sunk_mm=loss * float(rng.uniform(3, 9)),
                marrow=rows.add(Tissue.MARROW, marrow),
                oedema=float(rng.uniform(0.25, 1.0)) if name in broken and rng.random() < 0.6 else 0.0,
            )
        )
    return tuple(bodies)


def _discs(
    rng: np.random.Generator, age_years: float, vertebrae: tuple[Vertebra, ...], rows: _Compartments, lesion_rate: float
) -> tuple[tuple[Disc, ...], tuple[Vertebra, ...]]:
    """The discs, and the vertebrae stacked upon each other with the discs between them."""
    discs: list[Disc] = []
    stacked = [vertebrae[0]]
    patient_wear = rng.normal(0, 0.6)
    for below, above in pairwise(vertebrae):
        sacral = below.name in SACRUM[:-1]
        lowest = sum(1 for vertebra in stacked if not vertebra.name.startswith("S"))  # 0 at the lumbosacral disc
        wear = 1.3 + 0.033 * (age_years - 20) + patient_wear + (0.55, 0.5, 0.15)[min(lowest, 2)] + rng.normal(0, 0.6)
        grade = 4 if sacral else int(np.clip(round(wear), 1, 5))
        half_height = 1.2 if sacral else max(float(rng.normal(5.6, 0.6)) - 0.28 * max(lowest - 1, 0), 2.4)
        half_height *= 1.0 if sacral else (1.0, 1.0, 0.95, 0.8, 0.5)[grade - 1]
        tilt = 0.5 * (below.tilt_rad + above.tilt_rad)
        y, z = stacked[-1].centre_mm
        for length, angle in (
            (below.half_height_mm, below.tilt_rad),
            (2 * half_height, tilt),
            (above.half_height_mm, above.tilt_rad),
        ):
            start = (y, z)
            y, z = y - length * float(np.sin(angle)), z + length * float(np.cos(angle))
            if length == 2 * half_height:
                centre = (0.5 * (start[0] + y), 0.5 * (start[1] + z))
        stacked.append(replace(above, centre_mm=(y, z)))
        t1, t2, density = NUCLEUS_BY_GRADE[grade]
        t2 *= float(np.clip(rng.normal(1.0, 0.14), 0.65, 1.4))
        nucleus = vary(replace(PROPERTIES[Tissue.NUCLEUS], t1_ms=t1, t2_ms=t2, proton_density=density), rng)
        annulus = vary(replace(PROPERTIES[Tissue.ANNULUS], t2_ms=ANNULUS_T2_MS[grade]), rng)
        worn = not sacral and grade >= 3
        protruded = worn and rng.random() < 0.22
        has_modic = worn and rng.random() < 0.22 * lesion_rate
        start_u = float(rng.uniform(-1.0, 0.3))
        discs.append(
            Disc(
                name=f"{above.name}-{below.name}",
                centre_mm=centre,
                tilt_rad=tilt,
                half_height_mm=half_height,
                half_depth_mm=0.5 * (below.half_depth_mm + above.half_depth_mm) + (0.5 if not sacral else -1.0),
                half_width_mm=0.5 * (below.half_width_mm + above.half_width_mm),
                grade=grade,
                bulge_mm=float(rng.uniform(0, 1.2)) + (float(rng.uniform(0, 2.2)) if worn else 0.0),
                protrusion_mm=float(rng.uniform(2.5, 8.0)) if protruded else 0.0,
                protrusion_x_mm=float(rng.normal(0, 5)),
                nucleus=rows.add(Tissue.NUCLEUS, nucleus),
                annulus=rows.add(Tissue.ANNULUS, annulus),
                modic=int(rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15])) if has_modic else 0,
                modic_depth_mm=float(rng.uniform(4, 10)),
                modic_extent=(start_u, start_u + float(rng.uniform(0.7, 1.8))),
            )
        )
    index = next(i for i, vertebra in enumerate(stacked) if vertebra.name.startswith("L")) + 2
    y0, z0 = stacked[index].centre_mm
    stacked = [replace(v, centre_mm=(v.centre_mm[0] - y0, v.centre_mm[1] - z0)) for v in stacked]
    moved = [replace(d, centre_mm=(d.centre_mm[0] - y0, d.centre_mm[1] - z0)) for d in discs]
    return tuple(moved), tuple(stacked)


def _blobs(
    rng: np.random.Generator, age_years: float, vertebrae: tuple[Vertebra, ...], lesion_rate: float
) -> tuple[Blob, ...]:
    """Haemangiomas in one patient of ten, metastases (one to six) in one of twelve."""
    wanted = [Tissue.HAEMANGIOMA] if rng.random() < 0.10 * lesion_rate else []
    if rng.random() < 0.08 * lesion_rate * (1.5 if age_years > 55 else 0.5):
        wanted += [Tissue.METASTASIS] * int(rng.integers(1, 7))
    blobs = []
    for tissue in wanted:
        vertebra = vertebrae[int(rng.integers(3, len(vertebrae) - 1))]
        y, z = vertebra.centre_mm
        spread = 0.55 * rng.uniform(-1, 1, 3)
        centre = (
            float(spread[0] * vertebra.half_width_mm),
            y + float(spread[1] * vertebra.half_depth_mm),
            z + float(spread[2] * vertebra.half_height_mm),
        )
        blobs.append(Blob(vertebra.name, tissue, centre, float(rng.uniform(3, 8))))
    return tuple(blobs)


def _smooth(curve: Curve, sigma_mm: float) -> Curve:
    """`curve` over `CURVE_Z_MM` after a Gaussian of `sigma_mm`, its ends held."""
    reach = int(3 * sigma_mm / 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * 0.5 / sigma_mm) ** 2)
    return np.convolve(np.pad(curve, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _wave(rng: np.random.Generator, period_mm: float) -> Curve:
    """A slow undulation of unit amplitude."""
    return np.asarray(np.sin(2 * np.pi * CURVE_Z_MM / period_mm + rng.uniform(0, 2 * np.pi)))


def _wall(vertebrae: tuple[Vertebra, ...], side: float) -> Curve:
    """y of the back (side 1) or front (side -1) of the bodies over `CURVE_Z_MM`."""
    points = []
    for vertebra in vertebrae:
        y, z = vertebra.centre_mm
        cosine, sine = np.cos(vertebra.tilt_rad), np.sin(vertebra.tilt_rad)
        for v in (-0.8, 0.0, 0.8):
            u = side * vertebra.half_depth_mm * (1.0 if v else 0.95)
            up = v * vertebra.half_height_mm
            points.append((z + u * sine + up * cosine, y + u * cosine - up * sine))
    points.sort()
    z_mm, y_mm = np.asarray(points).T
    slope_top = (y_mm[-1] - y_mm[-6]) / (z_mm[-1] - z_mm[-6])
    curve = np.interp(CURVE_Z_MM, z_mm, y_mm)
    beyond = z_mm[-1] < CURVE_Z_MM
    curve[beyond] = y_mm[-1] + slope_top * (CURVE_Z_MM[beyond] - z_mm[-1])
    return _smooth(curve, 3.0)


def _body(rng: np.random.Generator, age_years: float, vertebrae: tuple[Vertebra, ...]) -> Body:
    """The canal, the muscles, the fat and the vessels that fit this column."""
    z = {vertebra.name: vertebra.centre_mm[1] for vertebra in vertebrae}
    wall = _wall(vertebrae, 1.0)
    slope = 1.0 / np.sqrt(1.0 + np.gradient(wall, CURVE_Z_MM) ** 2)
    lowest = next(v for v in vertebrae if v.name.startswith("L"))
    end_z = z["S2"] + float(rng.normal(0, 8))
    depth = float(rng.normal(15.0, 1.6))
    taper = np.clip((CURVE_Z_MM - end_z) / (lowest.centre_mm[1] - end_z), 0.0, 1.0) ** 0.7
    sac_depth = _smooth(depth * taper * (1 + 0.05 * _wave(rng, 180)), 4.0)
    low = np.clip((lowest.centre_mm[1] + 10 - CURVE_Z_MM) / 40, 0.0, 1.0)
    levels = np.array([vertebra.centre_mm[1] for vertebra in vertebrae])
    nearest = np.min(np.abs(CURVE_Z_MM[:, None] - levels[None, :]), axis=1)
    pad = 1.0 + float(rng.uniform(2, 5)) * np.clip((nearest - 7.0) / 9.0, 0, 1) + 4 * low
    muscle_mm = float(rng.normal(36, 5))
    fascia = _smooth(wall, 32.0) + 22 + muscle_mm + 3 * _wave(rng, 260)
    fat_mm = float(np.clip(rng.gamma(3.0, 5.5), 4, 55))
    lower = np.clip(-CURVE_Z_MM / 110, 0, 1)
    skin = _smooth(fascia, 15.0) + fat_mm * (0.75 + rng.uniform(0.1, 1.0) * lower)
    belly = float(rng.uniform(70, 150))
    front = _smooth(_wall(vertebrae, -1.0), 6.0)
    front_skin = _smooth(front, 50.0) - belly - 12 * np.cos(2 * np.pi * (CURVE_Z_MM + 40) / 420)
    bowel = np.sort(rng.normal([-0.5, 0.3, 1.5], 0.3))
    return Body(
        posterior_wall=wall,
        slope=slope,
        anterior_wall=front,
        sac_front=_smooth(1.2 + 6.0 * low * float(rng.uniform(0.4, 1.2)), 5.0),
        sac_depth=sac_depth,
        pad=_smooth(pad, 2.0),
        fascia=fascia,
        skin=skin,
        front_skin=front_skin,
        front_fat_mm=fat_mm * float(rng.uniform(0.6, 1.4)),
        sac_half_width_mm=float(rng.normal(10.0, 1.0)),
        conus_z_mm=float(rng.normal(z["L1"] - 2, 14)),
        cord_half_depth_mm=float(rng.normal(3.9, 0.35)),
        infiltration=float(np.clip(0.05 + 0.005 * (age_years - 20) + rng.normal(0, 0.08), 0.02, 0.5)),
        aorta=(float(rng.normal(12, 4)), float(rng.uniform(3, 9)), float(rng.normal(9.0, 1.2))),
        cava=(float(rng.normal(-19, 4)), float(rng.uniform(2, 7)), float(rng.normal(10.0, 1.5))),
        bifurcation_z_mm=z["L4"] + float(rng.normal(0, 8)),
        psoas=float(rng.normal(1.0, 0.15)),
        root_period_mm=float(rng.uniform(1.7, 2.6)),
        bowel=(float(bowel[0]), float(bowel[1]), float(bowel[2])),
        curve_mm=float(rng.normal(0, 3.0)),
    )


def _fields(rng: np.random.Generator) -> NDArray[np.float32]:
    """Six periodic Gaussian random fields of unit variance: correlation lengths of 12, 4 and 1 mm, two of each."""
    frequency = np.fft.fftfreq(FIELD_SIZE, FIELD_STEP_MM)
    radius2 = frequency[:, None] ** 2 + frequency[None, : FIELD_SIZE // 2 + 1] ** 2
    fields = np.empty((6, FIELD_SIZE, FIELD_SIZE), dtype=np.float32)
    for index, length_mm in enumerate((12.0, 12.0, 4.0, 4.0, 1.0, 1.0)):
        spectrum = np.fft.rfft2(rng.standard_normal((FIELD_SIZE, FIELD_SIZE), dtype=np.float32))
        spectrum *= np.exp(-2 * (np.pi * length_mm) ** 2 * radius2)
        values = np.fft.irfft2(spectrum, s=(FIELD_SIZE, FIELD_SIZE))
        fields[index] = (values - values.mean()) / values.std()
    return fields

"""What a virtual patient consists of: vertebrae, discs, lesions and the body around them, as numbers.

Coordinates are millimetres in LPS: x to the left, y to the back, z to the head; the origin is the centre of L3 (of the
third vertebra above the sacrum where there are four or six lumbar vertebrae). A tilt is positive where the upward axis
leans forward, as that of S1 does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.phantoms.tissues import FatCompartment, Properties, Tissue

Curve = NDArray[np.float64]
CURVE_Z_MM = np.arange(-260.0, 260.0, 0.5)  # where the longitudinal curves below are sampled
FIELD_SIZE = 512
FIELD_STEP_MM = 0.65  # the texture fields repeat after 333 mm


@dataclass(frozen=True, slots=True)
class Vertebra:
    """One vertebral body: its centre in the sagittal plane, its half sizes and what is wrong with it."""

    name: str
    centre_mm: tuple[float, float]  # (y, z)
    tilt_rad: float
    half_height_mm: float
    half_depth_mm: float
    half_width_mm: float
    wedge: float  # share of the half height lost at the front
    concavity_mm: float  # of each endplate
    sunk_mm: float  # further collapse of the upper endplate
    marrow: int  # compartment
    oedema: float = 0.0  # share of the body under the upper endplate that is oedematous


@dataclass(frozen=True, slots=True)
class Disc:
    """One intervertebral disc and the endplate changes beside it."""

    name: str
    centre_mm: tuple[float, float]
    tilt_rad: float
    half_height_mm: float
    half_depth_mm: float
    half_width_mm: float
    grade: int  # Pfirrmann 1-5
    bulge_mm: float
    protrusion_mm: float
    protrusion_x_mm: float
    nucleus: int  # compartments
    annulus: int
    modic: int  # 0 none, else the type 1-3, on both sides of the disc
    modic_depth_mm: float
    modic_extent: tuple[float, float]  # along the endplate, -1 front to 1 back


@dataclass(frozen=True, slots=True)
class Blob:
    """An ellipsoid lesion inside one vertebra."""

    vertebra: str
    tissue: Tissue
    centre_mm: tuple[float, float, float]  # (x, y, z)
    radius_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Everything around the column: curves over `CURVE_Z_MM` in mm, and single numbers."""

    posterior_wall: Curve  # y of the back of the vertebral bodies
    slope: Curve  # cosine between the wall and the z axis
    anterior_wall: Curve
    sac_front: Curve  # distance of the dural sac from the posterior wall
    sac_depth: Curve
    pad: Curve  # posterior epidural fat
    fascia: Curve  # y of the back of the muscles
    skin: Curve
    front_skin: Curve
    front_fat_mm: float
    sac_half_width_mm: float
    conus_z_mm: float
    cord_half_depth_mm: float
    infiltration: float  # fat share of the back muscles
    aorta: tuple[float, float, float]  # x, distance from the front wall, radius
    cava: tuple[float, float, float]
    bifurcation_z_mm: float
    psoas: float  # scale
    root_period_mm: float
    bowel: tuple[float, float, float]  # thresholds of the ventral mixture
    curve_mm: float  # lateral deviation (scoliosis) at the apex


@dataclass(frozen=True, slots=True, eq=False)
class SpinePatient:
    """One virtual patient.

    compartments  the rows that label maps point to; the first ones are the tissues themselves, by their numbers
    tissues       the Tissue of each compartment
    fields        (6, FIELD_SIZE, FIELD_SIZE): coarse, middle and fine texture, two of each
    """

    seed: int
    age_years: float
    vertebrae: tuple[Vertebra, ...]  # from below
    discs: tuple[Disc, ...]
    blobs: tuple[Blob, ...]
    body: Body
    fat: FatCompartment
    compartments: tuple[Properties, ...]
    tissues: NDArray[np.uint8]
    fields: NDArray[np.float32] = field(repr=False)

    @property
    def lumbar(self) -> tuple[str, ...]:
        """Names of the lumbar vertebrae from below."""
        return tuple(vertebra.name for vertebra in self.vertebrae if vertebra.name.startswith("L"))

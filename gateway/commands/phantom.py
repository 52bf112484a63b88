"""``athanor phantom``: acquired-looking series of a virtual patient, for demonstrations and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from gateway.commands import console
from gateway.commands.console import say
from gateway.dicom.acquired import Acquisition, write_mr_series
from gateway.dicom.acquired_rays import write_ct_series, write_radiograph
from pipelines.phantoms.acquisition import Prescription, draw_visit
from pipelines.phantoms.body import REGIONS, Grid
from pipelines.phantoms.ct import STANDARD
from pipelines.phantoms.ct_volume import FOLD, scan_volume
from pipelines.phantoms.motion import MILD, SEVERE, STILL, Motion
from pipelines.phantoms.radiograph import draw_exposure, expose, project
from pipelines.phantoms.sequences import PD, PD_FS, STIR, T1W, T2W, TIRM, Sequence
from pipelines.phantoms.spine import acquire, virtual_patient
from pipelines.phantoms.spine_ct import CtGrid, scan_spine
from pipelines.phantoms.trunk_volume import trunk_volume
from pipelines.volume import Volume

_LEAST_DOSE = 0.05
_SPINE_FOV_MM = 220.0
_SPINE_NOISE_HU = 10.0  # of a slice at full dose
_PAINTED_MM = 1.5  # a thicker slice of the spine is the mean of several
_AXIAL = CtGrid("axial", (1, 1, 1), (1.0, 1.0, 1.0)).direction


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is written of a virtual patient; `thickness_mm` None is what is usual: 4 mm in MR, 5 in CT, 3 for its spine.

    `dose` is the share of a routine scan, `region` None what the seed draws; both are for CT, `plane` for its spine,
    `motion`, one of MOTIONS, for MR.
    """

    slices: int = 20
    matrix: int = 256
    thickness_mm: float | None = None
    dose: float = 1.0
    region: str | None = None
    plane: Literal["axial", "sagittal"] = "axial"
    motion: str = "none"


def _mr(sequence: Sequence, acquisition: Acquisition, folder: Path, seed: int, wanted: Wanted) -> list[Path]:
    prescription = Prescription(slices=wanted.slices, matrix=wanted.matrix)
    if wanted.thickness_mm is not None:
        prescription = replace(prescription, thickness_mm=wanted.thickness_mm)
    motion, patient = MOTIONS[wanted.motion], virtual_patient(seed)
    _, scanner = draw_visit(patient)
    scanner = replace(scanner, motion=replace(motion, echo_train=acquisition.echo_train_length))
    description = acquisition.series_description  # the series UID follows from it
    acquisition = replace(
        acquisition,
        series_description=f"{description} {wanted.motion.upper()} MOTION" if motion.moves else description,
        repetition_time_ms=sequence.tr_ms,
        echo_time_ms=sequence.te_ms,
        inversion_time_ms=sequence.ti_ms,
        slice_thickness_mm=prescription.thickness_mm,
    )
    volume = acquire(patient, sequence, prescription, scanner)
    return write_mr_series(volume, folder, seed=seed, acquisition=acquisition)


def _body_ct(folder: Path, seed: int, wanted: Wanted) -> list[Path]:
    patient, thickness_mm = trunk_volume(seed, wanted.region), wanted.thickness_mm or 5.0
    spacing_mm = 2.1 * max(patient.body.half_size_mm) / wanted.matrix
    grid = Grid(wanted.matrix, wanted.matrix, spacing_mm)
    rng = np.random.default_rng([seed, 53])
    scan = scan_volume(patient, grid, wanted.slices, thickness_mm / FOLD, STANDARD, wanted.dose, rng)
    voxels = scan.thick()
    half = 0.5 * (wanted.matrix - 1) * spacing_mm
    origin = (-half, -half, -0.5 * (wanted.slices - 1) * thickness_mm)
    volume = Volume(voxels, (thickness_mm, spacing_mm, spacing_mm), origin, _AXIAL, "HU")
    region = patient.body.region.upper()
    return write_ct_series(
        volume,
        folder,
        seed=seed,
        description=f"{region} {thickness_mm:g} mm",
        number=2,
        body_part=region,
        thickness_mm=thickness_mm,
        dose=wanted.dose,
    )


def _spine_ct(folder: Path, seed: int, wanted: Wanted) -> list[Path]:
    thickness_mm = wanted.thickness_mm or 3.0
    fold = -int(-thickness_mm // _PAINTED_MM)  # rounded up
    spacing_mm = _SPINE_FOV_MM / wanted.matrix
    painted = CtGrid(
        wanted.plane,
        (fold * wanted.slices, wanted.matrix, wanted.matrix),
        (thickness_mm / fold, spacing_mm, spacing_mm),
    )
    noise_hu = _SPINE_NOISE_HU * float(np.sqrt(fold / wanted.dose))
    thin = scan_spine(virtual_patient(seed), painted, noise_hu, STANDARD)
    voxels = thin.voxels.reshape(wanted.slices, fold, wanted.matrix, wanted.matrix).mean(axis=1)
    grid = replace(painted, shape=voxels.shape, spacing_mm=(thickness_mm, spacing_mm, spacing_mm))
    return write_ct_series(
        Volume(voxels, grid.spacing_mm, grid.origin_mm, grid.direction, "HU"),
        folder,
        seed=seed,
        description=f"LSPINE {wanted.plane[:3].upper()} {thickness_mm:g} mm",
        number=3,
        body_part="LSPINE",
        thickness_mm=thickness_mm,
        dose=wanted.dose,
    )


def _radiograph(folder: Path, seed: int, wanted: Wanted) -> list[Path]:
    rng = np.random.default_rng([seed, 59])
    projection = project(virtual_patient(seed))
    return write_radiograph(expose(projection, draw_exposure(rng), rng, wanted.matrix), folder, seed=seed)


MOTIONS: Mapping[str, Motion] = {"none": STILL, "mild": MILD, "severe": SEVERE}
_INVERSION = ("SE", "IR")
# what of the patient -> what writes it
_MR: Mapping[str, Callable[[Path, int, Wanted], list[Path]]] = {
    "t1w": partial(_mr, T1W, Acquisition("T1 TSE SAG LSPINE", 5, echo_train_length=3)),
    "t2w": partial(_mr, T2W, Acquisition("T2 TSE SAG LSPINE", 4)),
    "stir": partial(_mr, STIR, Acquisition("STIR SAG LSPINE", 6, scanning_sequence=_INVERSION, echo_train_length=12)),
    "tirm": partial(_mr, TIRM, Acquisition("TIRM SAG LSPINE", 7, scanning_sequence=_INVERSION, echo_train_length=14)),
    "pd": partial(_mr, PD, Acquisition("PD TSE SAG LSPINE", 8, echo_train_length=8)),
    "pd-fs": partial(_mr, PD_FS, Acquisition("PD FS TSE SAG LSPINE", 9, scan_options=("FS",), echo_train_length=8)),
}
SERIES: Mapping[str, Callable[[Path, int, Wanted], list[Path]]] = {
    **_MR,
    "ct": _body_ct,
    "spine-ct": _spine_ct,
    "xray": _radiograph,
}


def phantom(
    out_dir: Annotated[Path, typer.Argument(help="folder for the files; with several sequences, a folder each in it")],
    seed: Annotated[int, typer.Option(help="the virtual patient; a seed is always the same patient", min=0)] = 0,
    sequence: Annotated[
        list[str] | None, typer.Option(help=f"one of: {', '.join(SERIES)}; may be given several times [default: t2w]")
    ] = None,
    slices: Annotated[int, typer.Option(help="slices of the series", min=1, max=300)] = 20,
    matrix: Annotated[int, typer.Option(help="rows and columns", min=64, max=512)] = 256,
    thickness: Annotated[
        float | None,
        typer.Option(help="of a slice in mm [default: 4, ct 5, spine-ct 3]", min=0.5, max=20, show_default=False),
    ] = None,
    dose: Annotated[float, typer.Option(help="CT: share of a routine dose", min=_LEAST_DOSE, max=1)] = 1.0,
    region: Annotated[str, typer.Option(help=f"ct: {', '.join(REGIONS)} [default: drawn by the seed]")] = "",
    plane: Annotated[str, typer.Option(help="spine-ct: axial or sagittal")] = "axial",
    motion: Annotated[str, typer.Option(help=f"MR: {', '.join(MOTIONS)}; breathing and a patient who moves")] = "none",
) -> None:
    """Write series of a virtual patient that look acquired, MR, CT or a radiograph: for test systems only."""
    sequences = list(dict.fromkeys(sequence or ["t2w"]))
    for one in sequences:
        _require("--sequence", one, SERIES)
    _require("--region", region, ("", *REGIONS))
    _require("--plane", plane, ("axial", "sagittal"))
    _require("--motion", motion, MOTIONS)
    if motion != "none":
        for one in sequences:
            _require(f"--sequence with --motion {motion}", one, _MR)
    seen: Literal["axial", "sagittal"] = "sagittal" if plane == "sagittal" else "axial"
    wanted = Wanted(slices, matrix, thickness, dose, region or None, seen, motion)
    for one in sequences:
        folder = out_dir / one if len(sequences) > 1 else out_dir
        paths = SERIES[one](folder, seed, wanted)
        say(f"{len(paths)} files of virtual patient {seed} in {folder}")


def _require(option: str, found: str, expected: Mapping[str, object] | tuple[str, ...]) -> None:
    if found not in expected:
        names = ", ".join(name for name in expected if name)
        console.fail(f"{option}: found {found!r}; expected one of: {names}", console.USAGE)


def write_phantom(folder: Path, seed: int, sequence: str = "t2w", slices: int = 20, matrix: int = 256) -> list[Path]:
    """The files of one sequence of the virtual patient `seed`, one a slice."""
    return SERIES[sequence](folder, seed, Wanted(slices, matrix))


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(phantom)

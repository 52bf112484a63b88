"""``athanor phantom``: acquired-looking series of a virtual patient, for demonstrations and tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import say
from gateway.dicom.acquired import Acquisition, write_mr_series
from pipelines.phantoms.acquisition import Prescription
from pipelines.phantoms.sequences import STIR, T2W, Sequence
from pipelines.phantoms.spine import acquire, virtual_patient

_SEQUENCES: dict[str, tuple[Sequence, Acquisition]] = {
    "t2w": (T2W, Acquisition(series_description="T2 TSE SAG LSPINE", series_number=4)),
    "stir": (
        STIR,
        Acquisition(
            series_description="STIR SAG LSPINE", series_number=6, scanning_sequence=("SE", "IR"), echo_train_length=12
        ),
    ),
}


def phantom(
    out_dir: Annotated[Path, typer.Argument(help="folder for the files of the series")],
    seed: Annotated[int, typer.Option(help="the virtual patient; a seed is always the same patient", min=0)] = 0,
    sequence: Annotated[str, typer.Option(help=f"one of: {', '.join(_SEQUENCES)}")] = "t2w",
    slices: Annotated[int, typer.Option(help="slices of the series", min=1, max=60)] = 20,
    matrix: Annotated[int, typer.Option(help="rows and columns", min=64, max=512)] = 256,
) -> None:
    """Write a sagittal lumbar spine series of a virtual patient that looks acquired: for test systems only."""
    if sequence not in _SEQUENCES:
        console.fail(f"--sequence: found {sequence!r}; expected one of: {', '.join(_SEQUENCES)}", console.USAGE)
    paths = write_phantom(out_dir, seed, sequence, slices, matrix)
    say(f"{len(paths)} files of virtual patient {seed} in {out_dir}")


def write_phantom(folder: Path, seed: int, sequence: str = "t2w", slices: int = 20, matrix: int = 256) -> list[Path]:
    """The files of one sequence of the virtual patient `seed`, one a slice."""
    timing, acquisition = _SEQUENCES[sequence]
    volume = acquire(virtual_patient(seed), timing, Prescription(slices=slices, matrix=matrix))
    return write_mr_series(
        volume,
        folder,
        seed=seed,
        acquisition=replace(
            acquisition,
            repetition_time_ms=timing.tr_ms,
            echo_time_ms=timing.te_ms,
            inversion_time_ms=timing.ti_ms,
            slice_thickness_mm=Prescription().thickness_mm,
        ),
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(phantom)

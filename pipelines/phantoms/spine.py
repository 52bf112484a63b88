"""The sagittal lumbar spine phantom: `virtual_patient` draws one, `acquire` scans it, `truth` says what was there."""

from __future__ import annotations

from pipelines.phantoms.acquisition import Prescription, Scanner, acquire, draw_prescription, draw_scanner, truth
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import DRAWN, PD, PD_FS, STIR, T1W, T2W, TIRM, Sequence
from pipelines.phantoms.tissues import Tissue

__all__ = [
    "DRAWN",
    "PD",
    "PD_FS",
    "STIR",
    "T1W",
    "T2W",
    "TIRM",
    "Prescription",
    "Scanner",
    "Sequence",
    "SpinePatient",
    "Tissue",
    "acquire",
    "draw_prescription",
    "draw_scanner",
    "truth",
    "virtual_patient",
]

"""The sagittal lumbar spine phantom: `virtual_patient` draws one, `acquire` scans it, `truth` says what was there."""

from __future__ import annotations

from pipelines.phantoms.acquisition import Prescription, Scanner, acquire, draw_prescription, draw_scanner, truth
from pipelines.phantoms.anatomy import virtual_patient
from pipelines.phantoms.patient import SpinePatient
from pipelines.phantoms.sequences import STIR, T2W, Sequence, draw_stir, draw_t2w
from pipelines.phantoms.tissues import Tissue

__all__ = [
    "STIR",
    "T2W",
    "Prescription",
    "Scanner",
    "Sequence",
    "SpinePatient",
    "Tissue",
    "acquire",
    "draw_prescription",
    "draw_scanner",
    "draw_stir",
    "draw_t2w",
    "truth",
    "virtual_patient",
]

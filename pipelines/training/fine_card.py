"""The measured part of a super-resolution card, as Markdown tables written from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.training.dose_card import table

METHODS = {
    "generator": "**this generator**",
    "linear": "linear",
    "cubic": "cubic",
    "lanczos": "Lanczos",
    "lanczos_back_projected": "Lanczos, back-projected",
}
METRICS = (
    ("psnr_db", "PSNR, dB", 2),
    ("ssim", "SSIM", 3),
    ("ssim_7x7", "SSIM 7x7", 3),
    ("vifp", "VIFp", 3),
    ("cpbd", "CPBD", 3),
)
SETS = {
    "held_out": "Held-out patients, drawn as in training",
    "shifted": "Shifted patients: 3 T, another coil, more noise, lesions five times as often, finer k-space",
}


def fine_sections(metrics: Mapping[str, Any]) -> list[str]:
    """One section for each set of patients."""
    return [_section(title, metrics[name]) for name, title in SETS.items()]


def _section(title: str, measured: Mapping[str, Any]) -> str:
    scores, others = measured["methods"], measured["generator_minus"]
    lines = ["", f"### {title} ({measured['patients']} patients)", ""]
    lines += table(
        ["mean (SD) over patients", *(label for _, label, _ in METRICS), "left over, %"],
        [
            [
                label,
                *(f"{scores[name][m]['mean']:.{n}f} ({scores[name][m]['sd']:.{n}f})" for m, _, n in METRICS),
                f"{100 * scores[name]['left_over']['mean']:.2f}",
            ]
            for name, label in METHODS.items()
        ],
    )
    lines += ["", f"The CPBD of the truth is {measured['truth_cpbd']:.3f}.", ""]
    lines += ["Generator minus baseline, mean and 95 % interval of a paired bootstrap over patients:", ""]
    lines += table(
        ["baseline", *(label for _, label, _ in METRICS)],
        [
            [label, *(_interval(others[name][m], digits) for m, _, digits in METRICS)]
            for name, label in METHODS.items()
            if name in others
        ],
    )
    return "\n".join(lines)


def _interval(difference: Mapping[str, float], digits: int) -> str:
    return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(*(difference[key] for key in ("mean", "low", "high")), n=digits)

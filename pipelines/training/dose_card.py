"""The measured part of a CT denoiser's card, as Markdown tables written from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = {
    "denoiser": "**this denoiser**",
    "nlm": "non-local means",
    "tv": "total variation",
    "bilateral": "bilateral filter",
    "noisy": "the scan itself",
}
METRICS = (("psnr_db", "PSNR, dB", 2), ("ssim", "SSIM", 3), ("ssim_7x7", "SSIM 7x7", 3), ("rmse_hu", "RMSE, HU", 2))
SETS = {
    "quarter": "A quarter of the dose, patients drawn as in training",
    "tenth": "A tenth of the dose, the same patients",
    "shifted": "Shifted: a tenth of the dose, larger patients, a sharper kernel, lesions four times as often",
}
BENCH = (
    ("sigma_hu", "noise, HU", 2),
    ("mean_frequency_per_mm", "its mean frequency, 1/mm", 3),
    ("half_transfer_per_mm", "edge transfer 50 %, 1/mm", 3),
    ("low_contrast_cnr", "low-contrast CNR", 2),
    ("low_contrast_hu", "contrast of 15 HU, HU", 1),
)


def dose_sections(metrics: Mapping[str, Any]) -> list[str]:
    """One section for each set of patients, and one for the bench."""
    return [*(_section(title, metrics[name]) for name, title in SETS.items()), _bench(metrics["bench"])]


def _section(title: str, measured: Mapping[str, Any]) -> str:
    lines = ["", f"### {title} ({measured['patients']} patients)", ""]
    columns = [label for _, label, _ in METRICS]
    scores, others = measured["methods"], measured["denoiser_minus"]
    lines += table(
        ["mean (SD) over patients", *columns],
        [
            [label, *(f"{scores[name][m]['mean']:.{n}f} ({scores[name][m]['sd']:.{n}f})" for m, _, n in METRICS)]
            for name, label in METHODS.items()
        ],
    )
    lines += ["", "Denoiser minus baseline, mean and 95 % interval of a paired bootstrap over patients:", ""]
    lines += table(
        ["baseline", *columns],
        [
            [label, *(_interval(others[name][m], digits) for m, _, digits in METRICS)]
            for name, label in METHODS.items()
            if name in others
        ],
    )
    lines += ["", "Means of flat blocks of 16 x 16 pixels: share within 2 HU, and how far 99 in 100 lie at most:", ""]
    blocks = measured["flat_blocks"]
    lines += table(
        ["", "from the truth", "from the scan"],
        [[label, *(_share(blocks[name], whose) for whose in ("true", "kept"))] for name, label in METHODS.items()],
    )
    lines += ["", "HU minus truth by tissue, mean over patients (mean size over patients):", ""]
    bias = measured["bias_hu"]
    tissues = list(bias["denoiser"])
    lines += table(
        ["tissue", *METHODS.values()],
        [
            [
                tissue,
                *(f"{bias[name][tissue]['mean']:+.2f} ({bias[name][tissue]['mean_absolute']:.2f})" for name in METHODS),
            ]
            for tissue in tissues
        ],
    )
    return "\n".join(lines)


def _bench(measured: Mapping[str, Mapping[str, float]]) -> str:
    lines = ["", "### Bench: a disc of 300 mm at a quarter of the dose, soft kernel", ""]
    lines += table(
        ["", *(label for _, label, _ in BENCH)],
        [
            [label, *(f"{measured[name][key]:.{digits}f}" for key, _, digits in BENCH)]
            for name, label in METHODS.items()
        ],
    )
    return "\n".join(lines)


def _interval(difference: Mapping[str, float], digits: int) -> str:
    return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(*(difference[key] for key in ("mean", "low", "high")), n=digits)


def _share(blocks: Mapping[str, float], whose: str) -> str:
    return f"{100 * blocks[f'{whose}_within_2_hu']:.1f} %, {blocks[f'{whose}_p99_hu']:.1f} HU"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]

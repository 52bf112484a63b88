"""The measured part of the card of thin slices, as Markdown tables written from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.training.dose_card import table

METHODS = {
    "generator": "**this generator**",
    "cubic_kept": "cubic spline, means kept",
    "cubic": "cubic spline",
    "linear": "linear",
    "nearest": "thick slices repeated",
}
METRICS = (
    ("psnr_db", "PSNR, dB", 2),
    ("ssim", "SSIM", 3),
    ("ssim_7x7", "SSIM 7x7", 3),
    ("ssim_sagittal", "SSIM, sagittal", 3),
    ("rmse_hu", "RMSE, HU", 2),
    ("rmse_noise_kept_hu", "RMSE, HU, noise counted as measured", 2),
)
SETS = {
    "held_out": "Held-out patients, drawn as in training",
    "shifted": "Shifted: larger patients, steeper ribs and vessels, lesions four times as often, slices of 6 mm, "
    "a sharper kernel",
}


def thin_sections(metrics: Mapping[str, Any]) -> list[str]:
    """One section for each set of patients, and one for the bench."""
    return [*(_section(title, metrics[name]) for name, title in SETS.items()), _bench(metrics["bench"])]


def _section(title: str, measured: Mapping[str, Any]) -> str:
    columns = [label for _, label, _ in METRICS]
    scores, others = measured["methods"], measured["generator_minus"]
    kept = "mean over a thick slice moved by, HU"
    lines = ["", f"### {title} ({measured['patients']} patients)", ""]
    lines += table(
        ["mean (SD) over patients", *columns, kept],
        [
            [
                label,
                *(f"{scores[name][m]['mean']:.{n}f} ({scores[name][m]['sd']:.{n}f})" for m, _, n in METRICS),
                f"{scores[name]['mean_kept_hu']['mean']:.2f}",
            ]
            for name, label in METHODS.items()
        ],
    )
    lines += ["", "Generator minus baseline, mean and 95 % interval of a paired bootstrap over patients:", ""]
    lines += table(
        ["baseline", *columns],
        [
            [label, *(_interval(others[name][m], digits) for m, _, digits in METRICS)]
            for name, label in METHODS.items()
            if name in others
        ],
    )
    return "\n".join(lines)


def _bench(measured: Mapping[str, Mapping[str, float]]) -> str:
    spheres = [name for name in measured["truth"] if name.startswith("sphere")]
    heads = ["edge across z, 10-90 %, mm", "tilted edge, mm", "plate of 1 mm, height"]
    heads += [f"sphere of {name.split('_')[1]} mm, contrast" for name in spheres]
    lines = ["", "### Bench without noise: edges, a plate, and spheres of 50 HU, as shares of the thin slices", ""]
    lines += table(
        ["", *heads],
        [
            [
                label,
                *(f"{measured[name][width]:.2f}" for width in ("edge_mm", "tilted_edge_mm")),
                *(f"{100 * measured[name][share]:.0f} %" for share in ("plate_share", *spheres)),
            ]
            for name, label in {**METHODS, "truth": "thin slices"}.items()
        ],
    )
    return "\n".join(lines)


def _interval(difference: Mapping[str, float], digits: int) -> str:
    return "{:+.{n}f} [{:+.{n}f}, {:+.{n}f}]".format(*(difference[key] for key in ("mean", "low", "high")), n=digits)

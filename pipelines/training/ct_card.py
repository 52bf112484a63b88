"""The tables of a card of a synthesised CT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.training.dose_card import table

SETS = {
    "held_out": "Held-out patients, drawn as in training",
    "shifted": "Shifted patients: 3 T, another coil, more noise, lesions five times as often",
}
METHODS = {
    "generator": "**this generator**",
    "mr-to-ct-unpaired": "CycleGAN, without pairs",
    "pixel_map": "k-nearest-neighbour map of single pixels",
    "histogram": "histogram matching",
    "linear": "the {source}, scaled by a line",
}
METRICS = (("mae_hu", "MAE in the body, HU", 1), ("psnr_db", "PSNR, dB", 2), ("ssim", "SSIM", 3),
           ("ssim_7x7", "SSIM 7x7", 3), ("bone_dice", "Dice of bone > 150 HU", 3))  # fmt: skip


def ct_sections(metrics: Mapping[str, Any]) -> list[str]:
    """One section for each test set of `metrics`."""
    return [_section(title, metrics[name], metrics["sources"][0]) for name, title in SETS.items()]


def _section(title: str, measured: Mapping[str, Any], source: str) -> str:
    labels = {name: text.format(source=source) for name, text in METHODS.items() if name in measured["methods"]}
    heads = [label for _, label, _ in METRICS]
    lines = ["", f"### {title} ({measured['patients']} patients)", ""]
    lines += table(["mean (SD) over patients", *heads], [
        [label, *(_mean(measured["methods"][name][metric], digits) for metric, _, digits in METRICS)]
        for name, label in labels.items()
    ])  # fmt: skip
    lines += ["", "Generator minus baseline, mean and 95 % interval of a paired bootstrap over patients:", ""]
    lines += table(["baseline", *heads], [
        [label, *(_interval(measured["generator_minus"][name][metric], digits) for metric, _, digits in METRICS)]
        for name, label in labels.items() if name != "generator"
    ])  # fmt: skip
    lines += ["", "HU by tissue, mean (SD) over the patients that show it; r over the same patients:", ""]
    others = [name for name in labels if name in ("mr-to-ct-unpaired", "pixel_map")]
    heads = ["tissue", "patients", "CT", "synthesised", "bias", "mean error", "r"]
    lines += table([*heads, *(f"bias, {labels[name]}" for name in others)], [
        [*_tissue(tissue, reading), *(f"{measured['tissues'][name][tissue]['bias_hu']:+.0f}" for name in others)]
        for tissue, reading in measured["tissues"]["generator"].items()
    ])  # fmt: skip
    return "\n".join(lines)


def _mean(score: Mapping[str, float], digits: int) -> str:
    return f"{score['mean']:.{digits}f} ({score['sd']:.{digits}f})"


def _interval(difference: Mapping[str, float], digits: int) -> str:
    mean, low, high = (f"{difference[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _tissue(name: str, reading: Mapping[str, float]) -> list[str]:
    return [
        name.lower().replace("_", " "),
        f"{reading['patients']}",
        f"{reading['acquired_mean']:.0f} ({reading['acquired_sd']:.0f})",
        f"{reading['synthesised_mean']:.0f} ({reading['synthesised_sd']:.0f})",
        f"{reading['bias_hu']:+.0f}",
        f"{reading['mean_absolute_error']:.0f}",
        f"{reading['correlation']:.2f}",
    ]

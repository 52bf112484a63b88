"""The measured part of a model card, as Markdown tables written from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.training.ct_card import ct_sections
from pipelines.training.dose_card import dose_sections, table
from pipelines.training.fine_card import fine_sections
from pipelines.training.thin_card import thin_sections

START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SETS = {
    "held_out": "Held-out patients, drawn as in training",
    "shifted": "Shifted patients: 3 T, another coil, more noise, lesions five times as often",
}
METHODS = {
    "generator": "**this generator**",
    "pixel_map": "k-nearest-neighbour map of single pixels",
    "histogram": "histogram matching",
    "identity": "identity (the {source} itself)",
}
METRICS = (
    ("mse", "MSE x 1000", 1000.0),
    ("psnr_db", "PSNR, dB", 1.0),
    ("ssim", "SSIM", 1.0),
    ("ssim_7x7", "SSIM 7x7", 1.0),
)


def with_measurements(card: str, metrics: Mapping[str, Any]) -> str:
    """`card` with everything between its two markers replaced by tables of `metrics`.

    Raises ValueError when the card lacks the markers.
    """
    if START not in card or END not in card:
        raise ValueError(f"card: found no {START} and {END}, expected both lines")
    before, after = card.split(START)[0], card.split(END)[1]
    if metrics.get("kind") == "thin-slice":
        sections = thin_sections(metrics)
    elif metrics.get("kind") == "super-resolve":
        sections = fine_sections(metrics)
    elif metrics.get("kind") == "cycle":
        sections = ct_sections(metrics)
    else:
        sections = dose_sections(metrics) if "bench" in metrics else _translation_sections(metrics)
    return "\n".join([before + START, *sections, END + after])


def _translation_sections(metrics: Mapping[str, Any]) -> list[str]:
    source, target = metrics["sources"][-1], metrics["target"]
    labels = {name: label.format(source=source) for name, label in METHODS.items()}
    return [_section(title, metrics[name], labels, target) for name, title in SETS.items() if name in metrics]


def _section(title: str, measured: Mapping[str, Any], labels: Mapping[str, str], target: str) -> str:
    lines = ["", f"### {title} ({measured['patients']} patients)", ""]
    lines += table(
        ["mean (SD) over patients", *(label for _, label, _ in METRICS)], _scores(measured["methods"], labels)
    )
    lines += ["", "Generator minus baseline, mean and 95 % interval of a paired bootstrap over patients:", ""]
    heads = ["baseline", *(label for _, label, _ in METRICS)]
    lines += table(heads, _differences(measured["generator_minus"], labels))
    lines += ["", "What tissues became, mean (SD) over the patients that show them, on the scale of the result:", ""]
    lines += table(
        ["tissue", "patients", f"acquired {target}", "synthesised", "mean error"], _tissues(measured["tissues"])
    )
    return "\n".join(lines)


def _scores(methods: Mapping[str, Any], labels: Mapping[str, str]) -> list[list[str]]:
    def cell(score: Mapping[str, float], scale: float) -> str:
        return f"{score['mean'] * scale:.3f} ({score['sd'] * scale:.3f})"

    return [[label, *(cell(methods[name][m], scale) for m, _, scale in METRICS)] for name, label in labels.items()]


def _differences(baselines: Mapping[str, Any], labels: Mapping[str, str]) -> list[list[str]]:
    def cell(difference: Mapping[str, float], scale: float) -> str:
        return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*(difference[key] * scale for key in ("mean", "low", "high")))

    return [
        [label, *(cell(baselines[name][m], scale) for m, _, scale in METRICS)]
        for name, label in labels.items()
        if name in baselines
    ]


def _tissues(tissues: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name.lower().replace("_", " "),
            f"{reading['patients']}",
            f"{reading['acquired_mean']:.0f} ({reading['acquired_sd']:.0f})",
            f"{reading['synthesised_mean']:.0f} ({reading['synthesised_sd']:.0f})",
            f"{reading['mean_absolute_error']:.0f}",
        ]
        for name, reading in tissues.items()
    ]

"""The tables of the study as Markdown, from its results; the paper's own figures stand beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.metrics.agreement import band, cohen_kappa, kappa_interval
from pipelines.metrics.paired import paired_difference
from pipelines.studies.galbusera.cohort import TASKS, Task
from pipelines.studies.galbusera.methods import GENERATOR

NO_WEIGHTS = "no weights ship"
METRICS = {
    "mse": ("MSE x 1000", 1000.0),
    "psnr_db": ("PSNR, dB", 1.0),
    "ssim": ("SSIM", 1.0),
    "ssim_7x7": ("SSIM 7x7", 1.0),
    "vifp": ("VIFp", 1.0),
    "cpbd": ("CPBD", 1.0),
}
METHODS = {
    "generator": "**the generator that ships**",
    "l1_only": "U-Net by L1 alone",
    "cubic": "cubic",
    "linear": "linear",
    "pixel_map": "k-NN map of single pixels",
    "histogram": "histogram matching",
    "identity": "identity",
    "target": "the target itself",
}
QUESTIONS = {
    "herniations": "number of herniations",
    "l4_l5_disc_disease": "L4-L5 disc disease",
    "l5_s1_disc_disease": "L5-S1 disc disease",
    "l4_s1_modic": "L4-S1 Modic change",
    "l4_s1_modic_looks": "how it looks",
    "vertebrae": "number of vertebrae",
    "fracture": "fracture",
}
# Table 2 of the paper, and the first line of its clinical results
PAPER: Mapping[tuple[str, str], float] = {
    ("t2-super-resolution", "herniations"): 0.691,
    ("t1-to-t2", "l4_l5_disc_disease"): 0.455,
    ("t1-to-t2", "l5_s1_disc_disease"): 0.221,
    ("t1-to-t2", "l4_s1_modic"): 0.406,
    ("t2-to-t1", "l4_l5_disc_disease"): 0.086,
    ("t2-to-t1", "l5_s1_disc_disease"): 0.270,
    ("t2-to-t1", "l4_s1_modic"): 0.286,
    ("t2-to-stir", "l4_l5_disc_disease"): 0.842,
    ("t2-to-stir", "l5_s1_disc_disease"): 1.000,
    ("t2-to-stir", "l4_s1_modic"): 0.592,
    ("t2-to-tirm", "l4_l5_disc_disease"): 0.842,
    ("t2-to-tirm", "l5_s1_disc_disease"): 0.933,
    ("t2-to-tirm", "l4_s1_modic"): 0.691,
    ("xray-to-t2", "vertebrae"): 0.065,
    ("xray-to-t2", "fracture"): 0.051,
}

Results = Mapping[str, Any]


def tables(results: Results) -> dict[str, str]:
    """Every table by its name in the document."""
    return {
        "cohort": _cohort(results["cohort"]),
        "splits": _splits(results),
        "quality": "\n\n".join(_quality(task, results["tasks"][task.id]) for task in TASKS),
        "differences": "\n\n".join(_differences(task, results["tasks"][task.id]) for task in TASKS),
        "order": _order(results),
        "clinical": _clinical(results),
        "examples": _examples(results),
    }


def values_of(measured: Results, method: str, metric: str, beside: str | None = None) -> list[float]:
    """One metric of one method, patient by patient; without those in which it, or that of `beside`, is undefined."""
    needed = [method] if beside is None else [method, beside]
    rows = [[case["scores"].get(name, {}).get(metric) for name in needed] for case in measured["cases"].values()]
    return [row[0] for row in rows if None not in row]


def shipped(measured: Results) -> bool:
    """Whether the generator of a task was there."""
    return measured["weights"][GENERATOR] is not None


def _cohort(cohort: Mapping[str, float]) -> str:
    names = {
        "l4_l5_disc_disease": "Pfirrmann 4 or 5 at L4-L5",
        "l5_s1_disc_disease": "Pfirrmann 4 or 5 at L5-S1",
        "l4_s1_modic": "Modic change between L4 and S1",
        "protrusion": "a lumbar disc protrusion",
        "lumbar_fracture": "a lumbar vertebral fracture",
        "not_five_lumbar": "four or six lumbar vertebrae",
    }
    rows = [["mean age", f"{cohort['age_years']:.1f} years"]]
    rows += [[words, f"{100.0 * cohort[key]:.1f} %"] for key, words in names.items()]
    return table([f"{cohort['patients']} virtual patients", "share"], rows)


def _splits(results: Results) -> str:
    rows = []
    for task in TASKS:
        weights = results["tasks"][task.id]["weights"][GENERATOR]
        model = f"`{task.id}` {weights['version']}" if weights else NO_WEIGHTS
        measured = len(results["tasks"][task.id]["cases"])
        rows.append([task.title, *map(str, task.sizes), str(task.slices), f"{measured}", model])
    return table(["task", "training", "validation", "test", "slices of each", "measured", "model"], rows)


def _quality(task: Task, measured: Results) -> str:
    if not measured["cases"]:
        return f"**{task.title}**: not measured"
    heads = ["mean (SD) over patients", *(label for label, _ in METRICS.values())]
    rows = []
    for method, words in METHODS.items():
        if method == GENERATOR and not shipped(measured):
            rows.append([words, NO_WEIGHTS, *[""] * (len(METRICS) - 1)])
            continue
        cells = [_spread(values_of(measured, method, name), scale) for name, (_, scale) in METRICS.items()]
        refused = sum(method in case["refused"] for case in measured["cases"].values())
        if any(cells):
            rows.append([f"{words}, {refused} refused" if refused else words, *cells])
    return f"**{task.title}**, {len(measured['cases'])} patients\n\n{table(heads, rows)}"


def _differences(task: Task, measured: Results) -> str:
    heads = ["generator minus", *(label for label, _ in METRICS.values())]
    if not shipped(measured) or not measured["cases"]:
        return f"**{task.title}**: {'not measured' if shipped(measured) else NO_WEIGHTS}"
    rows = []
    for method, words in METHODS.items():
        if method in (GENERATOR, "target") or not values_of(measured, method, "mse"):
            continue
        cells = []
        for name, (_, scale) in METRICS.items():
            one, other = values_of(measured, GENERATOR, name, method), values_of(measured, method, name, GENERATOR)
            cells.append(_difference(one, other, scale) if len(one) > 1 else "–")
        rows.append([words, *cells])
    return f"**{task.title}**\n\n{table(heads, rows)}"


def _order(results: Results) -> str:
    """Medians over patients of the translations, the best on top, beside the paper's order."""
    expected = ["t1-to-t2", "t2-to-t1", "t2-to-tirm", "t2-to-stir", "xray-to-t2"]
    rows = []
    for task in TASKS[1:]:
        measured = results["tasks"][task.id]
        place = {"t1-to-t2": "1-2", "t2-to-t1": "1-2"}.get(task.id, str(expected.index(task.id) + 1))
        if not shipped(measured) or not measured["cases"]:
            words = "not measured" if shipped(measured) else NO_WEIGHTS
            rows.append((math.inf, [task.title, place, words, "", ""]))
            continue
        quartiles = [_quartiles(values_of(measured, GENERATOR, name), name) for name in ("mse", "psnr_db", "ssim")]
        rows.append((float(np.median(values_of(measured, GENERATOR, "mse"))), [task.title, place, *quartiles]))
    heads = ["median (quartiles)", "place in the paper", "MSE x 1000", "PSNR, dB", "SSIM"]
    return table(heads, [row for _, row in sorted(rows, key=lambda one: one[0])])


def _clinical(results: Results) -> str:
    heads = [
        "task", "question", "paper", "**generator and target**", "U-Net by L1", "k-NN map", "target and truth",
        "found in target, generator",
    ]  # fmt: skip
    rows = []
    for task in TASKS:
        measured = results["tasks"][task.id]
        cases = list(measured["cases"].values())
        for question in cases[0]["answers"]["target"] if cases else ():
            paper = PAPER.get((task.id, question))
            cells = ["" if paper is None else f"{paper:.3f} ({band(paper)})"]
            for method in (GENERATOR, "l1_only", "pixel_map"):
                if method == GENERATOR and not shipped(measured):
                    cells.append(NO_WEIGHTS)
                else:
                    cells.append(kappa_words(measured, question, method, "target"))
            cells.append(kappa_words(measured, question, "target", "truth"))
            cells.append(", ".join(_found(measured, question, method) for method in ("target", GENERATOR)))
            rows.append([task.title, QUESTIONS[question], *cells])
    return table(heads, rows)


def _examples(results: Results) -> str:
    """The pictures of example cases that there are."""
    shown = [task for task in TASKS if shipped(results["tasks"][task.id]) and results["tasks"][task.id]["cases"]]
    return "\n\n".join(f"![{task.title}: input, output and target of six cases]({task.id}.png)" for task in shown)


def kappa_words(measured: Results, question: str, one: str, other: str) -> str:
    """Kappa of two readings with its interval and its band; empty where a reading is missing."""
    every = [case["answers"] for case in measured["cases"].values()]
    cases = [case for case in every if one in case and other in case]
    if not cases:
        return ""
    answers = [case[one][question] for case in cases], [case[other][question] for case in cases]
    kappa = round(cohen_kappa(*answers), 3) + 0.0  # no minus before a zero
    if math.isnan(kappa):
        return "undefined: one answer to all"
    low, high = (round(bound, 2) + 0.0 for bound in kappa_interval(*answers))
    return f"{kappa:.3f} ({band(kappa)}) [{low:.2f}, {high:.2f}]"


def _found(measured: Results, question: str, method: str) -> str:
    """How often a reader says yes, or the mean of what is counted."""
    answers = [case["answers"][method][question] for case in measured["cases"].values() if method in case["answers"]]
    if not answers:
        return "–"
    if isinstance(answers[0], bool):
        return f"{sum(answers)} of {len(answers)}"
    if isinstance(answers[0], int):
        return f"mean {np.mean(answers):.2f}"
    return " / ".join(f"{answers.count(look)} {look}" for look in ("bright", "dark") if look in answers) or "none"


def _spread(values: Sequence[float], scale: float) -> str:
    if not values:
        return ""
    return f"{scale * np.mean(values):.3f} ({scale * np.std(values, ddof=min(1, len(values) - 1)):.3f})"


def _quartiles(values: Sequence[float], metric: str) -> str:
    low, middle, high = METRICS[metric][1] * np.percentile(values, [25, 50, 75])
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


def _difference(one: Sequence[float], other: Sequence[float], scale: float) -> str:
    found = paired_difference(one, other)
    return f"{scale * found.mean:+.3f} [{scale * found.low:+.3f}, {scale * found.high:+.3f}]"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

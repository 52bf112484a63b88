"""What a released model brings beside its weights: its card, its measured results, and whether its files are intact."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.catalog import released_weights
from pipelines.errors import WeightsError
from pipelines.spec import PipelineSpec

CARD, METRICS = "card.md", "metrics.json"

_LOOKED_AT: dict[tuple[str, str, int, int], str | None] = {}  # file, digest, time and size -> what is wrong


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """Results of one set of data: a row for each method, the model first and then its baselines.

    `cells` are texts in the order of `metrics`; `spread` says what stands behind the plus-minus or in the brackets.
    """

    data: str
    spread: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def card_of(spec: PipelineSpec) -> str:
    """The model card, Markdown; empty when there is none."""
    try:
        return (spec.path / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def digest_problem(spec: PipelineSpec) -> str | None:
    """What is wrong with the weights file; None when it is the released one, byte for byte.

    A file that was not touched since the last look is not read again.
    """
    try:
        stat = spec.weights_path.stat()
    except OSError as error:
        return f"{spec.weights_path}: cannot be read ({error.strerror}); install the model again"
    key = (str(spec.weights_path), spec.generator.sha256, stat.st_mtime_ns, stat.st_size)
    if key not in _LOOKED_AT:
        _LOOKED_AT[key] = _verified(spec)
    return _LOOKED_AT[key]


def _verified(spec: PipelineSpec) -> str | None:
    try:
        released_weights(spec)
    except WeightsError as error:
        return str(error)
    return None


def metrics_of(spec: PipelineSpec) -> tuple[MetricsTable, ...]:
    """The tables of ``metrics.json``; none when there is none or it has another form."""
    try:
        content = json.loads((spec.path / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    if not isinstance(content, dict):
        return ()
    return tuple(
        table
        for name, data in content.items()
        if isinstance(data, dict) and isinstance(data.get("methods"), dict)
        for table in _tables(name, data)
    )


def _tables(name: str, data: Mapping[str, Any]) -> Iterator[MetricsTable]:
    about = f"{_plain(name)} data, {data.get('patients', 'unknown number of')} patients"
    if "dose" in data:
        about += f", {data['dose']:g} of the dose"
    yield _table(about, "mean ± SD over patients", data["methods"], lambda one: f"{one['mean']:.4g} ± {one['sd']:.2g}")
    for key, differences in data.items():
        if key.endswith("_minus") and isinstance(differences, dict):
            yield _table(
                f"{about}: {_plain(key.removesuffix('_minus'))} minus baseline",
                "mean difference [95 % interval]",
                differences,
                lambda one: f"{one['mean']:+.3g} [{one['low']:+.3g}, {one['high']:+.3g}]",
            )


def _table(data: str, spread: str, methods: Mapping[str, Any], words: Any) -> MetricsTable:
    metrics = tuple(next(iter(methods.values()), {}))
    rows = tuple(
        (_plain(method), tuple(_cell(values.get(metric), words) for metric in metrics))
        for method, values in methods.items()
    )
    return MetricsTable(data, spread, tuple(map(_plain, metrics)), rows)


def _cell(value: Any, words: Any) -> str:
    try:
        return str(words(value))
    except (KeyError, TypeError, ValueError):  # a metric of another form
        return "–"


def _plain(name: str) -> str:
    return name.replace("_", " ")

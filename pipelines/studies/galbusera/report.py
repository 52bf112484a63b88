"""Writes the study down: tables into README.md between markers, box plots and example cases beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.catalog import Catalog
from pipelines.studies.galbusera.cases import scan
from pipelines.studies.galbusera.cohort import TASKS
from pipelines.studies.galbusera.figures import draw_boxes, draw_examples
from pipelines.studies.galbusera.methods import generator_of
from pipelines.studies.galbusera.study import Progress
from pipelines.studies.galbusera.tables import shipped, tables

README = "README.md"
EXAMPLES = 6
EMPTY = """# Galbusera et al. 2018 on virtual patients

## Who was measured

{cohort}

{splits}

## Image quality

{quality}

{order}

{differences}

## The virtual reader

{clinical}

## Examples

{examples}
"""


def write(out: Path, results: dict[str, Any], catalog: Catalog, progress: Progress) -> None:
    """README.md, translation.png, super-resolution.png and one picture of example cases for each task in `out`.

    Only what stands between the markers of README.md is replaced; a new one has no prose.
    """
    path = out / README
    text = path.read_text(encoding="utf-8") if path.exists() else empty()
    path.write_text(with_tables(text, tables(results)), encoding="utf-8")
    draw_boxes(results, out)
    for done, task in enumerate(TASKS):
        progress("pictures", done, len(TASKS))
        measured = results["tasks"][task.id]
        if shipped(measured) and measured["cases"]:
            generator = generator_of(task, catalog)
            cases = [scan(task, int(seed)) for seed in list(measured["cases"])[:EXAMPLES]]
            draw_examples([(case.source, generator(case), case.target) for case in cases], out / f"{task.id}.png")


def empty() -> str:
    """A document with the markers and without prose."""
    names = ("cohort", "splits", "quality", "order", "differences", "clinical", "examples")
    return EMPTY.format(**{name: "\n".join(_markers(name)) for name in names})


def with_tables(document: str, found: dict[str, str]) -> str:
    """`document` with each table between its two markers; raises ValueError that names markers that are missing."""
    for name, content in found.items():
        begin, end = _markers(name)
        if document.count(begin) != 1 or document.count(end) != 1:
            raise ValueError(f"{README}: found no {begin} and {end}, expected each line once")
        before, rest = document.split(begin)
        document = f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    return document


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"

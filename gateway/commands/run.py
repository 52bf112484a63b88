"""``athanor run``: a folder of DICOM in, a folder of synthetic DICOM out; no service, no database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, err, say
from gateway.dicom.header import read_attributes
from gateway.dicom.loop_guard import find_marks
from gateway.dicom.provenance import (
    digest_of,
    encoding_of,
    equipment_of,
    marks_of,
    own_identity,
    require_fit,
    series_number_of,
)
from gateway.dicom.secondary_capture import DerivedInstance, derive_series
from gateway.dicom.volume import SourceSeries, read_series
from gateway.dicom.volume_inputs import on_one_grid
from gateway.errors import DicomError, NotDicom, UnsuitableSeries
from gateway.settings import Destination, Settings
from pipelines.catalog import Catalog
from pipelines.errors import Unsuitable

if TYPE_CHECKING:
    from pipelines.result import Pipeline
    from pipelines.spec import PipelineSpec

_FOLDER = Destination(ae_title="FOLDER", host="localhost", port=104)


def run(
    pipeline: Annotated[str, typer.Argument(help="id of a pipeline, such as t2-to-stir")],
    in_dir: Annotated[Path, typer.Argument(help="folder of DICOM files, searched through", exists=True)],
    out_dir: Annotated[Path, typer.Argument(help="folder for the derived series; one folder each")],
    json: Json = False,
) -> None:
    """Run one pipeline on every series in a folder, or on every study when it takes several series of one.

    Exit code 1 when something was refused.
    """
    settings = console.sound_settings()
    catalog = Catalog.read(settings.models_dir)
    if pipeline not in catalog:
        console.fail(
            f"found no pipeline {pipeline!r}; expected one of: {', '.join(catalog) or 'none'}", console.NOT_FOUND
        )
    spec = catalog[pipeline]
    found = _found(in_dir, by="SeriesInstanceUID" if len(spec.inputs) == 1 else "StudyInstanceUID")
    if not found:
        console.fail(f"found no DICOM file in {in_dir}; expected Part 10 files", console.NOT_FOUND)
    with console.progress() as progress:
        bar = progress.add_task(f"loading {spec.id}", total=None)
        loaded = _load(spec, settings)
        report = []
        for what, series in found.items():
            files = sum(map(len, series))
            progress.update(bar, description=f"{files} files", completed=0, total=files)

            def advance(done: int, of: int) -> None:
                progress.update(bar, completed=done, total=of)

            def make(series: list[list[Path]] = series) -> list[DerivedInstance]:
                return synthesise(loaded, _sources(spec, series, settings), settings, advance)

            report.append(_run_one(what, make, out_dir))
    if json:
        console.show_json(report)
    else:
        for one in report:
            if one["refused"]:
                say(f"refused {one['series']}: {one['refused']}", mark=CROSS)
            else:
                say(f"{one['instances']} instances in {one['seconds']} s: {one['folder']}", mark=TICK)
    if any(one["refused"] for one in report):
        raise typer.Exit(console.FAILED)


def _load(spec: PipelineSpec, settings: Settings) -> Pipeline:
    from gateway.services.models import Models  # loads torch

    return Models(settings.process, 0, settings.runtimes_file).load(spec)


def _found(folder: Path, by: str) -> dict[str, list[list[Path]]]:
    """The series in a folder, each its files, by the UID `by`; what is not DICOM is named and left out."""
    found: dict[str, dict[str, list[Path]]] = {}
    for file in console.files_below(folder):
        try:
            lookup = read_attributes(file).lookup
        except NotDicom:
            say(f"not DICOM, left out: {file}", to=err)
            continue
        uid, key = lookup("SeriesInstanceUID"), lookup(by)
        if uid and key:
            found.setdefault(str(key[0]), {}).setdefault(str(uid[0]), []).append(file)
        else:
            say(f"no {'Series' if not uid else 'Study'} Instance UID, left out: {file}", to=err)
    return {key: list(series.values()) for key, series in found.items()}


def _sources(spec: PipelineSpec, series: list[list[Path]], settings: Settings) -> dict[str, SourceSeries]:
    """The series by role, the one that gives the grid first. Raises DicomError."""
    if len(spec.inputs) > 1:
        return _by_role(spec, series, settings)
    (paths,) = series
    source = _read(paths, settings)
    require_fit(spec, source)
    return {spec.inputs[0].role: source}


def _run_one(what: str, make: Callable[[], list[DerivedInstance]], out_dir: Path) -> dict[str, object]:
    """What became of one result, in the words of the report; `what` names its source."""
    started = time.perf_counter()
    refused, folder, instances = None, None, []
    try:
        instances = make()
    except (DicomError, Unsuitable) as error:
        refused = str(error)
    else:
        folder = out_dir / instances[0].series_instance_uid
        folder.mkdir(parents=True, exist_ok=True)
        for number, instance in enumerate(instances, 1):
            (folder / f"{number:04d}.dcm").write_bytes(instance.part10)
    return {
        "series": what,
        "refused": refused,
        "folder": str(folder) if folder else None,
        "instances": len(instances),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _read(paths: list[Path], settings: Settings) -> SourceSeries:
    """The series in `paths`, if it was acquired. Raises DicomError."""
    own = own_identity(settings)
    for path in paths:
        reason = find_marks(read_attributes(path), own, lambda _: False)
        if reason is not None:
            raise UnsuitableSeries("synthetic", reason, "an acquired series", "choose the source series")
    return read_series(paths, limit_bytes=settings.process.max_series_bytes)


def _by_role(spec: PipelineSpec, series: list[list[Path]], settings: Settings) -> dict[str, SourceSeries]:
    """The series of one study by the roles that they fit, the one that gives the grid first.

    Of several that fit a role the one with the highest Series Number is taken: what is repeated comes later. Raises
    UnsuitableSeries with the reason of each series when a role stays empty.
    """
    found: dict[str, SourceSeries] = {}
    why_not: dict[str, list[str]] = {contract.role: [] for contract in spec.inputs}
    for paths in series:
        try:
            source = _read(paths, settings)
        except DicomError as error:
            for reasons in why_not.values():
                reasons.append(str(error))
            continue
        number = series_number_of(source)
        for role, reasons in why_not.items():
            try:
                require_fit(spec, source, role)
            except UnsuitableSeries as error:
                reasons.append(f"series {number}: {error}")
                continue
            if role not in found or series_number_of(found[role]) < number:
                found[role] = source
            break
    for role, reasons in why_not.items():
        if role not in found:
            raise UnsuitableSeries("inputs", f"no series for {role} ({'; '.join(reasons) or 'none left'})", "one")
    return {role: found[role] for role in sorted(found, key=lambda role: role != spec.grid_role)}


def synthesise(
    pipeline: Pipeline, sources: Mapping[str, SourceSeries], settings: Settings, progress: Callable[[int, int], None]
) -> list[DerivedInstance]:
    """The derived instances of the series in `sources`, by role. Raises DicomError and Unsuitable."""
    grid, *others = sources.values()
    result = pipeline(on_one_grid(sources), progress)
    return list(
        derive_series(
            grid, result.volume, marks_of(pipeline.spec), encoding_of(_FOLDER, settings), equipment_of(settings),
            uid_root=settings.node.uid_root, revision=1, options_digest=digest_of({}),
            series_number=max(series_number_of(grid), 0) * 100 + 1, created=datetime.now(UTC).astimezone(),
            others=others,
        )
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("run")(run)

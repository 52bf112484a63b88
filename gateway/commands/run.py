"""``athanor run``: a folder of DICOM in, a folder of synthetic DICOM out; no service, no database."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from gateway.dicom.volume import read_series
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
    """Run one pipeline on every series in a folder. Exit code 1 when a series was refused."""
    settings = console.sound_settings()
    catalog = Catalog.read(settings.models_dir)
    if pipeline not in catalog:
        console.fail(
            f"found no pipeline {pipeline!r}; expected one of: {', '.join(catalog) or 'none'}", console.NOT_FOUND
        )
    series = _by_series(in_dir)
    if not series:
        console.fail(f"found no DICOM file in {in_dir}; expected Part 10 files", console.NOT_FOUND)
    spec = catalog[pipeline]
    with console.progress() as progress:
        bar = progress.add_task(f"loading {spec.id}", total=None)
        loaded = _load(spec, settings)
        report = []
        for uid, paths in series.items():
            progress.update(bar, description=f"series of {len(paths)} files", completed=0, total=len(paths))

            def advance(done: int, of: int) -> None:
                progress.update(bar, completed=done, total=of)

            report.append(_run_one(loaded, uid, paths, out_dir, settings, advance))
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

    return Models(settings.process, 0).load(spec)


def _by_series(folder: Path) -> dict[str, list[Path]]:
    """The DICOM files of a folder by Series Instance UID; what is not DICOM is named and left out."""
    found: dict[str, list[Path]] = {}
    for file in console.files_below(folder):
        try:
            uid = read_attributes(file).lookup("SeriesInstanceUID")
        except NotDicom:
            say(f"not DICOM, left out: {file}", to=err)
            continue
        if uid:
            found.setdefault(str(uid[0]), []).append(file)
        else:
            say(f"no Series Instance UID, left out: {file}", to=err)
    return found


def _run_one(
    pipeline: Pipeline,
    uid: str,
    paths: list[Path],
    out_dir: Path,
    settings: Settings,
    progress: Callable[[int, int], None],
) -> dict[str, object]:
    """What became of one series, in the words of the report."""
    started = time.perf_counter()
    refused, folder, instances = None, None, []
    try:
        instances = synthesise(pipeline, paths, settings, progress)
    except (DicomError, Unsuitable) as error:
        refused = str(error)
    else:
        folder = out_dir / instances[0].series_instance_uid
        folder.mkdir(parents=True, exist_ok=True)
        for number, instance in enumerate(instances, 1):
            (folder / f"{number:04d}.dcm").write_bytes(instance.part10)
    return {
        "series": uid,
        "refused": refused,
        "folder": str(folder) if folder else None,
        "instances": len(instances),
        "seconds": round(time.perf_counter() - started, 2),
    }


def synthesise(
    pipeline: Pipeline, paths: list[Path], settings: Settings, progress: Callable[[int, int], None]
) -> list[DerivedInstance]:
    """The derived instances of the one series in `paths`. Raises DicomError and Unsuitable."""
    own = own_identity(settings)
    for path in paths:
        reason = find_marks(read_attributes(path), own, lambda _: False)
        if reason is not None:
            raise UnsuitableSeries("synthetic", reason, "an acquired series", "choose the source series")
    source = read_series(paths, limit_bytes=settings.process.max_series_bytes)
    require_fit(pipeline.spec, source)
    result = pipeline({pipeline.spec.inputs[0].role: source.volume}, progress)
    return list(
        derive_series(
            source, result.volume, marks_of(pipeline.spec), encoding_of(_FOLDER, settings), equipment_of(settings),
            uid_root=settings.node.uid_root, revision=1, options_digest=digest_of({}),
            series_number=max(series_number_of(source), 0) * 100 + 1, created=datetime.now(UTC).astimezone(),
        )
    )  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command("run")(run)

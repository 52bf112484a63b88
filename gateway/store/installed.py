"""Installed pipelines: what each is and takes, whether it may be used, which workers hold it, and how its jobs end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from pydicom.uid import UID
from sqlalchemy.engine import Connection

from gateway.domain.states import JobState
from gateway.settings import Settings
from gateway.store import heartbeats, rulebook, self_tests, switches
from gateway.store.database import now
from gateway.store.health import STALE_AFTER_S
from gateway.store.tables import job
from pipelines.catalog import Catalog
from pipelines.contract import InputContract
from pipelines.released import card_of, digest_problem, metrics_of
from pipelines.spec import KINDS, PipelineSpec

LATELY_DAYS = 7
_A_DAY_S = 86_400.0
_REFUSALS_READ, _REASONS_SHOWN = 1000, 8

Row = dict[str, Any]


def pipelines(connection: Connection, settings: Settings) -> list[Row]:
    """Every pipeline of the catalog, by id. Raises ManifestError when a manifest does not fit."""
    catalog = Catalog.read(settings.models_dir)
    off, tests = switches.disabled(connection), self_tests.latest(connection)
    beats, jobs = heartbeats.all_of(connection), _jobs_lately(connection)
    versions = rulebook.active(connection)
    return [
        {
            "id": spec.id,
            "version": spec.version,
            "title": spec.title,
            "summary": spec.summary,
            "enabled": spec.enabled and spec.id not in off,
            "enabled_in_manifest": spec.enabled,
            "switch": asdict(off[spec.id]) if spec.id in off else None,
            "sha256": spec.generator.sha256,
            "digest_problem": digest_problem(spec),
            "workers": list(_workers(spec, beats)),
            "rules": [
                {"name": one.rule.name, "version": one.version, "enabled": one.rule.enabled}
                for one in versions
                if one.rule.pipeline == spec.id
            ],
            "jobs": jobs.get(spec.id, {}),
            "self_test": tests.get(spec.id),
        }
        for spec in catalog.values()
    ]


def pipeline(connection: Connection, settings: Settings, pipeline_id: str) -> Row | None:
    """One pipeline with its manifest, card, metrics and the reasons of refusals; None when there is none."""
    row = next((one for one in pipelines(connection, settings) if one["id"] == pipeline_id), None)
    if row is None:
        return None
    spec = Catalog.read(settings.models_dir)[pipeline_id]
    return row | {
        "facts": list(_facts(spec)),
        "inputs": [{"role": contract.role, "needs": list(_needs(contract))} for contract in spec.inputs],
        "intended_use": spec.intended_use,
        "caution": spec.caution,
        "refusals": _refusals(connection, pipeline_id),
        "metrics": [asdict(table) for table in metrics_of(spec)],
        "card": card_of(spec),
    }


def _workers(spec: PipelineSpec, beats: list[heartbeats.Heartbeat]) -> Iterator[Row]:
    for beat in beats:
        if "pipelines" in beat.detail:
            held = beat.detail["pipelines"].get(spec.id, {})
            yield {
                "process": beat.process,
                "alive": beat.age_s < STALE_AFTER_S,
                "device": beat.detail.get("device", ""),
                "version": held.get("version"),
                "loaded": held.get("loaded", False),
                "warm": held.get("warm", False),
                "seconds": held.get("seconds"),
                "runtime": held.get("runtime"),
                "error": held.get("error"),
            }


def _jobs_lately(connection: Connection) -> dict[str, dict[str, int]]:
    rows = connection.execute(
        sa.select(job.c.pipeline_id, job.c.state, sa.func.count().label("jobs"))
        .where(job.c.created_at > now() - LATELY_DAYS * _A_DAY_S)
        .group_by(job.c.pipeline_id, job.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.pipeline_id, {})[row.state] = row.jobs
    return found


def _refusals(connection: Connection, pipeline_id: str) -> list[Row]:
    """The most frequent reasons of the last days, each with how often and how the latest one was worded."""
    words = connection.execute(
        sa.select(job.c.error)
        .where(
            job.c.pipeline_id == pipeline_id,
            job.c.created_at > now() - LATELY_DAYS * _A_DAY_S,
            job.c.state == JobState.REFUSED,
        )
        .order_by(job.c.created_at.desc())
        .limit(_REFUSALS_READ)
    ).scalars()
    latest: dict[str, str] = {}
    often: Counter[str] = Counter()
    for error in words:
        check = str(error or "no reason").partition(": found ")[0]
        often[check] += 1
        latest.setdefault(check, str(error or ""))
    return [
        {"check": check, "jobs": number, "latest": latest[check]} for check, number in often.most_common(_REASONS_SHOWN)
    ]


def _facts(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    """What the manifest says of the model, in words."""
    low, high = spec.output.range
    fixed = spec.intensity.hu if KINDS[spec.kind] == "hu" else spec.intensity.window
    first, last = fixed or spec.intensity.percentiles
    yield "Kind", f"{spec.kind}, {spec.method}"
    unit = "of arbitrary signal" if spec.output.unit == "1" else spec.output.unit
    yield "Gives", f"{spec.output.modality} {spec.output.contrast}, {low:g} to {high:g} {unit}"
    yield "Marked in Series Description", spec.output.marker
    yield "Grid", f"{spec.geometry.pixel_spacing_mm:g} mm in-plane, within {spec.geometry.tolerance:.0%} not resampled"
    scale = "by percentiles of the series" if fixed is None else "HU" if KINDS[spec.kind] == "hu" else "as stored"
    yield "Scaled from", f"{first:g} to {last:g} {scale}"
    parameters = ", ".join(f"{key} {value}" for key, value in spec.generator.parameters.items())
    yield "Generator", f"{spec.generator.architecture} ({parameters})"
    yield "Licence", spec.licence


def _needs(contract: InputContract) -> Iterator[tuple[str, str]]:
    """What a series has to be, in words; what the contract leaves open is left out."""
    lists: Mapping[str, tuple[str, ...]] = {
        "SOP class": tuple(UID(uid).name for uid in contract.sop_classes),
        "Plane": contract.planes,
        "Body part, when named": contract.body_parts,
        "Scanning sequence, one of": contract.scanning_sequences,
        "Image Type without": contract.refused_image_types,
        "Series Description without": contract.description.contradicts,
    }
    yield "Modality", contract.modality
    yield from ((name, ", ".join(values)) for name, values in lists.items() if values)
    for name in ("inversion", "fat_suppression", "contrast_agent"):
        if (presence := getattr(contract, name)).value != "accepted":
            yield name.replace("_", " ").capitalize(), presence.value
    for name, allowed in contract.ranges.items():
        lenient = ", or unknown" if name in contract.may_be_missing else ""
        yield _quantity(name), f"{allowed}{lenient}"


def _quantity(name: str) -> str:
    """``tr_ms`` as ``TR, ms``."""
    for unit in ("ms", "mm", "years"):
        if name.endswith(f"_{unit}"):
            words = name.removesuffix(f"_{unit}").replace("_", " ")
            return f"{words.upper() if len(words) == 2 else words.capitalize()}, {unit}"
    return name.replace("_", " ").capitalize()

"""Who makes a result and how: the settings and the manifest turned into what the writer of derived series takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from gateway.dicom.encoding import Encoding
from gateway.dicom.loop_guard import OwnIdentity
from gateway.dicom.marks import Equipment, Marks
from gateway.dicom.volume import SourceSeries
from gateway.domain.uids import check_root
from gateway.errors import ConfigurationError, UnsuitableSeries
from gateway.settings import Destination, Settings
from pipelines.spec import PipelineSpec


def require_sound(settings: Settings) -> Settings:
    """`settings`, after what only the writer of derived series can judge; raises ConfigurationError."""
    check_root(settings.node.uid_root)
    equipment_of(settings)
    for name, destination in settings.destinations.items():
        try:
            encoding_of(destination, settings)
        except ConfigurationError as error:
            raise ConfigurationError(f"destinations.{name}: {error}") from error
    return settings


def require_fit(spec: PipelineSpec, source: SourceSeries, role: str | None = None) -> None:
    """Raise UnsuitableSeries with every point in which a series does not fit the input contract of `spec`.

    `role` is the input that it is for; the only one of a pipeline with one need not be named.
    """
    if not spec.enabled:
        raise UnsuitableSeries(
            "pipeline", f"{spec.id}, which is disabled", "an enabled one", "enable it in its manifest"
        )
    contract = spec.input(role) if role else spec.inputs[0]
    violations = contract.check(source.facts)
    if not violations:
        return
    of = f"{contract.role}: " if len(spec.inputs) > 1 else ""
    advice = "; ".join(dict.fromkeys(violation.advice for violation in violations if violation.advice))
    if len(violations) == 1:
        raise UnsuitableSeries(of + violations[0].check, violations[0].found, violations[0].expected, advice)
    raise UnsuitableSeries(
        f"{of}{len(violations)} points of the input contract of {spec.id}",
        ", ".join(f"{violation.check} {violation.found}" for violation in violations),
        ", ".join(f"{violation.check} {violation.expected}" for violation in violations),
        advice,
    )


def marks_of(spec: PipelineSpec) -> Marks:
    """The marks of everything that `spec` makes."""
    return Marks(
        pipeline_id=spec.id,
        pipeline_version=spec.version,
        method=spec.method,
        contrast=spec.output.contrast,
        marker=spec.output.marker,
        weights_sha256=spec.generator.sha256,
        modality=spec.output.modality,
        value_range=spec.output.range,
        caution=spec.caution,
    )


def equipment_of(settings: Settings) -> Equipment:
    """This gateway, as derived instances name it."""
    node = settings.node
    return Equipment(
        manufacturer=node.manufacturer,
        model_name=node.model_name,
        software_version=version("athanor"),
        station_name=node.station_name,
        serial_number=node.serial_number,
        institution_name=node.institution_name,
    )


def own_identity(settings: Settings) -> OwnIdentity:
    """How the loop guard recognises what this gateway made."""
    node = settings.node
    return OwnIdentity(node.uid_root, node.manufacturer, node.model_name, node.series_prefix)


def encoding_of(destination: Destination, settings: Settings) -> Encoding:
    """How a destination wants its results."""
    return Encoding(
        iod=destination.iod,
        transfer_syntax_uid=destination.transfer_syntax,
        modality=destination.modality,
        label=destination.label,
        series_prefix=settings.node.series_prefix,
        content_qualification=settings.node.content_qualification,
    )


def digest_of(options: Mapping[str, Any]) -> str:
    """One word for a rule's options, for the UIDs of what they made."""
    return sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def series_number_of(source: SourceSeries) -> int:
    """Series Number of the source, 0 when it has none."""
    return int(source.frames[0].ds.get("SeriesNumber") or 0)

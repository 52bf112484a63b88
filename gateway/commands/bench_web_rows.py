"""A database full of made-up rows for ``athanor bench web``: studies over months and everything that became of them.

No name, number or UID in it is anybody's. The same figures give the same rows, but for the moment at which they end.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, SecondaryCaptureImageStorage

from gateway.commands.bench_web_beside import DESTINATIONS, Rows, beside
from gateway.domain.conditions import AssociationFacts
from gateway.domain.rules import Rule, Selection, select
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.store import rulebook, tables
from gateway.store.database import Database
from gateway.store.rules_file import parse_rules

_LARGE_STUDY, _MANY_SERIES = 2000, 40  # instances of the largest study, series of the one with the most

SPAN_S = 90 * 86_400.0
_ROWS_A_TRANSACTION = 20_000
_SCANNERS = tuple((f"{kind}{number}", f"192.0.2.{at}") for at, (kind, number) in enumerate(
    [("MR", n) for n in range(1, 7)] + [("CT", n) for n in range(1, 5)], 1))  # fmt: skip
_FAMILIES = ("Adler", "Birke", "Dorn", "Esche", "Falke", "Ginster", "Hasel", "Iltis", "Kranich", "Linde", "Marder",
             "Nessel", "Otter", "Pappel", "Quitte", "Reiher", "Schlehe", "Tanne", "Ulme", "Weide")  # fmt: skip
_GIVEN = ("Ada", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gil", "Hana", "Ida", "Jon", "Kim", "Lou", "Mia", "Noa", "Ole")
_RULES = """
[[rules]]
name = "rule-{number}"
description = "A rule of the bench, number {number}."
pipeline = "t2-to-stir"
destinations = ["pacs"]
enabled = {enabled}
[rules.when]
all = [
    {{ attribute = "Modality", equals = "MR" }},
    {{ attribute = "EchoTime", between = [{least}, {most}] }},
    {{ attribute = "SeriesDescription", contains = "{words}" }},
]
"""
_HEADERS: Mapping[str, tuple[str, str | float]] = {
    "SpecificCharacterSet": ("CS", "ISO_IR 100"), "ImageType": ("CS", "ORIGINAL"), "Modality": ("CS", "MR"),
    "Manufacturer": ("LO", "BENCH"), "ManufacturerModelName": ("LO", "BENCH 3T"), "StationName": ("SH", "ROOM 1"),
    "StudyDescription": ("LO", "LUMBAR SPINE"), "SeriesDescription": ("LO", "T2 TSE SAG"),
    "BodyPartExamined": ("CS", "LSPINE"), "ScanningSequence": ("CS", "SE"), "SequenceVariant": ("CS", "SK"),
    "MRAcquisitionType": ("CS", "2D"), "SliceThickness": ("DS", 4.0), "RepetitionTime": ("DS", 3000.0),
    "EchoTime": ("DS", 100.0), "NumberOfAverages": ("DS", 2.0), "ImagingFrequency": ("DS", 123.2),
    "MagneticFieldStrength": ("DS", 3.0), "SpacingBetweenSlices": ("DS", 4.4), "EchoTrainLength": ("IS", 17),
    "PixelBandwidth": ("DS", 260.0), "SoftwareVersions": ("LO", "BENCH 1"), "ProtocolName": ("LO", "T2 SAG"),
    "FlipAngle": ("DS", 150.0), "PatientPosition": ("CS", "HFS"), "SamplesPerPixel": ("US", 1), "Rows": ("US", 256),
    "PhotometricInterpretation": ("CS", "MONOCHROME2"), "Columns": ("US", 256), "BitsAllocated": ("US", 16),
    "BitsStored": ("US", 12), "HighBit": ("US", 11), "PixelRepresentation": ("US", 0),
}  # fmt: skip


State = TypeVar("State", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class _Study:
    """What all series of one study share."""

    number: int
    uid: str
    at: float
    scanner: tuple[str, str]


class Filling:
    """Makes `studies` studies with `instances` instances in all; some are received or worked on at this moment."""

    def __init__(self, database: Database, instances: int, studies: int) -> None:
        self._database = database
        self._instances, self._studies = instances, studies
        self._random = random.Random(20)  # noqa: S311 - it draws shapes, no secrets
        self._series_id = self._derived_id = 0
        self._rules: list[rulebook.Version] = []
        self._tried: dict[bool, Selection] = {}

    def fill(self, advance: Callable[[int], None]) -> None:
        """Fill an empty database; `advance` hears of instances that were added."""
        with self._database.write() as connection:
            for version in range(8):  # every rule has a history
                rulebook.apply(connection, _rules(version), author="bench", reason=f"version {version}")
            self._rules = rulebook.active(connection)
        sender = AssociationFacts("MR1", "ATHANOR", "192.0.2.1")
        rules = [version.rule for version in self._rules]
        for is_wanted, words in ((True, "T2 TSE SAG"), (False, "LOCALIZER")):
            header: dict[str, tuple[str | float, ...]] = {key: (value,) for key, (_, value) in _HEADERS.items()}
            self._tried[is_wanted] = select(rules, {**header, "SeriesDescription": (words,)}.get, sender)
        self._add(beside(self._studies, SPAN_S))
        rows: Rows = defaultdict(list)
        for number, size in enumerate(self._sizes()):
            self._add_study(rows, number, size)
            if len(rows["instance"]) >= _ROWS_A_TRANSACTION or number == self._studies - 1:
                advance(len(rows["instance"]))
                self._add(rows)
                rows.clear()

    def _add(self, rows: Rows) -> None:
        with self._database.write() as connection:
            for table in tables.metadata.sorted_tables:  # what is referred to first
                if rows.get(table.name):
                    connection.execute(table.insert(), rows[table.name])

    def _sizes(self) -> Iterator[int]:
        """How many instances each study has: one has very many, the others about as many."""
        left = self._instances
        for number in range(self._studies):
            mean = left / (self._studies - number)
            wanted = round(mean * self._random.uniform(0.3, 1.7))
            if number == large_study(self._studies):
                wanted = min(_LARGE_STUDY, round(10 * mean))
            elif number == study_of_many_series(self._studies):
                wanted = max(wanted, _MANY_SERIES)
            size = left if number == self._studies - 1 else max(1, min(wanted, left - (self._studies - number - 1)))
            left -= size
            yield size

    def _add_study(self, rows: Rows, number: int, size: int) -> None:
        draw = self._random
        at = time.time() - SPAN_S * (self._studies - number) / self._studies
        study = _Study(number, _uid(draw), at, draw.choice(_SCANNERS))
        rows["study"].append(
            {
                "uid": study.uid, "first_received_at": at, "patient_id": f"P{number:07d}",
                "patient_name": f"{draw.choice(_FAMILIES)}^{draw.choice(_GIVEN)}",
                "accession_number": accession_number(number),
                "study_date": time.strftime("%Y%m%d", time.gmtime(at)), "study_description": "LUMBAR SPINE",
            }
        )  # fmt: skip
        association = str(uuid.uuid4())
        rows["association"].append(
            {
                "id": association, "calling_ae_title": study.scanner[0], "called_ae_title": "ATHANOR",
                "address": study.scanner[1], "opened_at": at, "ended_at": at + 60.0, "end": "released",
                "process": "scp-0@bench",
            }
        )  # fmt: skip
        wanted = _MANY_SERIES if number == study_of_many_series(self._studies) else draw.randint(2, 8)
        series = min(wanted, size)
        for position in range(series):
            slices = size * (position + 1) // series - size * position // series
            self._add_series(rows, study, association, position, slices)

    def _add_series(self, rows: Rows, study: _Study, association: str, position: int, slices: int) -> None:
        self._series_id += 1
        age = self._studies - study.number
        state = self._state_of_series(age, position)
        began, uid = study.at + 5.0 * position, _uid(self._random)
        ended = began + 0.05 * slices
        is_routed = state == SeriesState.ROUTED
        tried = self._tried[is_routed].to_table() if state in {SeriesState.ROUTED, SeriesState.UNMATCHED} else None
        is_open = state == SeriesState.RECEIVING
        rows["series"].append(
            {
                "id": self._series_id, "uid": uid, "study_uid": study.uid, "modality": study.scanner[0][:2],
                "series_number": position + 1, "series_description": "T2 TSE SAG" if is_routed else "LOCALIZER",
                "calling_ae_title": study.scanner[0], "called_ae_title": "ATHANOR", "address": study.scanner[1],
                "state": state, "revision": 1, "instances": slices, "first_received_at": began,
                "last_received_at": ended, "judge_at": ended + 3600.0 if is_open else None,
                "waiting_for": "the association has not ended" if is_open else None,
                "completed_at": None if is_open else ended + 1.0, "evidence": None if is_open else _evidence(slices),
                "reason": "made by a machine: marked DERIVED" if state == SeriesState.BLOCKED else None,
                "selection": tried, "attributes": _attributes(self._series_id),
            }
        )  # fmt: skip
        rows["instance"] += [
            {
                "sop_instance_uid": f"{uid}.{number}", "sop_class_uid": MRImageStorage,
                "transfer_syntax_uid": ExplicitVRLittleEndian, "series_id": self._series_id,
                "association_id": association, "revision": 1, "path": f"received/{uid[-2:]}/{uid}/{number}.dcm",
                "size_bytes": 135_000, "sha256": "0" * 64, "received_at": began + 0.05 * number,
                "instance_number": number, "number_of_frames": 1, "acquisition_number": 1,
                "orientation": [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], "slice_position_mm": 4.0 * number,
                "images_in_acquisition": slices,
            }
            for number in range(1, slices + 1)
        ]  # fmt: skip
        self._tell(rows, began, "receive", "first instance", calling_ae_title=study.scanner[0])
        if not is_open:
            self._tell(rows, ended + 1.0, "assemble", "complete", **_evidence(slices))
            self._tell(rows, ended + 1.1, "route", state.lower(), reason=None)
        if is_routed:
            self._add_job(rows, uid, ended + 1.2, age, slices)

    def _state_of_series(self, age: int, position: int) -> SeriesState:
        if age <= min(3, self._studies // 10):  # it is coming in now
            return SeriesState.RECEIVING
        if position == 0:
            return SeriesState.ROUTED
        return self._one_of({SeriesState.UNMATCHED: 95.0, SeriesState.BLOCKED: 4.0, SeriesState.FAILED: 1.0})

    def _add_job(self, rows: Rows, source: str, at: float, age: int, slices: int) -> None:
        job_id, rule = str(uuid.UUID(int=self._random.getrandbits(128))), self._rules[self._series_id % 4]
        is_open = age <= min(40, self._studies // 5)
        state = JobState.QUEUED if is_open else self._one_of(
            {JobState.SUCCEEDED: 94.0, JobState.FAILED: 3.0, JobState.REFUSED: 2.0, JobState.CANCELLED: 1.0}
        )  # fmt: skip
        made = state == JobState.SUCCEEDED
        names = DESTINATIONS[:2] if self._random.random() < 0.3 else DESTINATIONS[:1]
        rows["job"].append(
            {
                "id": job_id, "series_id": self._series_id, "revision": 1, "rule_version_id": rule.id,
                "pipeline_id": "t2-to-stir", "options": {}, "destinations": list(names), "priority": 5, "state": state,
                "attempt": 0 if is_open else 1, "max_attempts": 3, "not_before": at, "progress": 1.0 if made else 0.0,
                "error": "the model file is damaged" if state == JobState.FAILED else None, "superseded": False,
                "pipeline_version": "1.0.0" if made else None, "weights_sha256": "0" * 64 if made else None,
                "seconds": {"load": 0.4, "infer": 6.5, "write": 0.8} if made else None, "created_at": at,
                "started_at": None if is_open else at + 0.2, "finished_at": None if is_open else at + 8.0,
            }
        )  # fmt: skip
        self._tell(rows, at, "route", "job made", job_id=job_id, pipeline="t2-to-stir")
        if is_open:
            rows["outbox"].append(
                {"stage": "process", "subject": job_id, "priority": 5, "due_at": at, "created_at": at}
            )
            return
        self._tell(rows, at + 0.2, "process", "started", job_id=job_id, attempt=1, worker="process-0@bench")
        self._tell(rows, at + 8.0, "process", state.lower(), job_id=job_id)
        if made:
            derived = self._add_derived(rows, job_id, source, slices)
            for name in names:
                self._add_delivery(rows, job_id, name, at + 8.1, derived)

    def _add_derived(self, rows: Rows, job_id: str, source: str, slices: int) -> list[int]:
        uid = _uid(self._random)
        ids = list(range(self._derived_id + 1, self._derived_id + slices + 1))
        self._derived_id += slices
        rows["derived"] += [
            {
                "id": derived_id, "job_id": job_id, "profile": "secondary-capture:1.2.840.10008.1.2.1",
                "sop_instance_uid": f"{uid}.{number}", "sop_class_uid": SecondaryCaptureImageStorage,
                "series_instance_uid": uid, "series_number": 9001, "transfer_syntax_uid": ExplicitVRLittleEndian,
                "instance_number": number, "source_sop_instance_uid": f"{source}.{number}",
                "path": f"derived/{job_id}/{number}.dcm", "size_bytes": 140_000, "sha256": "0" * 64,
            }
            for number, derived_id in enumerate(ids, 1)
        ]  # fmt: skip
        return ids

    def _add_delivery(self, rows: Rows, job_id: str, name: str, at: float, derived: Sequence[int]) -> None:
        state = self._one_of(
            {DeliveryState.DELIVERED: 97.0, DeliveryState.FAILED: 1.0, DeliveryState.QUEUED: 1.0,
             DeliveryState.CANCELLED: 1.0}
        )  # fmt: skip
        delivery_id, has_it = str(uuid.UUID(int=self._random.getrandbits(128))), state == DeliveryState.DELIVERED
        rows["delivery"].append(
            {
                "id": delivery_id, "job_id": job_id, "destination": name, "state": state, "attempt": 1,
                "profile": "secondary-capture:1.2.840.10008.1.2.1", "not_before": at, "give_up_at": at + 604_800.0,
                "error": None if has_it else "transport connection: refused", "created_at": at, "started_at": at,
                "finished_at": at + 1.0 if has_it else None,
            }
        )  # fmt: skip
        accepted = {"status": 0, "accepted_at": at + 0.5} if has_it else {"status": None, "accepted_at": None}
        rows["delivery_instance"] += [{"delivery_id": delivery_id, "derived_id": one, **accepted} for one in derived]
        self._tell(rows, at + 1.0, "deliver", state.lower(), job_id=job_id, destination=name)

    def _tell(self, rows: Rows, at: float, stage: str, what: str, *, job_id: str | None = None, **detail: Any) -> None:
        rows["event"].append(
            {"at": at, "series_id": self._series_id, "job_id": job_id, "stage": stage, "what": what, "detail": detail}
        )

    def _one_of(self, weights: Mapping[State, float]) -> State:
        return self._random.choices(list(weights), list(weights.values()))[0]


def accession_number(number: int) -> str:
    """That of one study."""
    return f"A{number:08d}"


def large_study(studies: int) -> int:
    """The number of the study with the most instances."""
    return studies // 2


def study_of_many_series(studies: int) -> int:
    """The number of the study with the most series."""
    return studies // 3


def _rules(version: int) -> tuple[Rule, ...]:
    """Twenty rules; each list differs from the one before in every rule."""
    return parse_rules(
        "".join(
            _RULES.format(
                number=number, enabled="true" if number < 16 else "false", least=70 + version, most=150,
                words="sag" if number < 4 else f"sequence {number}",
            )
            for number in range(20)
        )
    )  # fmt: skip


def _uid(draw: random.Random) -> str:
    return f"2.25.{draw.getrandbits(120)}"


def _evidence(slices: int) -> dict[str, Any]:
    return {
        "signals": ["association-released", "numbers-without-gap"],
        "sentence": f"{slices} instances, closed 1.0 s after the last: association released; numbers 1 to {slices}",
    }


def _attributes(number: int) -> dict[str, Any]:
    """A header as it is kept with a series, in the DICOM JSON model."""
    from pydicom.datadict import tag_for_keyword

    return {
        f"{tag_for_keyword(keyword):08X}": {"vr": vr, "Value": [value]} for keyword, (vr, value) in _HEADERS.items()
    } | {"00200011": {"vr": "IS", "Value": [number]}}

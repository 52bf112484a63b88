"""Builders: a header as a scanner would send it, a stored file, a routed job."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from gateway.dicom.header import InstanceHeader
from gateway.domain.states import SeriesState
from gateway.store import routing, tables
from gateway.store.arriving import sync_folder
from gateway.store.database import Database
from gateway.store.intake import Caller, StoredFile
from gateway.store.new_jobs import NewJob
from gateway.store.spool import Spool

CALLER = Caller("11111111-1111-4111-8111-111111111111", "SCANNER", "ATHANOR", "127.0.0.1")


def header(number: int, series_uid: str = "2.25.7", **values: Any) -> InstanceHeader:
    """The header of slice `number` of a sagittal series."""
    facts: dict[str, Any] = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "sop_instance_uid": f"{series_uid}{number:04d}",
        "study_instance_uid": "2.25.5",
        "series_instance_uid": series_uid,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "MR",
        "image_type": ("ORIGINAL", "PRIMARY"),
        "instance_number": number,
        "acquisition_number": 1,
        "images_in_acquisition": None,
        "number_of_frames": 1,
        "rows": 256,
        "columns": 256,
        "image_position": (4.0 * number, -100.0, 100.0),
        "image_orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
        "slice_position_mm": -4.0 * number,
        "series_number": 4,
        "series_description": "T2 TSE SAG",
        "study_description": "L-SPINE",
        "study_date": "20260101",
        "study_time": "",
        "accession_number": "A1",
        "body_part_examined": "LSPINE",
        "manufacturer": "",
        "manufacturer_model_name": "",
        "patient_id": "P1",
        "patient_name": "Doe^Jane",
    }
    return InstanceHeader(**{**facts, **values})


def stored(sop_instance_uid: str, content: str = "") -> StoredFile:
    return StoredFile(f"received/{sop_instance_uid}{content}.dcm", 100, f"{sop_instance_uid}{content}")


def receive_file(spool: Spool, series_uid: str, sop_instance_uid: str, *data_set: bytes) -> StoredFile:
    """Receive a data set with the prefix ``DICM`` as the stage does; its second name stays until `Spool.settle`."""
    arriving = spool.receive(b"DICM")
    arriving.write(*data_set)
    arriving.sync()
    place = spool.link_received(arriving, series_uid, sop_instance_uid)
    sync_folder(place.folder)
    arriving.close()
    relative = spool.relative(place.path)
    return StoredFile(relative, arriving.size_bytes, spool.digest(relative, arriving.data_set_bytes))


def route(
    database: Database, series_id: int, revision: int, destinations: tuple[str, ...] = ("pacs",), max_attempts: int = 3
) -> str:
    """Route a closed series to one job."""
    with database.write() as connection:
        rule = connection.execute(
            sa.select(tables.rule_version.c.id)
        ).scalar_one_or_none() or connection.execute(
            sa.insert(tables.rule_version)
            .values(
                name="spine", version=1, position=0, active=True, definition={}, digest=uuid.uuid4().hex, author="test",
                reason="", created_at=0.0,
            )
            .returning(tables.rule_version.c.id)
        ).scalar_one()  # fmt: skip
        to_route = routing.series_to_route(connection, series_id, revision)
        assert to_route is not None
        assert routing.end_routing(
            connection, to_route, SeriesState.ROUTED, reason=None, selection=None, attributes=None,
            jobs=[NewJob(rule, "t2-to-stir", {}, destinations, 0)], max_attempts=max_attempts,
        )  # fmt: skip
        found = connection.execute(
            sa.select(tables.job.c.id).where(tables.job.c.series_id == series_id, tables.job.c.revision == revision)
        )
        return str(found.scalar_one())

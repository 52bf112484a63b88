"""What the Compare page needs of a job: its series, the files of both sides, where one instance lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.store.tables import derived, instance, job, series, study

Row = dict[str, Any]


def of_job(connection: Connection, job_id: str) -> Row | None:
    """The job with its series and study; None when there is none."""
    row = connection.execute(
        sa.select(
            job.c.id, job.c.series_id, job.c.state, job.c.superseded, job.c.pipeline_id, job.c.pipeline_version,
            job.c.weights_sha256, series.c.uid.label("series_uid"), series.c.modality, series.c.series_number,
            series.c.series_description, study.c.uid.label("study_uid"), study.c.patient_name, study.c.patient_id,
            study.c.accession_number, study.c.study_date, study.c.study_description,
        )
        .join(series, series.c.id == job.c.series_id)
        .join(study, study.c.uid == series.c.study_uid)
        .where(job.c.id == job_id)
    ).one_or_none()  # fmt: skip
    return dict(row._mapping) if row else None


def received(connection: Connection, series_id: int) -> Sequence[Any]:
    """The instances of the source as rows, in the order of InstanceNumber."""
    return connection.execute(
        sa.select(
            instance.c.sop_instance_uid, instance.c.path, instance.c.instance_number,
            instance.c.number_of_frames, instance.c.slice_position_mm,
        )
        .where(instance.c.series_id == series_id)
        .order_by(instance.c.instance_number, instance.c.id)
    ).all()  # fmt: skip


def made(connection: Connection, job_id: str) -> Sequence[Any]:
    """The derived instances of a job as rows, in the order of InstanceNumber; of several encodings the first."""
    first = sa.select(sa.func.min(derived.c.profile)).where(derived.c.job_id == job_id).scalar_subquery()
    return connection.execute(
        sa.select(
            derived.c.sop_instance_uid, derived.c.path, derived.c.instance_number,
            derived.c.source_sop_instance_uid, derived.c.series_instance_uid, derived.c.series_number,
        )
        .where(derived.c.job_id == job_id, derived.c.profile == first)
        .order_by(derived.c.instance_number)
    ).all()  # fmt: skip


def path_of(connection: Connection, sop_instance_uid: str) -> str | None:
    """Where the file of a received or derived instance lies in the spool; None when there is no such instance."""
    for table in (instance, derived):
        query = sa.select(table.c.path).where(table.c.sop_instance_uid == sop_instance_uid).limit(1)
        found = connection.execute(query).scalar_one_or_none()
        if found is not None:
            return str(found)
    return None

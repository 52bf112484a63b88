"""Concrete values for the parameters of the web port's addresses, taken from the rows of ``athanor bench web``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.commands.bench_web_beside import ADDED_DESTINATION, DESTINATIONS
from gateway.commands.bench_web_rows import accession_number, large_study, study_of_many_series
from gateway.domain.states import JobState, SeriesState
from gateway.settings import Settings
from gateway.store import paging
from gateway.store.database import Database
from gateway.store.paging import Cut
from gateway.store.tables import alert, audit, instance, job, refusal, series, study
from pipelines.catalog import Catalog

NOT_MEASURED: Mapping[str, str] = {
    "/api/v1/instances/{sop_instance_uid}/frame": "pixels of a file, and the rows of the bench have no files",
    "/api/v1/jobs/{job_id}/comparison": "made from the headers of files",
    "/pipelines/{pipeline_id}/pictures/{name}": "a picture of a model card, a file as it stands",
}
"""Paths that are no page and no list, with what they are instead."""

_API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Examples:
    """Values by the first word of a path and the name of a parameter, or by the name alone."""

    values: Mapping[tuple[str, str], Sequence[str]]

    def of(self, path: str, name: str) -> Sequence[str]:
        """Values of the parameter `name` in `path`; none where none is known."""
        place = path.removeprefix(_API).split("/")[1]
        return self.values.get((place, name), self.values.get(("", name), ()))


def examples_of(database: Database, settings: Settings, studies: int) -> Examples:
    """What is there to be asked for: the usual, the largest, what is common and what is rare, and a page far down."""
    with database.read() as connection:

        def study_numbered(number: int) -> Any:
            wanted = study.select().where(study.c.accession_number == accession_number(number))
            return connection.execute(wanted).one()

        def far_down(query: Any, key: paging.Key) -> str:
            """The key of a row with nine tenths of the list before it."""
            found = paging.page(connection, query, key, Cut(), max(1, studies // 10), falling=False)
            return paging.write(found.rows[-1], key)

        usual, large, many = (study_numbered(n) for n in (0, large_study(studies), study_of_many_series(studies)))
        largest = connection.execute(series.select().where(series.c.study_uid == large.uid).limit(1)).one()
        middle = connection.execute(
            instance.select().where(instance.c.series_id == largest.id).order_by(instance.c.received_at).limit(1)
        ).one()
        made = connection.execute(job.select().where(job.c.state == JobState.SUCCEEDED).limit(1)).one()
        refused = far_down(refusal.select(), (refusal.c.last_at, refusal.c.id))
        pipelines = list(Catalog.read(settings.models_dir))
        return Examples(
            {
                ("", "study_uid"): [usual.uid, large.uid, many.uid],
                ("", "series_id"): [str(largest.id)],
                ("series", "after"): [f"{middle.received_at}_{middle.id}"],
                ("", "job_id"): [made.id],
                ("studies", "text"): ["Adler", usual.accession_number, usual.patient_id, usual.uid, "none"],
                ("", "study_date"): [usual.study_date, usual.study_date[:6]],
                ("", "calling_ae_title"): ["MR1", "NOBODY"],
                ("studies", "state"): [SeriesState.ROUTED, SeriesState.FAILED, SeriesState.COMPLETE],
                ("studies", "after"): [far_down(study.select(), (study.c.first_received_at, study.c.uid))],
                ("studies", "before"): [far_down(study.select(), (study.c.first_received_at, study.c.uid))],
                ("audit", "who"): ["person-0007", "nobody"],
                ("audit", "after"): [far_down(audit.select(), (audit.c.id,))],
                ("rules", "name"): ["rule-0", "new"],
                ("rules", "version"): ["2"],
                ("destinations", "name"): [ADDED_DESTINATION],
                ("pipelines", "pipeline_id"): pipelines,
                ("people", "after"): ["person-0150"],
                ("senders", "after"): [refused],
                ("refusals", "after"): [refused],
                ("alerts", "after"): [far_down(alert.select(), (alert.c.id,))],
                ("queue", "what"): ["jobs", "deliveries"],
                ("queue", "state"): ["FAILED", "QUEUED"],
                ("queue", "destination"): DESTINATIONS[:1],
                ("queue", "pipeline"): pipelines[:1],
                ("settings", "text"): ["deliver"],
                ("settings", "given"): ["true"],
            }
        )

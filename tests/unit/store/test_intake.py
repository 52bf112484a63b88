"""Receiving: one row an instance, duplicates told apart, a late instance reopens."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from store_rows import CALLER, header, route, stored

from gateway.domain.completeness import AssociationState
from gateway.domain.states import DeliveryState, JobState, SeriesState
from gateway.store import deliveries, intake, jobs, judgement, outbox, tables
from gateway.store.database import Database
from gateway.store.intake import Arrival, Arrived
from gateway.store.jobs import DerivedFile

Receive = Callable[..., list[Arrival]]


def test_instances_gather_under_one_series_and_study(database: Database, receive: Receive) -> None:
    assert receive(1, 2, 3) == [Arrival.NEW] * 3
    with database.read() as connection:
        row = connection.execute(sa.select(tables.series)).one()
        assert (row.state, row.revision, row.instances) == (SeriesState.RECEIVING, 1, 3)
        assert connection.execute(sa.select(tables.study.c.patient_id)).scalar_one() == "P1"


def test_the_same_bytes_again_change_nothing_and_others_are_a_conflict(database: Database, receive: Receive) -> None:
    receive(1)
    assert receive(1) == [Arrival.SAME]
    one = header(1)
    with database.write() as connection:
        other = Arrived(one, stored(one.sop_instance_uid, "other"), CALLER)
        assert intake.record_instances(connection, [other], judge_after_s=0) == [Arrival.CONFLICT]
        assert connection.execute(sa.select(tables.series.c.instances)).scalar_one() == 1


def test_evidence_holds_positions_and_the_end_of_the_association(database: Database, receive: Receive) -> None:
    receive(1, 2)
    receive(1, series_uid="2.25.9")
    with database.write() as connection:
        first = connection.execute(sa.select(tables.series.c.id).where(tables.series.c.uid == "2.25.7")).scalar_one()
        found = judgement.to_judge(connection, first)
        assert found is not None
        assert [i.slice_position_mm for i in found.evidence.instances] == [-4.0, -8.0]
        (association,) = found.evidence.associations
        assert association.state is AssociationState.OPEN
        assert association.other_series_s is not None, "it carried another series after this one"
        intake.end_association(connection, CALLER.association_id, AssociationState.RELEASED)
        found = judgement.to_judge(connection, first)
        assert found is not None
        assert found.evidence.associations[0].state is AssociationState.RELEASED


def test_a_series_closes_only_on_the_evidence_that_was_judged(database: Database, receive: Receive) -> None:
    receive(1, 2)
    with database.write() as connection:
        found = judgement.to_judge(connection, 1)
        assert found is not None
    receive(3)
    with database.write() as connection:
        assert not judgement.close_series(connection, 1, found.revision, found.instances, {"sentence": ""})
        assert connection.execute(sa.select(tables.series.c.state)).scalar_one() == SeriesState.RECEIVING


def test_a_closed_series_is_announced_for_routing_once(
    database: Database, receive: Receive, close: Callable[[], tuple[int, int]]
) -> None:
    receive(1, 2)
    series_id, revision = close()
    announced: list[tuple[str, str, int]] = []
    assert outbox.relay(database, lambda *message: announced.append(message)) == 1
    assert announced == [("route", f"{series_id}:{revision}", 0)]
    assert outbox.relay(database, lambda *message: announced.append(message)) == 0


def test_a_late_instance_raises_the_revision_and_supersedes_what_was_made(
    database: Database, receive: Receive, make_job: Callable[..., str], close: Callable[[], tuple[int, int]]
) -> None:
    job_id = make_job()
    assert receive(4) == [Arrival.NEW]
    with database.read() as connection:
        series = connection.execute(sa.select(tables.series)).one()
        assert (series.state, series.revision, series.instances) == (SeriesState.RECEIVING, 2, 4)
        job = connection.execute(sa.select(tables.job)).one()
        assert (job.id, job.state, job.superseded) == (job_id, JobState.SUPERSEDED, True)
    series_id, revision = close()
    assert revision == 2
    assert route(database, series_id, revision) != job_id


def test_a_late_instance_during_inference_ends_that_job_superseded_with_nothing_to_deliver(
    database: Database, receive: Receive, make_job: Callable[..., str]
) -> None:
    job_id = make_job()
    with database.write() as connection:
        claimed = jobs.claim(connection, job_id, "w", 30)
        assert claimed is not None
    receive(4)
    file = DerivedFile("p", "2.25.1", "c", "2.25.2", 401, "t", 1, "2.25.70001", "derived/x.dcm", 1, "s")
    with database.write() as connection:
        ended = jobs.succeed(connection, claimed, [file], {"pacs": "p"}, give_up_s=60)
        assert ended is JobState.SUPERSEDED
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.delivery)).scalar_one() == 0


def test_a_late_instance_cancels_only_deliveries_that_have_not_begun(
    database: Database, receive: Receive, make_job: Callable[..., str]
) -> None:
    job_id = make_job(("begun", "waiting"))
    with database.write() as connection:
        claimed = jobs.claim(connection, job_id, "w", 30)
        assert claimed is not None
        files = [
            DerivedFile("p", f"2.25.1{n}", "c", "2.25.2", 401, "t", n, f"2.25.7000{n}", f"derived/{n}.dcm", 1, "s")
            for n in (1, 2)
        ]
        jobs.succeed(connection, claimed, files, {"begun": "p", "waiting": "p"}, give_up_s=60)
        ids = dict(connection.execute(sa.select(tables.delivery.c.destination, tables.delivery.c.id)).all())
        sending = deliveries.claim(connection, ids["begun"], "t", 30, 2)
        assert sending is not None
        deliveries.record_answers(connection, sending, {sending.to_send[0].derived_id: (0, "Success", True)})
        deliveries.end(connection, sending, DeliveryState.QUEUED, error="aborted", retry_in_s=1)
    receive(4)
    with database.read() as connection:
        states = dict(connection.execute(sa.select(tables.delivery.c.destination, tables.delivery.c.state)).all())
    assert states == {"begun": DeliveryState.QUEUED, "waiting": DeliveryState.CANCELLED}


def test_associations_that_a_dead_scp_left_open_count_as_aborted(database: Database, receive: Receive) -> None:
    receive(1)
    with database.write() as connection:
        assert intake.abort_open_associations(connection, "scp-1") == 0, "that is another one's"
        assert intake.abort_open_associations(connection, "scp-0") == 1
        assert intake.abort_open_associations(connection, "scp-0") == 0
        assert connection.execute(sa.select(tables.association.c.end)).scalar_one() == "aborted"

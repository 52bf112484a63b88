"""Workers that sleep, one of many, and a gateway that is told to stop: what was begun ends once."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import psutil
import pydicom
import pytest
import sqlalchemy as sa
from behaviour import QUICK, Node, WriteSeries, destination, rules, stopped
from modality import MakeGateway
from small_series import instance_uids, series_uid
from sqlalchemy.engine import make_url

from gateway.commands.sandbox import SmallPacs


def test_a_job_whose_worker_sleeps_past_its_lease_is_done_by_another_and_comes_back_once(
    node: Node, series: WriteSeries
) -> None:
    paths = series(24)
    uid = series_uid(paths)
    node.send(paths)
    node.wait_for("the job runs", lambda: node.job(uid)["state"] == "RUNNING")
    with stopped(node.pid("process-0")), node.worker("process", 1):
        (job,) = node.succeeded(uid)["jobs"]
        assert job["attempt"] == 2
    node.wait_for("the worker that slept has noticed", lambda: "lease lost; nothing kept" in node.log())
    assert node.detail(uid)["jobs"] == [job]
    node.assert_came_back_once(paths)
    told = [(event.what, event.detail.get("worker", "").split("@")[0]) for event in node.timeline(uid)]
    assert ("started", "process-0") in told
    assert told.index(("taken back", "")) < told.index(("started", "process-1"))
    assert [what for what, _ in told].count("succeeded") == 1
    folder = node.gateway.settings.spool_dir / "derived" / job["id"]
    assert [attempt.name for attempt in folder.iterdir()] == ["2"], "the first attempt left nothing"


@pytest.fixture(scope="module")
def other_pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPacs]:
    with SmallPacs(tmp_path_factory.mktemp("other-pacs")) as running:
        yield running


@pytest.fixture(scope="module")
def other_node(make_gateway: MakeGateway, other_pacs: SmallPacs, postgresql: str) -> Iterator[Node]:
    """A second gateway, on PostgreSQL."""
    server = make_url(postgresql)
    name = f"g{uuid.uuid4().hex}"
    admin = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    url = server.set(database=name).render_as_string(hide_password=False)
    gateway = make_gateway(
        rules({"PLAIN": (["pacs"], "normal")}),
        database={"url": url}, destinations={"pacs": destination(other_pacs.port)}, **QUICK,
    )  # fmt: skip
    database = gateway.database()
    yield Node(gateway, database, other_pacs, {})
    database.close()
    gateway.stop()


def test_two_gateways_on_two_databases_make_the_same_objects_of_a_series(
    node: Node, other_node: Node, series: WriteSeries
) -> None:
    paths = series(4)
    found = []
    for one in (node, other_node):
        one.send(paths)
        one.succeeded(series_uid(paths))
        one.assert_came_back_once(paths)
        ((series_instance_uid, files),) = one.results(paths).items()
        results = [pydicom.dcmread(file) for file in files]
        found.append((series_instance_uid, {str(ds.SOPInstanceUID): ds.PixelData for ds in results}))
    assert found[0] == found[1]
    assert len(found[0][1]) == 4


def test_on_postgresql_two_transfer_workers_share_the_work(other_node: Node, series: WriteSeries) -> None:
    every = [series(3) for _ in range(4)]
    first = other_node.pid("transfer-0")
    with stopped(first), other_node.worker("transfer", 1) as second:
        other_node.send(every[0])
        other_node.succeeded(series_uid(every[0]))
        os.kill(first, signal.SIGCONT)
        for paths in every[1:]:
            other_node.send(paths)
        for paths in every:
            other_node.succeeded(series_uid(paths))
        assert second.is_running()
    for paths in every:
        other_node.assert_came_back_once(paths)


def test_late_and_doubled_instances_on_postgresql(other_node: Node, series: WriteSeries) -> None:
    paths = series(5)
    uid = series_uid(paths)
    other_node.send(paths[:4])
    other_node.send(paths[:4], "WORKSTATION")
    assert other_node.succeeded(uid)["instances"] == 4
    other_node.send(paths[4:])
    detail = other_node.succeeded(uid, revision=2)
    assert [job["superseded"] for job in detail["jobs"]] == [True, False]
    assert sorted(len(files) for files in other_node.results(paths).values()) == [4, 5]


def test_a_gateway_told_to_stop_ends_in_order_and_the_job_ends_once(other_node: Node, series: WriteSeries) -> None:
    paths = series(30)
    uid = series_uid(paths)
    other_node.send(paths)
    other_node.wait_for("the job runs", lambda: other_node.job(uid)["state"] == "RUNNING")
    assert other_node.gateway.process is not None
    family = psutil.Process(other_node.gateway.process.pid).children(recursive=True)
    assert other_node.gateway.stop() == 0
    assert not psutil.wait_procs(family, timeout=5)[1]
    (job,) = other_node.detail(uid)["jobs"]
    assert job["state"] in {"QUEUED", "SUCCEEDED"}
    other_node.gateway.start()
    (job,) = other_node.succeeded(uid)["jobs"]
    assert len(instance_uids(paths)) == job["derived"][0]["instances"]
    other_node.assert_came_back_once(paths)

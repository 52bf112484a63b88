"""Alerts on both databases: one for each cause, told once, over when the cause is gone."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from certificate_authority import CertificateAuthority
from message_servers import SmtpServer, WebServer, black_hole, smtp_server, web_server

from gateway.domain.alerts import Channel
from gateway.domain.refusal import Reason, Refusal
from gateway.domain.schedule import RetrySchedule
from gateway.domain.states import JobState, SeriesState
from gateway.services import clock
from gateway.services.messenger import Messengers
from gateway.settings import Destination, Settings
from gateway.settings.line import Listener, ListenerTls, Node, Spool
from gateway.settings.watch import Alerts, Mail, Webhook
from gateway.stages import alert as stage
from gateway.store import alerts, destinations, refusals, tables
from gateway.store.alerts import Rules
from gateway.store.database import Database
from gateway.store.paging import Cut

PATIENT = "Doe^Jane"


@pytest.fixture
def smtp() -> Iterator[SmtpServer]:
    with smtp_server(SmtpServer()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, smtp: SmtpServer) -> Settings:
    return settings_with(tmp_path, email=mail_to(smtp.port))


def settings_with(folder: Path, **values: Any) -> Settings:
    return Settings(
        node=Node(ae_title="GW", state_dir=folder / "state"),
        spool=Spool(reserve_bytes=0),
        alerts=Alerts(**{"allow_private": True, **values}),
        destinations={"pacs": Destination(ae_title="PACS", host="127.0.0.1", port=104)},
    )


def mail_to(port: int) -> Mail:
    return Mail(host="127.0.0.1", port=port, security="none", sender="gw@example.org", recipients=("it@example.org",))


def watch_of(database: Database, settings: Settings) -> stage.Watch:
    return stage.Watch(database, lambda: settings, lambda: {"pacs": None}, lambda: None)


def tell_all(database: Database, settings: Settings, channel: Channel = Channel.EMAIL) -> None:
    while stage.tell(database, settings, channel):
        pass


def open_ones(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return alerts.open_ones(connection)


def over(database: Database) -> list[dict[str, Any]]:
    with database.read() as connection:
        return alerts.resolved(connection, Cut(), 10).rows


def go_down(database: Database, name: str = "pacs") -> None:
    with database.write() as connection:
        gate = destinations.lock(connection, name)
        destinations.took_nothing(connection, gate, "d", f"{PATIENT} is not known here", RetrySchedule(1, 2, 9))


def come_back(database: Database, name: str = "pacs") -> None:
    with database.write() as connection:
        destinations.took_something(connection, name, 1)


def add_series(database: Database, **values: Any) -> int:
    """A series of a patient, by its rows."""
    at = time.time()
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.study).values(
                uid="2.25.1", first_received_at=at, patient_id=PATIENT, patient_name=PATIENT, accession_number=PATIENT,
                study_date="20260101", study_description=PATIENT,
            )
        )  # fmt: skip
        row = {
            "uid": "2.25.2", "study_uid": "2.25.1", "modality": "MR", "series_description": PATIENT,
            "calling_ae_title": "SCANNER1", "called_ae_title": "GW", "address": "10.1.2.3", "state": "ROUTED",
            "revision": 1, "instances": 1, "first_received_at": at, "last_received_at": at, "reason": PATIENT,
        }  # fmt: skip
        return int(
            connection.execute(
                sa.insert(tables.series).values({**row, **values}).returning(tables.series.c.id)
            ).scalar_one()
        )


def add_due_series(database: Database) -> None:
    """A series of one instance whose association was released long ago: the next judgement closes it."""
    series_id = add_series(
        database, state=SeriesState.RECEIVING, judge_at=1.0, first_received_at=1.0, last_received_at=1.0
    )
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.association).values(
                id="a", calling_ae_title="SCANNER1", called_ae_title="GW", address="10.1.2.3", opened_at=1.0,
                ended_at=1.0, end="released",
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(tables.instance).values(
                sop_instance_uid="2.25.3", sop_class_uid="1.2", transfer_syntax_uid="1.2", series_id=series_id,
                association_id="a", revision=1, path="received/x", size_bytes=1, sha256="", received_at=1.0,
                number_of_frames=1, orientation=[],
            )
        )  # fmt: skip


def add_jobs(database: Database, series_id: int, number: int, state: JobState) -> None:
    at = time.time()
    with database.write() as connection:
        rule = connection.execute(
            sa.insert(tables.rule_version)
            .values(
                name="r", version=1, position=0, active=True, definition={}, digest="", author="", reason="",
                created_at=at,
            )
            .returning(tables.rule_version.c.id)
        ).scalar_one()  # fmt: skip
        connection.execute(
            sa.insert(tables.job),
            [
                {
                    "id": f"job-{one}", "series_id": series_id, "revision": one, "rule_version_id": rule,
                    "pipeline_id": "t2-to-stir", "options": {}, "destinations": [], "priority": 0, "state": state,
                    "attempt": 3, "max_attempts": 3, "not_before": at, "progress": 0.0, "error": f"found {PATIENT}",
                    "superseded": False, "created_at": at + one, "finished_at": at,
                }
                for one in range(number)
            ],
        )  # fmt: skip


def test_a_thousand_failures_are_one_alert_and_one_letter(
    database: Database, settings: Settings, smtp: SmtpServer
) -> None:
    add_jobs(database, add_series(database), 1000, JobState.FAILED)
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.quarantine),
            [
                {"at": time.time(), "status": 0xC000, "reason": PATIENT, "calling_ae_title": "SCANNER1", "address": ""}
                for _ in range(1000)
            ],
        )
    watch = watch_of(database, settings)
    for _ in range(3):
        watch()
        tell_all(database, settings)
    assert {row["cause"]: row["times"] for row in open_ones(database)} == {
        "pipeline:t2-to-stir:failed": 1000, "sender:SCANNER1:instances": 1000,
    }  # fmt: skip
    assert sorted(letter["Subject"] for letter in smtp.letters) == [
        "[GW] Instances of SCANNER1 are refused", "[GW] Jobs of t2-to-stir failed",
    ]  # fmt: skip


def test_no_letter_and_no_alert_speaks_of_a_patient(database: Database, settings: Settings, smtp: SmtpServer) -> None:
    add_jobs(database, add_series(database, state=SeriesState.FAILED), 6, JobState.REFUSED)
    go_down(database)
    watch_of(database, settings)()
    tell_all(database, settings)
    assert {row["cause"] for row in open_ones(database)} == {
        "pipeline:t2-to-stir:refuses", "series:failed", "destination:pacs:down",
    }  # fmt: skip
    assert len(smtp.letters) == 3
    for text in [str(letter) for letter in smtp.letters] + [json.dumps(row) for row in open_ones(database)]:
        assert "Doe" not in text


def test_a_destination_that_is_down_and_back_is_told_twice(
    database: Database, tmp_path: Path, smtp: SmtpServer
) -> None:
    settings = settings_with(tmp_path, email=mail_to(smtp.port), quiet_s=0)
    watch = watch_of(database, settings)
    go_down(database)
    watch()
    come_back(database)
    watch()
    tell_all(database, settings)
    assert [letter["Subject"] for letter in smtp.letters] == [
        "[GW] Destination pacs takes nothing", "[GW] Resolved: Destination pacs takes nothing",
    ]  # fmt: skip
    assert "/destinations" in str(smtp.letters[0])
    (row,) = over(database)
    assert [(one["change"], one["sent_at"] is not None) for one in row["messages"]] == [
        ("opened", True), ("resolved", True),
    ]  # fmt: skip
    # whoever was told that it is over is told when it is back
    go_down(database)
    watch()
    tell_all(database, settings)
    assert len(smtp.letters) == 3
    assert open_ones(database)[0]["id"] != row["id"]


def test_flapping_is_one_alert_and_one_letter(database: Database, settings: Settings, smtp: SmtpServer) -> None:
    watch = watch_of(database, settings)
    ids = set()
    for _ in range(5):
        go_down(database)
        watch()
        tell_all(database, settings)
        ids |= {row["id"] for row in open_ones(database)}
        come_back(database)
        watch()
        tell_all(database, settings)
        assert open_ones(database) == []
    assert len(ids) == 1
    assert len(smtp.letters) == 1
    (row,) = over(database)
    assert [one["change"] for one in row["messages"]] == ["opened", "resolved"]  # the second waits for the quiet time


def test_two_clocks_open_one_alert_and_send_one_letter(
    database: Database, settings: Settings, smtp: SmtpServer
) -> None:
    go_down(database)
    start = threading.Barrier(4)
    errors: list[Exception] = []

    def be_a_clock() -> None:
        try:
            watch = watch_of(database, settings)
            start.wait(10)
            watch()
            start.wait(10)
            tell_all(database, settings)
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=be_a_clock) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(open_ones(database)) == 1
    assert len(smtp.letters) == 1


def test_what_is_open_for_long_is_told_again_until_somebody_acknowledges(
    database: Database, settings: Settings, smtp: SmtpServer
) -> None:
    watch = watch_of(database, settings)
    go_down(database)
    watch()
    tell_all(database, settings)

    def a_day_passes() -> None:
        with database.write() as connection:
            connection.execute(sa.update(tables.alert).values(first_at=tables.alert.c.first_at - 86_400))
        watch()
        watch()
        tell_all(database, settings)

    a_day_passes()
    assert [letter["Subject"] for letter in smtp.letters[1:]] == ["[GW] Still: Destination pacs takes nothing"]
    with database.write() as connection:
        assert alerts.acknowledge(connection, open_ones(database)[0]["id"], "ada")
        assert not alerts.acknowledge(connection, 999_999, "ada")
    a_day_passes()
    assert len(smtp.letters) == 2


def test_a_message_is_tried_again_with_growing_waits_and_given_up_where_that_is_no_use(
    database: Database, tmp_path: Path
) -> None:
    def make_due() -> None:
        with database.write() as connection:
            connection.execute(sa.update(tables.alert_message).values(not_before=0.0))

    with web_server(WebServer([500, 500, 200, 404])) as server:
        settings = settings_with(tmp_path, webhook=Webhook(url=server.url))
        watch = watch_of(database, settings)
        go_down(database)
        watch()
        waits = []
        for _ in range(2):
            tell_all(database, settings, Channel.WEBHOOK)  # ends: the next attempt is not due
            (message,) = open_ones(database)[0]["messages"]
            assert "answered 500" in message["error"]
            waits.append(message["not_before"] - database.now_s())
            make_due()
        assert 4 < waits[0] < 10.5 < waits[1] < 21
        tell_all(database, settings, Channel.WEBHOOK)
        ids = [server.posts.get(timeout=5)[0]["webhook-id"] for _ in range(3)]
        assert len(set(ids)) == 1
        (message,) = open_ones(database)[0]["messages"]
        assert (message["attempt"], message["error"], message["sent_at"] is not None) == (3, None, True)
        # 404 is no use
        come_back(database)
        watch()
        make_due()
        tell_all(database, settings, Channel.WEBHOOK)
        (_, message) = over(database)[0]["messages"]
        assert (message["change"], message["sent_at"], message["ended_at"] is not None) == ("resolved", None, True)
        assert json.loads(server.posts.get(timeout=5)[1])["type"] == "alert.resolved"


def test_what_waits_for_long_is_an_alert_and_says_when_its_pipeline_is_disabled(
    database: Database, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, waiting_s=0.5)
    add_jobs(database, add_series(database), 3, JobState.QUEUED)
    with database.write() as connection:
        connection.execute(sa.update(tables.job).values(created_at=time.time() - 60))
    watch = watch_of(database, settings)
    watch()
    assert [(row["cause"], row["times"]) for row in open_ones(database)] == [("jobs:waiting", 3)]
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.pipeline_switch).values(
                pipeline_id="t2-to-stir", version="1", disabled_by="ada", disabled_at=1.0, reason="wrong"
            )
        )
    watch()
    assert [row["cause"] for row in open_ones(database)] == ["pipeline:t2-to-stir:waiting"]


def test_a_sender_that_is_refused_is_one_alert_until_it_stores_something(
    database: Database, settings: Settings
) -> None:
    scanner = Refusal("10.1.2.3", "SCANNER1", "GW", Reason.CALLING_AE_TITLE)
    guesses = [Refusal("10.9.9.9", f"GUESS{one}", "GW", Reason.CALLING_AE_TITLE) for one in range(30)]
    probe = Refusal("10.1.1.1", "", "", Reason.NO_REQUEST)
    with database.write() as connection:
        refusals.record(connection, Counter({scanner: 7, probe: 99}), time.time() - 60)
        refusals.record(connection, Counter(guesses), time.time() - 30)
    watch = watch_of(database, settings)
    watch()
    found = {row["cause"]: row for row in open_ones(database)}
    assert len(found) == 11
    assert found["sender:others"]["times"] == 21
    refused = found["sender:SCANNER1:calling_ae_title"]
    assert (refused["title"], refused["times"]) == (
        "Series of SCANNER1 are refused: this AE title may not call from this address", 7,
    )  # fmt: skip
    assert 'SCANNER1 = "10.1.2.3"' in refused["advice"]
    add_series(database)
    watch()
    assert "sender:SCANNER1:calling_ae_title" not in {row["cause"] for row in open_ones(database)}


def test_a_certificate_near_its_end_and_a_full_disk_are_causes(database: Database, tmp_path: Path) -> None:
    files = CertificateAuthority(tmp_path / "ca").issue("gw", days=5)
    assert files.certificate is not None
    assert files.key is not None
    tls = ListenerTls(certificate=files.certificate, key=files.key)
    plain = settings_with(tmp_path)
    settings = plain.model_copy(update={"listener": Listener(tls=tls), "spool": Spool(reserve_bytes=10**18)})
    watch_of(database, settings)()
    assert {row["cause"]: row["severity"] for row in open_ones(database)} == {
        "certificate:listener.tls": "warning", "disk:reserve": "critical",
    }  # fmt: skip
    assert open_ones(database)[0]["severity"] == "critical"


def test_a_part_that_is_missing_is_an_alert_when_it_had_time_to_start(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_of(database, settings)
    watch()
    assert open_ones(database) == []
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    watch()
    assert {row["cause"] for row in open_ones(database)} == {
        "part:scp", "part:clock", "part:process", "part:transfer",
    }  # fmt: skip


def test_alerts_that_are_long_over_are_forgotten_with_their_messages(database: Database, settings: Settings) -> None:
    watch = watch_of(database, settings)
    go_down(database)
    watch()
    come_back(database)
    watch()
    watch.forget_old()
    assert len(over(database)) == 1
    with database.write() as connection:
        connection.execute(sa.update(tables.alert).values(resolved_at=1.0))
    watch.forget_old()
    with database.read() as connection:
        for table in (tables.alert, tables.alert_message):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


def eventually(look: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not look():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_smtp_server_that_hangs_holds_up_neither_the_clock_nor_the_other_channel(tmp_path: Path) -> None:
    with black_hole() as (port, taken), web_server(WebServer([200])) as server:
        settings = settings_with(tmp_path, email=mail_to(port), webhook=Webhook(url=server.url))
        database = Database(settings.database_url)
        database.upgrade()
        go_down(database)
        stopping = threading.Event()
        thread = threading.Thread(target=clock.run, args=(settings, stopping))
        thread.start()
        assert taken.wait(20)
        # the server has the connection and says nothing; a series that is due is judged all the same
        add_due_series(database)

        def state() -> str:
            with database.read() as connection:
                return str(connection.execute(sa.select(tables.series.c.state)).scalar_one())

        eventually(lambda: state() != SeriesState.RECEIVING)
        assert json.loads(server.posts.get(timeout=20)[1])["type"] == "alert.opened"
        messages = {one["channel"]: one for one in open_ones(database)[0]["messages"]}
        assert messages["email"]["ended_at"] is None
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()
        database.close()


def test_threads_of_channels_send_by_themselves(tmp_path: Path, smtp: SmtpServer) -> None:
    settings = settings_with(tmp_path, email=mail_to(smtp.port))
    database = Database(settings.database_url)
    database.upgrade()
    go_down(database)
    watch_of(database, settings)()
    with Messengers(database, settings):
        eventually(lambda: len(smtp.letters) == 1)
    database.close()


def test_a_change_that_another_clock_wrote_is_not_written_again(database: Database, settings: Settings) -> None:
    go_down(database)
    rules = Rules([Channel.EMAIL], 600.0, 86_400.0)
    watch_of(database, settings)()
    come_back(database)
    with database.read() as connection:
        found = alerts.changes(connection, [], rules)
    for _ in range(2):
        with database.write() as connection:
            alerts.write(connection, found, rules)
    (row,) = over(database)
    assert [one["change"] for one in row["messages"]] == ["opened", "resolved"]

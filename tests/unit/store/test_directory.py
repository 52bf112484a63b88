"""Senders and destinations of the database: versions, what the settings keep for themselves, who sees a change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import Destination, Settings
from gateway.settings.line import Listener
from gateway.settings.watch import Web
from gateway.store import destinations, directory_entries
from gateway.store.database import Database
from gateway.store.directory import Directory, with_entries
from gateway.store.directory_entries import InvalidEntry, Kind

PACS = {"ae_title": "PACS2", "host": "10.1.2.3", "port": 104}


@pytest.fixture
def settings() -> Settings:
    return Settings(
        listener=Listener(peers={"MR1": ["10.20.3.7"]}),
        destinations={"pacs": Destination(ae_title="PACS", host="127.0.0.1", port=11113)},
    )


def put_sender(database: Database, settings: Settings, title: str, *addresses: str, **options: Any) -> int:
    with database.write() as connection:
        entry = directory_entries.put_sender(
            connection, settings, title, {"addresses": addresses}, author="ada", **options
        )
    return entry.version


def put_destination(database: Database, settings: Settings, name: str, definition: dict[str, Any]) -> None:
    with database.write() as connection:
        directory_entries.put_destination(connection, settings, name, definition, author="ada")


def remove(database: Database, settings: Settings, kind: Kind, name: str) -> bool:
    with database.write() as connection:
        return directory_entries.remove(connection, settings, kind, name, author="ada")


def test_every_version_of_an_entry_is_kept(database: Database, settings: Settings) -> None:
    assert put_sender(database, settings, "CT1", "10.20.3.8") == 1
    assert put_sender(database, settings, "CT1", "10.20.3.8") == 1, "nothing changed"
    assert put_sender(database, settings, "CT1", "10.20.3.0/24", reason="moved\x00") == 2
    assert remove(database, settings, Kind.SENDER, "CT1")
    assert not remove(database, settings, Kind.SENDER, "CT1")
    assert not remove(database, settings, Kind.SENDER, "CT\x001")
    assert put_sender(database, settings, "CT1", "10.20.3.9") == 4
    with database.read() as connection:
        versions = directory_entries.history(connection, Kind.SENDER, "CT1")
        assert [entry.name for entry in directory_entries.entries(connection)] == ["CT1"]
    assert [one["definition"] and one["definition"]["addresses"] for one in versions] == [
        ["10.20.3.9/32"], None, ["10.20.3.0/24"], ["10.20.3.8/32"],
    ]  # fmt: skip
    assert versions[2]["author"] == "ada"
    assert versions[2]["reason"] == "moved "


def test_the_directory_has_the_settings_and_the_database(database: Database, settings: Settings) -> None:
    directory = Directory(settings, database)
    assert directory.settings.destinations == settings.destinations
    put_sender(database, settings, "CT1", "10.20.3.8")
    put_destination(database, settings, "pacs2", PACS)
    directory.refresh()
    assert directory.settings.listener.peers["CT1"] == ("10.20.3.8/32",)
    assert directory.settings.listener.peers["MR1"] == ("10.20.3.7/32",)
    assert directory.settings.destinations["pacs2"] == Destination(**PACS)
    assert set(directory.settings.destinations) == {"pacs", "pacs2"}
    assert directory.file is settings
    assert "pacs2" not in settings.destinations


def test_a_name_of_the_settings_is_theirs(database: Database, settings: Settings) -> None:
    put_sender(database, Settings(), "MR1", "10.99.0.1")
    put_destination(database, Settings(), "pacs", PACS)
    directory = Directory(settings, database)
    assert directory.settings.listener.peers["MR1"] == ("10.20.3.7/32",)
    assert directory.settings.destinations["pacs"].ae_title == "PACS"
    with pytest.raises(InvalidEntry, match=r"MR1 in \[listener.peers\] of the settings; change it there"):
        put_sender(database, settings, "MR1", "10.20.3.9")
    with pytest.raises(InvalidEntry, match=r"pacs in \[destinations\] of the settings"):
        put_destination(database, settings, "pacs", PACS)
    with pytest.raises(ConfigurationError, match=r"\[destinations\] of the settings; remove it there"):
        remove(database, settings, Kind.DESTINATION, "pacs")


def test_a_destination_that_is_not_known_yet_is_looked_for_at_once(database: Database, settings: Settings) -> None:
    directory = Directory(settings, database)
    put_destination(database, settings, "pacs2", PACS)
    found = directory.destination("pacs2")
    assert found is not None
    assert found.ae_title == "PACS2"
    assert directory.destination("pacs3") is None


def test_a_change_is_seen_by_those_who_follow(database: Database, settings: Settings) -> None:
    directory = Directory(settings, database)
    seen = threading.Event()
    with directory.followed(lambda: seen.set() if "CT1" in directory.settings.listener.peers else None):
        assert not seen.is_set()
        put_sender(database, settings, "CT1", "10.20.3.8")
        assert seen.wait(5)


def test_two_who_change_the_same_entry_do_not_undo_each_other(database: Database, settings: Settings) -> None:
    put_sender(database, settings, "CT1", "10.20.3.8", expected_version=0)
    put_sender(database, settings, "CT1", "10.20.3.9", expected_version=1)
    with pytest.raises(ConfigurationError, match="found version 2; expected version 1"):
        put_sender(database, settings, "CT1", "10.20.3.10", expected_version=1)


def test_changes_at_the_same_time_each_get_a_version(database: Database, settings: Settings) -> None:
    begin = threading.Barrier(4)
    failed: list[BaseException] = []

    def change(number: int) -> None:
        begin.wait()
        try:
            put_sender(database, settings, "CT1", f"10.20.3.{number}")
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failed.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with database.read() as connection:
        versions = directory_entries.history(connection, Kind.SENDER, "CT1")
    assert [one["version"] for one in versions] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("title", "addresses", "field"),
    [
        ("A NAME THAT IS TOO LONG", ["10.1.1.1"], "ae_title"),
        ("TAB\tTAB", ["10.1.1.1"], "ae_title"),
        ("", ["10.1.1.1"], "ae_title"),
        ("*", ["10.1.1.1"], "ae_title"),
        ("CT1", ["10.1.1"], "addresses.0"),
        ("CT1", [], "addresses"),
        ("CT1", [f"10.1.1.{number}" for number in range(33)], "addresses"),
    ],
)
def test_a_sender_that_cannot_be_is_refused_by_field(
    settings: Settings, title: str, addresses: list[str], field: str
) -> None:
    with pytest.raises(InvalidEntry) as refused:
        directory_entries.require_sender(settings, title, {"addresses": addresses})
    assert field in refused.value.problems


def test_allowing_adds_one_address_and_nothing_else(database: Database, settings: Settings) -> None:
    with database.write() as connection:
        directory_entries.put_sender(
            connection, settings, "CT1", {"addresses": ["10.1.1.1"], "note": "room 3"}, author="ada"
        )
        entry = directory_entries.allow(connection, settings, "CT1", "10.1.1.2", author="bob")
    assert dict(entry.definition) == {"addresses": ["10.1.1.1/32", "10.1.1.2/32"], "note": "room 3"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"port": 70000}, "port"),
        ({"port": "many"}, "port"),
        ({"host": ""}, "host"),
        ({"host": "pacs\x00.example.org"}, "host"),
        ({"tls": {"ca": "ca.pem", "server_name": "a\nb"}}, "tls.server_name"),
        ({"tls": "yes"}, "tls"),
        ({"colour": "red"}, "colour"),
        ({"quiet_hours": "late"}, "quiet_hours"),
        ({"transfer_syntax": "1.2.3"}, "transfer_syntax"),
        ({"tls": {"ca": "/etc/passwd"}}, "tls.ca"),
    ],
)
def test_a_destination_that_cannot_be_is_refused_by_field(
    settings: Settings, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidEntry) as refused:
        directory_entries.require_destination(settings, "pacs2", PACS | change)
    assert field in refused.value.problems, refused.value.problems


def test_files_of_a_destination_lie_in_the_folder_for_them(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir()
    (folder / "ca.pem").write_text("a certificate")
    (tmp_path / "secret").write_text("not for peers")
    (folder / "way-out").symlink_to(tmp_path / "secret")
    settings = Settings(web=Web(files_dir=folder))

    def with_ca(place: str) -> Destination:
        return directory_entries.require_destination(settings, "pacs2", PACS | {"tls": {"ca": place}})

    kept = with_ca("ca.pem").tls
    assert kept is not None
    assert kept.ca == folder / "ca.pem"
    for place in ("../secret", str(tmp_path / "secret"), "way-out", "absent.pem", ".", "x" * 300):
        with pytest.raises(InvalidEntry, match="found no such file"):
            with_ca(place)


def test_a_destination_in_use_stays(database: Database, settings: Settings, make_job: Callable[..., str]) -> None:
    put_destination(database, settings, "pacs2", PACS)
    make_job(destinations=("pacs2",))
    with database.read() as connection:
        users = destinations.users_of(connection, "pacs2")
        assert not destinations.users_of(connection, "pacs")
    assert "jobs that have not ended: 1" in users
    with pytest.raises(ConfigurationError, match="destination pacs2 is in use"):
        remove(database, settings, Kind.DESTINATION, "pacs2")


def test_an_entry_that_an_earlier_program_kept_is_left_out(database: Database, settings: Settings) -> None:
    put_destination(database, settings, "pacs2", PACS)
    with database.read() as connection:
        entries = directory_entries.entries(connection)
    old = replace(entries[0], name="pacs3", definition={"gone": 1})
    assert set(with_entries(settings, [*entries, old]).destinations) == {"pacs", "pacs2"}

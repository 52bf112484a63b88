"""Where each setting in use came from, and that no secret is shown, of settings that are yet to be declared too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from settings_words_of import WriteSettings

from gateway.settings import Settings, read_settings
from gateway.settings.origin import Given, effective

SECRET = "correct-horse"


class Later(BaseModel):
    """Settings that somebody may declare one day."""

    webhook: str = Field("", description="a webhook")
    smtp_password: str = ""
    client_secret: str | None = None
    api_keys: dict[str, str] = Field(default_factory=dict)
    proxy_urls: tuple[str, ...] = ()
    key: Path | None = None
    public_url: str = ""
    url_attempts: int = 3


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("webhook", f"https://hooks.example.org/services/{SECRET}", "https://hooks.example.org/… (not shown)"),
        ("webhook", f"https://hooks.example.org?token={SECRET}", "https://hooks.example.org/… (not shown)"),
        ("webhook", f"https://user:{SECRET}@hooks.example.org", "not shown"),
        ("webhook", f"postgresql://u:{SECRET}/w@host/db", "not shown"),
        ("webhook", f"https://[{SECRET}", "not shown"),
        ("smtp_password", SECRET, "not shown"),
        ("client_secret", SECRET, "not shown"),
        ("client_secret", None, "none"),
        ("api_keys", {"ris": SECRET}, "ris (not shown)"),
        ("proxy_urls", (f"http://u:{SECRET}@p",), "not shown"),
        ("key", Path("/tls/own.key"), "/tls/own.key"),
        ("public_url", "https://athanor.example.org:8443", "https://athanor.example.org:8443"),
        ("url_attempts", 5, "5"),
    ],
)
def test_what_may_be_secret_is_hidden_by_its_name(key: str, value: object, shown: str) -> None:
    row = next(one for one in effective(Later(**{key: value}), Given()) if one.key == key)
    assert row.value == shown
    assert SECRET not in str(row)


def test_each_setting_tells_its_source(write: WriteSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write('[listener]\nport = 2\n[destinations.pacs]\nae_title = "P"\nhost = "h"\nport = 104\n')
    monkeypatch.setenv("athanor_listener__port", "4")
    monkeypatch.setenv("ATHANOR_RETENTION", '{"files_days": 7}')
    settings = read_settings(file)
    rows = {row.key: row for row in effective(settings, settings.given)}
    assert (rows["listener.port"].value, rows["listener.port"].source) == ("4", "athanor_listener__port")
    assert rows["listener.address"].origin == "default"
    assert rows["destinations.pacs.host"].source == str(file.resolve())
    assert rows["destinations.pacs.host"].default == "empty"
    assert rows["destinations.pacs.label"].origin == "default"
    assert rows["retention.files_days"].source == "ATHANOR_RETENTION"
    assert rows["retention.failed_days"].origin == "default"
    given = [row.key for row in effective(settings, settings.given, only_given=True)]
    assert given == [
        "listener.port", "retention.files_days",
        "destinations.pacs.ae_title", "destinations.pacs.host", "destinations.pacs.port",
    ]  # fmt: skip


def test_every_declared_setting_is_there_with_its_help() -> None:
    rows = effective(Settings(), Given())
    assert {row.key.partition(".")[0] for row in rows} == set(Settings.model_fields)
    assert [row.key for row in rows if not row.help] == []


def test_a_file_that_was_changed_since_is_noticed(write: WriteSettings) -> None:
    file = write("[listener]\nport = 2\n")
    given = read_settings(file).given
    assert not given.is_old
    os.utime(file, ns=(1, 1))
    assert given.is_old
    file.unlink()
    assert given.is_old
    assert not Given().is_old

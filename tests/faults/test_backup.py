"""A backup is taken under load, the gateway is destroyed, restored and started: what was open comes to its end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from checker import check
from fault_fixtures import CountFault, MakeGateway, Tell
from load import AnswerLog, Load, Modality
from parts import Gateway
from pydicom.dataset import Dataset
from sqlalchemy.engine import make_url

from gateway.store.tables import instance


def athanor(gateway: Gateway, *arguments: str, expected: int = 0) -> str:
    """What a command says on standard output."""
    command = [sys.executable, "-m", "gateway", "--settings", str(gateway.settings_file), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == expected, ran.stderr
    return ran.stdout if expected == 0 else ran.stderr


def destroy_database(gateway: Gateway) -> None:
    """As on a disk that is lost."""
    url = make_url(gateway.settings.database_url)
    if gateway.server is None:
        for file in Path(str(url.database)).parent.glob("athanor.sqlite*"):
            file.unlink()
        return
    admin = sa.create_engine(
        make_url(gateway.server.url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {url.database} WITH (FORCE)"))
        connection.execute(sa.text(f"CREATE DATABASE {url.database}"))
    admin.dispose()


@pytest.mark.parametrize(("backend", "with_spool"), [("sqlite", True), ("postgresql", False)])
def test_what_was_saved_under_load_comes_to_its_end_after_a_restore(
    backend: str,
    with_spool: bool,
    make_gateway: MakeGateway,
    template: Dataset,
    answers: AnswerLog,
    tmp_path: Path,
    count_fault: CountFault,
    tell: Tell,
) -> None:
    gateway = make_gateway(backend)
    gateway.parts["process"].kill()  # what a result is made of after the backup is made, would be made twice
    copy = tmp_path / "copy"
    load = Load([Modality(gateway.port, "SCANNER", answers, 7)], template, lambda: load.series, 8)
    with load:
        while load.series < 3:
            time.sleep(0.05)
        manifest = json.loads(athanor(gateway, "backup", str(copy), "--json", *(["--spool"] if with_spool else [])))
        assert manifest["spool"] is None or not manifest["spool"]["missing"]
    services = [part for name, part in gateway.parts.items() if name != "database"]
    for part in services:
        part.kill()
    count_fault("kill", len(services))
    destroy_database(gateway)
    if with_spool:
        shutil.rmtree(gateway.settings.spool_dir)
    assert "files as they were" in athanor(gateway, "restore", str(copy))
    assert "expected none" in athanor(gateway, "restore", str(copy), expected=2)
    for part in services:
        part.start()
    gateway.wait_until_ready()
    database = gateway.database()
    with database.read() as connection:
        known = set(connection.execute(sa.select(instance.c.sop_instance_uid)).scalars())
    database.close()
    heard = [one for one in answers if not with_spool or one.sop_instance_uid in known]
    assert len(heard) >= 6
    gateway.drain(heard)
    report = check(gateway.settings, heard, {"pacs": gateway.pacs})
    tell(f"{backend} restored: {report.summary()}")
    report.require_kept()


def test_what_is_damaged_or_incomplete_is_not_restored(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gateway = make_gateway("sqlite")
    copy = tmp_path / "copy"
    athanor(gateway, "backup", str(copy))
    assert "expected an empty or a new folder" in athanor(gateway, "backup", str(copy), expected=2)
    for part in gateway.parts.values():
        part.kill()
    destroy_database(gateway)
    rules = copy / "rules.toml"
    rules.write_text(rules.read_text() + "# changed\n")
    assert "rules.toml is not what was saved" in athanor(gateway, "restore", str(copy), expected=2)
    (copy / "manifest.json").unlink()
    assert "expected a whole backup" in athanor(gateway, "restore", str(copy), expected=2)

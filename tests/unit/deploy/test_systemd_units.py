"""The systemd units, judged by systemd: they load, they are ordered, and they are sandboxed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
INSTALLED = "/opt/athanor/bin/athanor"
SERVICES = (
    "athanor-migrate.service",
    "athanor-clock.service",
    "athanor-transfer.service",
    "athanor-process@0.service",
    "athanor-scp.service",
    "athanor-web.service",
)
# systemd's own scale from 0 (closed) to 10 (unsafe); it calls 2 "OK"
MOST_EXPOSED = 2.0

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units in a folder of their own, with a program where they expect one."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    program = tmp_path / "athanor"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text().replace(INSTALLED, str(program)))
    return folder


def analyze(units: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    verified = analyze(units, "verify", "--man=no", "athanor.target", *SERVICES)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_would_find_something_wrong(units: Path) -> None:
    with (units / "athanor-.service.d" / "10-common.conf").open("a") as common:
        common.write("TimeoutStopSec=soon\n")
    assert "Failed to parse time value" in analyze(units, "verify", "--man=no", "athanor-scp.service").stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_sandboxed(units: Path, service: str) -> None:
    judged = analyze(units, "security", "--offline=true", "--no-pager", service).stdout
    level = re.search(r"Overall exposure level for .*: (\d+\.\d)", judged)
    assert level is not None, judged
    assert float(level[1]) <= MOST_EXPOSED

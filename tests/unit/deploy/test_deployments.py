"""Containers and units name commands and settings that there are, and start nothing that is open or has a password."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from gateway.__main__ import app
from gateway.metrics import PORT_OFFSETS
from gateway.settings import Settings, read_settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("athanor:")}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def check_command(words: list[str]) -> None:
    """Fail when the command line of today does not take `words`."""
    command = get_command(app)
    name, *rest = words
    group: Any = command
    _, found, _ = group.resolve_command(group.make_context("athanor", [], resilient_parsing=True), [name])
    found.make_context(name, rest)  # raises for an unknown option, or an argument that is missing


def test_every_part_has_a_container() -> None:
    assert {service["command"][0] for service in OURS.values()} == {"migrate", "scp", "clock", "worker", "web"}
    queues = {service["command"][-1] for service in OURS.values() if service["command"][0] == "worker"}
    assert queues == {"process", "transfer"}
    assert set(SERVICES) - set(OURS) == {"database", "redis", "rabbitmq"}


@pytest.mark.parametrize("name", OURS)
def test_a_container_runs_a_command_that_there_is(name: str) -> None:
    check_command(OURS[name]["command"])
    if name == "migrate":
        return
    kind, *words = OURS[name]["healthcheck"]["test"]
    assert kind == "CMD"
    assert words[0] == "athanor"
    check_command(words[1:])
    assert words[2] in PORT_OFFSETS
    role = OURS[name]["command"][-1] if OURS[name]["command"][0] == "worker" else OURS[name]["command"][0]
    assert words[2] == role, "its own health, not another's"


@pytest.mark.parametrize("name", OURS)
def test_the_environment_of_a_container_is_settings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [one for one in os.environ if one.startswith("ATHANOR_")]:
        monkeypatch.delenv(variable)
    for variable, value in OURS[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]*\}", "redis", value))
    (tmp_path / "settings.toml").write_text("")
    settings = read_settings(tmp_path / "settings.toml")  # refuses what it does not know
    assert settings.node.state_dir == Path("/var/lib/athanor")
    assert settings.database.url_file == Path("/run/secrets/database-url")
    assert settings.broker.url_file == Path("/run/secrets/redis-url")


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_closed(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].partition(":")[0] not in {"root", "0"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    if name != "migrate":
        assert "healthcheck" in service
    for port in service.get("ports", ()):
        assert name == "receiver" or port.startswith("127.0.0.1:"), "only the DICOM port is for the network"


def test_no_secret_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(
        r"(?i)(password|passwd|requirepass|default_pass)\S*\s*[:=]\s*['\"]?[a-z0-9]+['\"]?\s*$", text, re.M
    )
    named = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert named == set(COMPOSE["secrets"])
    assert not (DEPLOY / "secrets").exists() or "deploy/secrets/" in (ROOT / ".gitignore").read_text()


def test_the_secrets_are_random_and_made_once(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "make-secrets.sh").write_bytes((DEPLOY / "make-secrets.sh").read_bytes())
        subprocess.run(["bash", folder / "make-secrets.sh"], check=True)
        found = {file.name: file.read_text() for file in (folder / "secrets").iterdir()}
        assert {f"secrets/{one}" for one in found} == {secret["file"] for secret in COMPOSE["secrets"].values()}
        assert found["database-password"] in found["database-url"]
        assert found["broker-password"] in found["redis-url"]
        assert Settings(broker={"url": found["rabbitmq-url"]}).broker_url.startswith("amqp://")  # type: ignore[arg-type]
        assert subprocess.run(["bash", folder / "make-secrets.sh"], capture_output=True, check=False).returncode == 1
        made.append(found)
    assert all(made[0][name] != made[1][name] for name in made[0])


def test_every_profile_and_volume_is_there() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    assert profiles == {"redis", "rabbitmq", "gpu", "web"}
    mounted = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert mounted == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_the_image_is_built_of_what_is_locked_and_runs_as_nobody_special() -> None:
    assert len(re.findall(r"(?m)^FROM ", DOCKERFILE)) == 2
    (torch,) = set(re.findall(r"torch==([\d.]+)", DOCKERFILE))
    assert f"torch=={torch}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"(?m)^USER 10001:10001$", last)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for source in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE):
        for path in source.split():
            assert (ROOT / path).exists()
            assert f"!{path}" in ignored, "the context would not hold it"


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_there_is(unit: Path) -> None:
    (line,) = re.findall(r"(?m)^ExecStart=/opt/athanor/bin/athanor (.+)$", unit.read_text(encoding="utf-8"))
    check_command(shlex.split(line.replace("%i", "0")))


def test_prometheus_is_told_the_ports_of_the_processes() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = told["scrape_configs"]
    assert job["job_name"] == "athanor"
    for target in job["static_configs"]:
        role, _, number = target["labels"]["process"].partition("-")
        assert target["targets"] == [f"127.0.0.1:{9400 + PORT_OFFSETS[role] + int(number)}"]
    assert told["rule_files"] == ["alerts.yml"]

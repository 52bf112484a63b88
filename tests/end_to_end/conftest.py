"""A whole gateway, DCMTK as the modality, Orthanc and a small PACS as destinations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from behaviour import node, series
from browser import chromium, page
from modality import MakeGateway, Orthanc, WritePhantom, running_orthanc

from gateway.commands.phantom import write_phantom
from gateway.commands.sandbox import Sandbox, SmallPacs, free_port
from gateway.store.database import Database

__all__ = ["chromium", "node", "page", "series"]  # fixtures, too

TO_PACS_AND_ORTHANC = """
[[rules]]
name = "stir"
pipeline = "t2-to-stir"
destinations = ["pacs", "orthanc"]
when = { all = [{ attribute = "Modality", equals = "MR" }, { attribute = "EchoTime", greater = 70 }] }
"""


@pytest.fixture(scope="session")
def gateway_port() -> int:
    """The port of the shared gateway, known to Orthanc before the gateway starts."""
    return free_port()


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory, gateway_port: int) -> Iterator[Orthanc]:
    modalities = {"athanor": ["ATHANOR", "127.0.0.1", gateway_port]}
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), DicomModalities=modalities) as running:
        yield running


@pytest.fixture(scope="session")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallPacs]:
    """A destination of our own."""
    with SmallPacs(tmp_path_factory.mktemp("pacs")) as running:
        yield running


@contextmanager
def _gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeGateway]:
    started: list[Sandbox] = []

    def make(rules: str, **overrides: Any) -> Sandbox:
        folder = tmp_path_factory.mktemp("gw")
        (folder / "rules.toml").write_text(rules)
        sandbox = Sandbox(folder, overrides, folder / "rules.toml")
        started.append(sandbox)
        sandbox.start()
        return sandbox

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture(scope="module")
def make_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeGateway]:
    """Starts gateways with rules (TOML text) and settings; stops them with the module: each takes a gigabyte."""
    with _gateways(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def make_shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeGateway]:
    """The same for gateways that modules share; stops them in the end."""
    with _gateways(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def gateway(make_shared_gateway: MakeGateway, orthanc: Orthanc, pacs: SmallPacs, gateway_port: int) -> Sandbox:
    """A running gateway with both destinations, shared by the tests that leave it as it was."""
    return make_shared_gateway(
        TO_PACS_AND_ORTHANC,
        listener={"port": gateway_port},
        destinations={
            "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port, "iod": "source", "label": False},
            "orthanc": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port},
        },
    )


@pytest.fixture(scope="session")
def gateway_database(gateway: Sandbox) -> Iterator[Database]:
    database = gateway.database()
    yield database
    database.close()


_seeds = iter(range(1000, 9999))


@pytest.fixture
def phantom(tmp_path: Path) -> WritePhantom:
    """Writes the T2W series of a new virtual patient."""

    def write(slices: int = 8, **options: Any) -> list[Path]:
        seed = next(_seeds)
        return write_phantom(tmp_path / f"patient-{seed}", seed, slices=slices, **options)

    return write

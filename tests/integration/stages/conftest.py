"""A line of stages on each database, a small generator, and destinations that fail when told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit
import torch
from fault_pacs import FaultPacs
from safetensors.torch import save_file
from small_series import write_small_series
from stage_line import Line, MakePacs, Series, Start, destination

import pipelines
from gateway.commands.sandbox import free_port
from gateway.domain.rule_tables import rule_from_table
from gateway.settings import Destination, Settings
from gateway.settings.line import Deliver, Node, Process
from gateway.store import rulebook
from gateway.store.database import Database
from gateway.store.spool import Spool
from pipelines.networks import GENERATORS

RELEASED = Path(pipelines.__file__).resolve().parents[1] / "weights" / "t2-to-stir" / "manifest.toml"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released manifest with a generator of a few thousand parameters, which makes noise quickly."""
    folder = tmp_path_factory.mktemp("models")
    manifest = tomlkit.parse(RELEASED.read_text())
    parameters = {"in_channels": 1, "out_channels": 1, "ngf": 4, "downs": 3}
    torch.manual_seed(5)
    weights = {name: value.half() for name, value in GENERATORS["unet"](**parameters).state_dict().items()}
    (folder / "t2-to-stir").mkdir()
    file = folder / "t2-to-stir" / "generator.safetensors"
    save_file(weights, file)
    generator = manifest["generator"]
    generator["architecture"], generator["parameters"] = "unet", parameters
    generator["file"], generator["sha256"] = file.name, hashlib.sha256(file.read_bytes()).hexdigest()
    (file.parent / "manifest.toml").write_text(tomlkit.dumps(manifest))
    return folder


@pytest.fixture
def start(database: Database, tmp_path: Path, models: Path) -> Iterator[Start]:
    """Makes lines around `database`, or one of their own, in a folder, with destinations by name."""
    lines: list[Line] = []

    def make(
        *,
        folder: str = "state",
        reserve_bytes: int = 0,
        lease_s: float = 30.0,
        own_database: bool = False,
        **others: Destination,
    ) -> Line:
        destinations = others or {"pacs": destination()}
        settings = Settings(
            node=Node(state_dir=tmp_path / folder),
            process=Process(lease_s=lease_s),
            deliver=Deliver(
                first_retry_s=0.05, longest_retry_s=0.2, connect_timeout_s=1.0, response_timeout_s=1.0, give_up_s=60.0
            ),
            destinations=destinations,
            weights_dir=models,
        )
        on = database
        if own_database:
            on = Database(settings.database_url)
            on.upgrade()
        spool = Spool(settings.spool_dir, "scp", reserve_bytes)
        lines.append(Line.start(on, spool, settings))
        _to(lines[-1], *destinations)
        return lines[-1]

    yield make
    for line in lines:
        line.stop()


def _to(line: Line, *destinations: str) -> None:
    """One rule: every MR series to every destination."""
    table = {
        "name": "stir", "pipeline": "t2-to-stir", "destinations": list(destinations),
        "when": {"attribute": "Modality", "equals": "MR"},
    }  # fmt: skip
    with line.database.write() as connection:
        rulebook.apply(connection, [rule_from_table(table, "test")], author="test", reason="")


@pytest.fixture
def line(start: Start) -> Line:
    """A line whose only destination is down."""
    return start()


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Writes the series of a new patient."""
    seeds = iter(range(1, 1000))

    def write(slices: int = 4, **options: object) -> list[Path]:
        seed = next(seeds)
        return write_small_series(tmp_path / f"series-{seed}", seed, slices, **options)  # type: ignore[arg-type]

    return write


@pytest.fixture
def make_pacs() -> Iterator[MakePacs]:
    """Starts destinations that fail when told; `up=False` leaves one down."""
    made: list[FaultPacs] = []

    def make(*, up: bool = True, **options: object) -> FaultPacs:
        pacs = FaultPacs(free_port(), **options)  # type: ignore[arg-type]
        made.append(pacs)
        return pacs.start() if up else pacs

    yield make
    for pacs in made:
        pacs.stop()

"""Which runtime computes which model on this machine, as it was measured: a JSON file. Imports no torch.

A choice holds for one model (the digest of its weights), processor, number of threads and versions of the runtimes:
with any other of these nothing is known, and eager computes. A choice that stands is never replaced, because two
runtimes differ in the last bits of a voxel: who wants to measure again deletes the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

EAGER = "eager"
PAYS = 1.1  # a runtime has to be that many times as fast as eager: the last bits of voxels do not change for less


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides which runtime is the fastest, and what the last bits of its results are."""

    processor: str
    threads: int
    versions: Mapping[str, str]

    @classmethod
    def here(cls, threads: int) -> Machine:
        """This machine, working with `threads`."""
        return cls(_processor(), threads, {name: _version(name) for name in ("torch", "onnxruntime")})


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime of one model on one machine.

    difference      from eager, as a share of the range
    slices_per_s    by runtime, of the network alone
    """

    weights_sha256: str
    machine: Machine
    runtime: str
    difference: float
    slices_per_s: Mapping[str, float]


def chosen(choices: Sequence[Choice], weights_sha256: str, machine: Machine) -> str:
    """The runtime of the model on `machine`; "eager" where none was measured."""
    found = (each.runtime for each in choices if (each.weights_sha256, each.machine) == (weights_sha256, machine))
    return next(found, EAGER)


def read(path: Path) -> tuple[Choice, ...]:
    """The choices in the file at `path`; none when there is no file, or none of this form."""
    try:
        return tuple(_choice(each) for each in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def record(path: Path, measured: Sequence[Choice]) -> tuple[Choice, ...]:
    """Add to the file at `path` those of `measured` for which it has no choice yet; these. Raises OSError."""
    standing = read(path)
    known = [(each.weights_sha256, each.machine) for each in standing]
    added = tuple(each for each in measured if (each.weights_sha256, each.machine) not in known)
    if added:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps([asdict(each) for each in (*standing, *added)], indent=1), encoding="utf-8")
        part.replace(path)
    return added


def _choice(entry: Mapping[str, Any]) -> Choice:
    return Choice(**{**entry, "machine": Machine(**entry["machine"])})


def _version(package: str) -> str:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return ""


def _processor() -> str:
    """Its name; where that says little (an EPYC is many), also what it can do."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        about = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
        named = [about.get(key, "").strip() for key in ("model name", "cpu family", "model", "stepping")]
        if named[0]:
            wide = [flag for flag in ("avx2", "avx512f", "amx_tile") if flag in about.get("flags", "").split()]
            return " ".join(filter(None, (*named, *wide)))
    return platform.processor() or platform.machine()

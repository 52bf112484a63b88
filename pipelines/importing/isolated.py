"""Files from elsewhere are opened in a process of their own, with limits on memory, time and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import WeightsError

CHILD = Path(__file__).with_name("opener.py")
TENSORS, GRAPH = "tensors.safetensors", "generator.onnx"  # what the process leaves
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file and the process that opens it may take."""

    file_bytes: int = 1 << 30  # the largest generator of these code bases has 0.2 GB
    memory_bytes: int = 8 << 30  # of address space; torch alone takes 0.7 GB
    seconds: int = 120


def open_tensors(source: Path, folder: Path, limits: Limits, member: str = "") -> Path:
    """A safetensors file in `folder` with the tensors of the checkpoint `source`, or of `member` of that zip.

    Raises WeightsError when there is anything but tensors in it, or a limit was reached.
    """
    _run("tensors", source, folder, limits, member)
    return folder / TENSORS


def open_graph(source: Path, folder: Path, limits: Limits) -> tuple[Path, dict[str, Any]]:
    """A checked ONNX file in `folder` without external data, and what it takes and gives; raises WeightsError."""
    facts = _run("graph", source, folder, limits)
    return folder / GRAPH, facts


def _run(task: str, source: Path, folder: Path, limits: Limits, member: str = "") -> dict[str, Any]:
    """What the process answers. It gets no environment, no standard input, and writes into `folder` only."""
    size = source.stat().st_size
    if size > limits.file_bytes:
        raise WeightsError(f"{source}: found {size} bytes, expected at most {limits.file_bytes}")
    sizes = map(str, (limits.file_bytes, limits.memory_bytes, limits.seconds))
    command = [sys.executable, "-I", str(CHILD), task, str(source.resolve()), str(folder), *sizes, member]
    environment = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file; the rest are its arguments
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=limits.seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{source}: not opened within {limits.seconds} s") from error
    answer = folder / "answer.json"
    try:
        with answer.open("rb") as file:
            content = json.loads(file.read(_ANSWER_BYTES))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{source}: not opened: its process {_ending(done.returncode)}") from error
    if "refused" in content:
        raise WeightsError(f"{source}: {content['refused']}")
    return dict(content)


def _ending(code: int) -> str:
    """How a process ended that left no answer."""
    if code >= 0:
        return f"ended with code {code}"
    return f"was ended by {signal.Signals(-code).name}, as happens at a limit of memory or time"

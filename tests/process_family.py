"""A process and all that it started."""

from __future__ import annotations

import contextlib
import subprocess

import psutil


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process, then every one below it, and return when all are gone."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends by itself when it sees that
            child.kill()
    process.wait(30)
    psutil.wait_procs(family, timeout=30)

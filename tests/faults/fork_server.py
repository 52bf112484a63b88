"""Starts processes of a gateway in tens of milliseconds: forks of one that has imported the whole program.

What runs in the fork is ``python -m gateway ...`` from its first line on. Half the time of a run would go into imports
without this, and most kills would hit them.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Forked:
    """A process that the fork server started, with what is needed of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self._descriptor = os.pidfd_open(pid)
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._descriptor], [], [], 0)[0]:
            self.returncode = self._server.reap(self.pid)
            os.close(self._descriptor)
        return self.returncode

    def wait(self, timeout_s: float) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self._descriptor], [], [], timeout_s)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout_s)
        code = self.poll()
        assert code is not None
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def write_stacks(self) -> None:
        """Let it write into its log what each of its threads is doing."""
        self._signal(signal.SIGUSR1)

    def _signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._descriptor, number)


class ForkServer:
    """The process that forks, for the length of the block. It and its forks die with the tests, however they end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._ask({}) == 0, "the fork server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> Forked:
        """A process of ``python -m gateway`` with these arguments and this environment."""
        wanted = {"arguments": list(arguments), "environment": dict(environment), "log": str(log_file)}
        return Forked(self, self._ask(wanted))

    def reap(self, pid: int) -> int:
        """The exit code of a process that has ended."""
        return self._ask({"reap": pid})

    def _ask(self, question: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main() -> None:
    """Read a question a line, answer each with a number."""
    import torch  # noqa: F401 - so that no fork pays for it

    import gateway.__main__
    import gateway.commands.service
    import gateway.services.clock
    import gateway.services.models
    import gateway.services.scp
    import gateway.services.worker  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        question = json.loads(line)
        if "reap" in question:
            _, status = os.waitpid(question["reap"], 0)
            answer = os.waitstatus_to_exitcode(status)
        elif "arguments" in question:
            answer = os.fork()
            if answer == 0:
                _become(question["arguments"], question["environment"], question["log"])
        else:
            answer = 0
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _become(arguments: list[str], environment: dict[str, str], log_file: str) -> None:
    """In the fork: be that process until its end."""
    code = 1
    try:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["athanor", *arguments]
        from gateway.__main__ import main as athanor

        athanor()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    except BaseException:  # noqa: BLE001 - whatever it was, the log of the process says it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

"""The command line as a user sees it: arguments in, standard output, standard error and exit code out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from gateway.__main__ import main
from gateway.commands.sandbox import free_port


@dataclass(frozen=True, slots=True)
class Ran:
    """What one call of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


def athanor(*arguments: object) -> Ran:
    """Call ``athanor`` in this process, from its entry point on; both streams are pipes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    kept, sys.argv = sys.argv, ["athanor", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        sys.argv = kept
    return Ran(code, out.getvalue(), err.getvalue())


def write_settings(folder: Path, rules: str = "", **sections: Mapping[str, Any]) -> Path:
    """A settings file on free ports with its state beside it, and its rules; `sections` come on top."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "node": {"state_dir": "state"},
        "listener": {"port": free_port()},
        "spool": {"reserve_bytes": 0},
        "process": {"device": "cpu"},
        "deliver": {"connect_timeout_s": 1.0},
        "destinations": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}},
    }
    for section, table in sections.items():
        values[section] = {**values.get(section, {}), **table}
    (folder / "settings.toml").write_text(tomlkit.dumps(values), encoding="utf-8")
    (folder / "rules.toml").write_text(rules, encoding="utf-8")
    return folder / "settings.toml"


Athanor = Callable[..., Ran]

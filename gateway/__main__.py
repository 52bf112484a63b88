"""The command line: ``athanor COMMAND``.

A module of `gateway.commands` is imported when one of its commands is called: `athanor --help` loads none of them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from gateway.commands import console
from gateway.errors import AthanorError, ConfigurationError
from pipelines.errors import PipelineError

COMMANDS = {
    "The gateway": {
        "up": ("service", "Run the whole gateway, until SIGTERM or Ctrl-C."),
        "status": ("status", "Is it well, and if not, what to do."),
        "refusals": ("refusals", "Who was not let in, why, and what lets him in."),
        "doctor": ("doctor", "Check what it needs: ports, disk, database, weights, destinations ..."),
        "settings": ("settings", "The settings in use, their defaults, and where each came from."),
        "jobs": ("jobs", "What became of each series, and why; cancel, run, send, route again."),
        "alerts": ("alerts", "What needs somebody, one for each cause; send a test message."),
        "senders": ("senders", "Who may call; let an AE title in, or out, without a restart."),
        "destinations": ("destinations", "How each destination stands; hold it, let it go, add, remove."),
        "retain": ("retain", "Delete what is old and every destination has, or say what that is."),
        "backup": ("backup", "Save database, rules, settings and, if wanted, the spool, while everything runs."),
        "restore": ("backup", "Begin again from what `backup` saved."),
        "pipelines": ("pipelines", "What is installed and how it fares; disable, enable, test."),
        "weights": ("weights", "Bring in weights of other code bases; check those that are installed."),
        "rules": ("rules", "Which series go through which pipeline: list, test, apply."),
        "token": ("token", "Let a sender in that stores over HTTP."),
        "users": ("users", "Who may use the web port; a new password for who forgot it."),
    },
    "Without a gateway": {
        "demo": ("demo", "See it work: a T2W series goes in, a synthetic STIR series comes back."),
        "run": ("run", "Run a pipeline on a folder of series."),
        "send": ("send", "Send DICOM files with C-STORE."),
        "echo": ("send", "Ask an application entity with C-ECHO whether it is there."),
        "phantom": ("phantom", "Write a series of a virtual patient."),
        "bench": ("bench", "Measure this machine."),
        "study": ("study", "Repeat a published study on virtual patients."),
    },
    "One process each, for systemd and containers": {
        "migrate": ("service", "Bring the database up to date."),
        "scp": ("service", "Receive."),
        "clock": ("service", "Close series, announce work, take back what was lost."),
        "worker": ("service", "Run generators, or route and deliver."),
        "web": ("service", "Take instances over HTTP (STOW-RS)."),
        "healthcheck": ("healthcheck", "Does a process of this host give signs of life."),
    },
}


class _Commands(TyperGroup):
    """Lists every command, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for panel, commands in COMMANDS.items():
            for name, (_, words) in commands.items():
                self.add_command(TyperCommand(name, help=words, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        for commands in COMMANDS.values():
            if args[0] in commands:
                module, _ = commands[args[0]]
                self.add_command(_load(module, args[0]))
        return super().resolve_command(ctx, args)


def _load(module: str, command: str) -> Any:
    loaded = typer.Typer()
    loaded.callback()(lambda: None)
    import_module(f"gateway.commands.{module}").add_to(loaded)
    return get_group(loaded).commands[command]


app = typer.Typer(name="athanor", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(version("athanor"))
        raise typer.Exit


@app.callback()
def options(
    settings: Annotated[
        Path | None, typer.Option(help="settings file; default $ATHANOR_SETTINGS, then settings.toml here")
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """A DICOM node that turns received series into clearly marked synthetic series.

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 not found, 4 unhealthy.
    """
    console.chosen.settings_file = settings


def main() -> None:
    """Entry point: our own errors, and those of the system, as words and exit codes."""
    try:
        app(prog_name="athanor")
    except ConfigurationError as error:
        console.say(str(error), style="red", to=console.err)
        sys.exit(console.USAGE)
    except (AthanorError, PipelineError) as error:
        console.say(str(error), style="red", to=console.err)
        sys.exit(console.FAILED)
    except OSError as error:
        console.say(f"{error.filename or 'athanor'}: {error.strerror or error}", style="red", to=console.err)
        sys.exit(console.FAILED)


if __name__ == "__main__":
    main()

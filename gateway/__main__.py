"""The command line: ``athanor COMMAND``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import bench, console, demo, doctor, jobs, phantom, rules, run, send, service, status
from gateway.errors import AthanorError, ConfigurationError

app = typer.Typer(
    name="athanor",
    help="A DICOM node that turns received series into clearly marked synthetic series.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    settings: Annotated[
        Path | None, typer.Option(help="Settings file; default $ATHANOR_SETTINGS, then settings.toml here.")
    ] = None,
) -> None:
    console.chosen.settings_file = settings


@app.command("version")
def print_version() -> None:
    """Print the version."""
    console.out.print(version("athanor"))


for group in (service, demo, run, send, status, jobs, rules, doctor, phantom, bench):
    group.add_to(app)


def main() -> None:
    """Entry point: our own errors as words and exit codes."""
    try:
        app()
    except ConfigurationError as error:
        console.err.print(str(error), style="red", markup=False)
        sys.exit(console.USAGE)
    except AthanorError as error:
        console.err.print(str(error), style="red", markup=False)
        sys.exit(console.FAILED)


if __name__ == "__main__":
    main()

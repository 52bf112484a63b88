"""``athanor pipelines``: what is installed and how it fares; disable a pipeline, enable it, test it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, label, say, show_table
from gateway.domain.roles import Role
from gateway.store import installed, people, switches
from gateway.store.people import Somebody
from pipelines.catalog import Catalog
from pipelines.spec import PipelineSpec

app = typer.Typer(help="What is installed and how it fares; disable a pipeline, enable it, test it.")

Id = Annotated[str, typer.Argument(metavar="PIPELINE", help="id of a pipeline, such as t2-to-stir")]


@app.callback(invoke_without_command=True)
def default(context: typer.Context) -> None:
    """What is installed and how it fares; disable a pipeline, enable it, test it."""
    if context.invoked_subcommand is None:
        list_pipelines()


@app.command("ls")
def list_pipelines(json: Json = False) -> None:
    """List the pipelines: whether they may be used, are intact and loaded, the rules that use them, their jobs."""
    with console.database() as database, database.read() as connection:
        rows = installed.pipelines(connection, console.settings())
    if json:
        console.show_json(rows)
        return
    show_table(
        ("pipeline", "version", "state", "weights", "loaded by", "rules", "jobs of 7 days"),
        [
            (
                row["id"],
                row["version"],
                "enabled"
                if row["enabled"]
                else "disabled"
                if row["enabled_in_manifest"]
                else "disabled in its manifest",
                "wrong" if row["digest_problem"] else "verified",
                ", ".join(one["process"] for one in row["workers"] if one["alive"] and one["loaded"]) or "nobody",
                ", ".join(rule["name"] for rule in row["rules"]),
                ", ".join(f"{number} {state}" for state, number in sorted(row["jobs"].items())),
            )
            for row in rows
        ],
    )


@app.command("show")
def show(pipeline: Id, json: Json = False) -> None:
    """Show one pipeline: what it takes and gives, its standing, its jobs of 7 days and why series were refused."""
    _require_known(pipeline)
    with console.database() as database, database.read() as connection:
        row = installed.pipeline(connection, console.settings(), pipeline)
    assert row is not None, "it is in the catalog"
    if json:
        console.show_json(row)
    else:
        _print(row)


def _print(row: dict[str, Any]) -> None:
    say(f"{row['id']} {row['version']}: {row['title']}", style="bold")
    if not row["enabled_in_manifest"]:
        say("disabled in its manifest", indent=2)
    if row["switch"]:
        say(switches.Switch(**row["switch"]).words, indent=2)
    say(row["digest_problem"] or f"sha256 {row['sha256']} verified", indent=2)
    for words in filter(None, (row["intended_use"], row["caution"])):
        say(words, indent=2)
    for name, value in row["facts"]:
        say(f"{name}: {value}", indent=2)
    for one in row["inputs"]:
        say(f"takes {one['role']}: " + "; ".join(f"{name} {value}" for name, value in one["needs"]), indent=2)
    for one in row["workers"]:
        standing = one["error"] or ("warm" if one["warm"] else "loaded" if one["loaded"] else "not loaded")
        standing += f", computed by {one['runtime']}" if one["runtime"] else ""
        say(f"{one['process']} on {one['device']}: {standing if one['alive'] else 'no sign of life'}", indent=2)
    for rule in row["rules"]:
        say(f"rule {rule['name']}@{rule['version']}: {'enabled' if rule['enabled'] else 'disabled'}", indent=2)
    for state, number in sorted(row["jobs"].items()):
        say(f"jobs of 7 days that are {state}: {number}", indent=2)
    for reason in row["refusals"]:
        say(f"refused {reason['jobs']} times for {reason['check']}, the last time: {reason['latest']}", indent=2)


@app.command("disable")
def disable(
    pipeline: Id, reason: Annotated[str, typer.Option(help="why, for whoever wonders")], json: Json = False
) -> None:
    """Make no new job with a pipeline; what waits for it waits on, what runs is finished."""
    spec = _require_known(pipeline)
    with console.database() as database, database.write() as connection:
        done = switches.disable(connection, pipeline, spec.version, by=console.operator(), reason=reason)
        if done:
            people.note(connection, _me(), "", "disabled a pipeline", pipeline, why=reason)
    _report(done, json, "disabled", pipeline, "disabled already; see `athanor pipelines show`")


@app.command("enable")
def enable(pipeline: Id, json: Json = False) -> None:
    """Let a pipeline be used again; the jobs that waited run at once."""
    _require_known(pipeline)
    with console.database() as database, database.write() as connection:
        done = switches.enable(connection, pipeline)
        if done:
            people.note(connection, _me(), "", "enabled a pipeline", pipeline)
    _report(done, json, "enabled", pipeline, "not disabled")


def _me() -> Somebody:
    """Whoever may give commands on this machine may do what an administrator may."""
    return Somebody(console.operator(), Role.ADMINISTRATOR)


def _report(done: bool, json: bool, what: str, pipeline: str, otherwise: str) -> None:
    if json:
        console.show_json({what: done})
    else:
        say(f"{pipeline} is {what if done else otherwise}")
    if not done:
        raise typer.Exit(console.FAILED)


@app.command("test")
def try_out(pipeline: Id, json: Json = False) -> None:
    """Load a pipeline here and run it on a made-up image. Exit code 1 when it does not do as it should."""
    spec = _require_known(pipeline)
    from gateway.services.models import Models  # loads torch
    from pipelines.self_test import self_test

    settings = console.settings()
    steps = list(self_test(spec, Models(settings.process, 0, settings.runtimes_file).load_anew))
    if json:
        console.show_json([asdict(step) for step in steps])
    else:
        for step in steps:
            say(step.found, mark=(TICK if step.passed else CROSS) + label(step.name))
    if not all(step.passed for step in steps):
        raise typer.Exit(console.FAILED)


def _require_known(pipeline: str) -> PipelineSpec:
    catalog = Catalog.read(console.settings().models_dir)
    if pipeline not in catalog:
        known = ", ".join(catalog) or "none"
        console.fail(f"found no pipeline {pipeline!r}; expected one of: {known}", console.NOT_FOUND)
    return catalog[pipeline]


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="pipelines")

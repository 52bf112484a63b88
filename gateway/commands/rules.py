"""``athanor rules``: list, test, apply and export the routing rules."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, out, say, show_table
from gateway.dicom.header import Attributes, read_attributes
from gateway.dicom.loop_guard import find_marks
from gateway.dicom.provenance import own_identity
from gateway.domain.conditions import AssociationFacts
from gateway.domain.rules import Outcome, Rule, Selection, select
from gateway.domain.traces import Trace
from gateway.errors import NotDicom
from gateway.store import rulebook
from gateway.store.rules_file import format_rules, read_rules

app = typer.Typer(help="Which series go through which pipeline: list, test, apply.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RULE", help="name of a rule in force")]

_OUTCOMES = {
    Outcome.WON: "[green]wins[/green]",
    Outcome.SHADOWED: "[yellow]matches, but a rule above won[/yellow]",
    Outcome.NOT_MATCHED: "[red]does not match[/red]",
    Outcome.DISABLED: "[dim]disabled[/dim]",
    Outcome.GAVE_UP: "[yellow]gave up[/yellow]",
    Outcome.PIPELINE_DISABLED: "[yellow]its pipeline is disabled[/yellow]",
}


@app.command("ls")
def list_rules(json: Json = False) -> None:
    """List the rules in force, in the order in which they are asked."""
    with console.database() as database, database.read() as connection:
        versions = rulebook.active(connection)
    if json:
        console.show_json(
            [
                {"name": v.rule.name, "version": v.version, "enabled": v.rule.enabled, "pipeline": v.rule.pipeline,
                 "destinations": list(v.rule.destinations), "priority": v.rule.priority}
                for v in versions
            ]
        )  # fmt: skip
        return
    if not versions:
        say("no rules; apply a file with `athanor rules apply FILE`")
        return
    show_table(
        ("rule", "version", "enabled", "pipeline", "destinations", "description"),
        [
            (
                version.rule.name,
                str(version.version),
                "yes" if version.rule.enabled else "no",
                version.rule.pipeline,
                ", ".join(version.rule.destinations),
                version.rule.description,
            )
            for version in versions
        ],
    )


@app.command("test")
def test_rules(
    path: Annotated[Path, typer.Argument(help="a DICOM file, or a folder of one series", exists=True)],
    file: Annotated[Path | None, typer.Option("--rules", help="rules of this file instead of those in force")] = None,
    calling: Annotated[str, typer.Option(help="calling AE title to assume")] = "SCANNER",
    called: Annotated[str, typer.Option(help="called AE title to assume")] = "",
    address: Annotated[str, typer.Option(help="source address to assume")] = "127.0.0.1",
    json: Json = False,
) -> None:
    """Show which rule wins for a DICOM file, with a tick or a cross and the value found for each condition.

    Exit code 1 when the series would make no job.
    """
    settings = console.settings()
    rules = list(read_rules(file)) if file else _rules_in_force()
    attributes = _attributes(path)
    association = AssociationFacts(calling, called or settings.node.ae_title, address)
    selection = select(rules, attributes.lookup, association)
    blocked = find_marks(attributes, own_identity(settings), lambda _: False)
    if json:
        winners = [won.rule.name for won in selection.winners]
        console.show_json({"blocked": blocked, "winners": winners, **selection.to_table()})
    else:
        _print(selection, blocked)
    if blocked or not selection.winners:
        raise typer.Exit(console.FAILED)


@app.command("apply")
def apply_rules(
    file: Annotated[Path, typer.Argument(help="TOML file of rules", exists=True, dir_okay=False)],
    reason: Annotated[str, typer.Option(help="why, for the history")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check, say what would change, change nothing")] = False,
    json: Json = False,
) -> None:
    """Make the rules of a file the rules in force; what changed gets a new version, jobs keep theirs."""
    rules = read_rules(file)
    rulebook.require_usable(rules, console.settings_in_force())
    with console.database() as database, database.write() as connection:
        changes = rulebook.apply(connection, rules, author=getpass.getuser(), reason=reason or f"applied {file.name}")
        if dry_run:
            connection.rollback()
    if json:
        table = [{"name": change.name, "what": change.what, "version": change.version} for change in changes]
        console.show_json({"applied": not dry_run, "changes": table})
        return
    for change in changes:
        say(f"{change.name}@{change.version}", mark=console.label(change.what))
    if dry_run:
        say("dry run: nothing was changed")


@app.command("export")
def export_rules() -> None:
    """Print the rules in force as TOML."""
    with console.database() as database, database.read() as connection:
        rules = [version.rule for version in rulebook.active(connection)]
    typer.echo(format_rules(rules), nl=False)


@app.command("enable")
def enable_rule(name: Name) -> None:
    """Switch a rule on, if it can make jobs here."""
    _switch(name, enabled=True)


@app.command("disable")
def disable_rule(name: Name) -> None:
    """Switch a rule off; jobs that it made go on."""
    _switch(name, enabled=False)


def _switch(name: str, *, enabled: bool) -> None:
    settings = console.settings_in_force()
    with console.database() as database, database.write() as connection:
        if not rulebook.enable(connection, name, settings, enabled=enabled, author=getpass.getuser()):
            console.fail(f"found no rule {name!r}; see `athanor rules ls`", console.NOT_FOUND)
    say(f"{name} is {'enabled' if enabled else 'disabled'}")


def _rules_in_force() -> list[Rule]:
    with console.database() as database, database.read() as connection:
        return [version.rule for version in rulebook.active(connection)]


def _attributes(path: Path) -> Attributes:
    files = console.files_below(path)
    for file in files:
        try:
            return read_attributes(file)
        except NotDicom:
            continue
    return console.fail(f"{path}: found no DICOM file; expected one, or a folder of one series", console.NOT_FOUND)


def _print(selection: Selection, blocked: str | None) -> None:
    for evaluation in selection.evaluations:
        out.print(f"[bold]{evaluation.rule.name}[/bold]  {_OUTCOMES[evaluation.outcome]}")
        _print_trace(evaluation.trace, 2)
    for conflict in selection.conflicts:
        say(conflict, style="yellow")
    names = ", ".join(won.rule.name + (f" as {won.role}" if won.role else "") for won in selection.winners)
    if blocked:
        say(f"the series would end BLOCKED, whatever the rules say: {blocked}", style="red")
        return
    for won in selection.winners:
        others = [one.role for one in won.rule.inputs if one.role != won.role]
        if others:
            waits = f"{won.rule.name} waits up to {won.rule.wait_limit_s:g} s for {', '.join(others)} of the same study"
            say(f"{waits}; when they do not come, the rules behind it are asked")
    say(f"winner: {names}" if names else "no enabled rule matches: the series would be kept and shown as UNMATCHED")


def _print_trace(trace: Trace, indent: int) -> None:
    asked = " ".join(part for part in (trace.attribute, trace.operator.replace("_", " "), trace.expected) if part)
    found = trace.found and (f"found {trace.found}" if trace.attribute else trace.found)
    say(f"{asked}   {found}".rstrip(), mark=TICK if trace.matched else CROSS, indent=indent)
    for child in trace.children:
        _print_trace(child, indent + 4)


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="rules")

"""``athanor rules``: list, test, apply and export the routing rules."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gateway.commands import console
from gateway.commands.console import Json, out
from gateway.dicom.header import Attributes, read_attributes
from gateway.domain.conditions import AssociationFacts
from gateway.domain.rules import Outcome, Rule, Selection, select
from gateway.domain.traces import Trace
from gateway.errors import NotDicom
from gateway.store import rulebook
from gateway.store.rules_file import format_rules, read_rules

app = typer.Typer(help="Routing rules: which series go through which pipeline.", no_args_is_help=True)

_OUTCOMES = {
    Outcome.WON: "[green]wins[/green]",
    Outcome.SHADOWED: "[yellow]matches, but a rule above won[/yellow]",
    Outcome.NOT_MATCHED: "[red]does not match[/red]",
    Outcome.DISABLED: "[dim]disabled[/dim]",
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
    table = Table(box=None, pad_edge=False)
    for column in ("rule", "version", "enabled", "pipeline", "destinations", "description"):
        table.add_column(column, overflow="fold")
    for version in versions:
        rule = version.rule
        table.add_row(
            rule.name, str(version.version), "yes" if rule.enabled else "no", rule.pipeline,
            ", ".join(rule.destinations), rule.description,
        )  # fmt: skip
    out.print(table if versions else "no rules; apply a file with `athanor rules apply FILE`")


@app.command("test")
def test_rules(
    path: Annotated[Path, typer.Argument(help="a DICOM file, or a folder of one series", exists=True)],
    file: Annotated[Path | None, typer.Option("--rules", help="rules of this file instead of those in force")] = None,
    calling: Annotated[str, typer.Option(help="calling AE title to assume")] = "SCANNER",
    called: Annotated[str, typer.Option(help="called AE title to assume")] = "",
    address: Annotated[str, typer.Option(help="source address to assume")] = "127.0.0.1",
    json: Json = False,
) -> None:
    """Show which rule wins for a DICOM file, with a tick or a cross and the value found for each condition."""
    settings = console.settings()
    rules = list(read_rules(file)) if file else _rules_in_force()
    attributes = _attributes(path)
    association = AssociationFacts(calling, called or settings.node.ae_title, address)
    selection = select(rules, attributes.lookup, association)
    if json:
        console.show_json({"winners": [won.rule.name for won in selection.winners], **selection.to_table()})
    else:
        _print(selection)
    if not selection.winners:
        raise typer.Exit(console.FAILED)


@app.command("apply")
def apply_rules(
    file: Annotated[Path, typer.Argument(help="TOML file of rules", exists=True, dir_okay=False)],
    reason: Annotated[str, typer.Option(help="why, for the history")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check, say what would change, change nothing")] = False,
) -> None:
    """Make the rules of a file the rules in force; what changed gets a new version, jobs keep theirs."""
    rules = read_rules(file)
    rulebook.require_usable(rules, console.settings())
    with console.database() as database, database.write() as connection:
        changes = rulebook.apply(connection, rules, author=getpass.getuser(), reason=reason or f"applied {file.name}")
        if dry_run:
            connection.rollback()
    for change in changes:
        out.print(f"{change.what:<10}{change.name}@{change.version}")
    if dry_run:
        out.print("nothing was changed")


@app.command("export")
def export_rules() -> None:
    """Print the rules in force as TOML."""
    with console.database() as database, database.read() as connection:
        rules = [version.rule for version in rulebook.active(connection)]
    typer.echo(format_rules(rules), nl=False)


@app.command("enable")
def enable_rule(name: str) -> None:
    """Switch a rule on."""
    _switch(name, enabled=True)


@app.command("disable")
def disable_rule(name: str) -> None:
    """Switch a rule off; jobs that it made go on."""
    _switch(name, enabled=False)


def _switch(name: str, *, enabled: bool) -> None:
    with console.database() as database, database.write() as connection:
        if not rulebook.enable(connection, name, console.settings(), enabled=enabled, author=getpass.getuser()):
            console.fail(f"found no rule {name!r}; see `athanor rules ls`", console.NOT_FOUND)
    out.print(f"{name} is {'enabled' if enabled else 'disabled'}")


def _rules_in_force() -> list[Rule]:
    with console.database() as database, database.read() as connection:
        return [version.rule for version in rulebook.active(connection)]


def _attributes(path: Path) -> Attributes:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        try:
            return read_attributes(file)
        except NotDicom:
            continue
    return console.fail(f"{path}: found no DICOM file; expected one, or a folder of one series", console.NOT_FOUND)


def _print(selection: Selection) -> None:
    for evaluation in selection.evaluations:
        out.print(f"[bold]{evaluation.rule.name}[/bold]  {_OUTCOMES[evaluation.outcome]}")
        _print_trace(evaluation.trace, "  ")
    for conflict in selection.conflicts:
        out.print(conflict, style="yellow", markup=False)
    names = ", ".join(won.rule.name for won in selection.winners)
    out.print(f"winner: {names}" if names else "no rule matches: the series is kept and shown as UNMATCHED")


def _print_trace(trace: Trace, indent: str) -> None:
    mark = "[green]✓[/green]" if trace.matched else "[red]✗[/red]"
    asked = " ".join(part for part in (trace.attribute, trace.operator.replace("_", " "), trace.expected) if part)
    out.print(f"{indent}{mark} ", end="")
    out.print(asked + (f"   found {trace.found}" if trace.found else ""), markup=False)
    for child in trace.children:
        _print_trace(child, indent + "    ")


def add_to(main: typer.Typer) -> None:
    """Add these commands to the command line."""
    main.add_typer(app, name="rules")

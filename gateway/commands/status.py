"""``athanor status``: how the gateway is, on one screen."""

from __future__ import annotations

import shutil
from typing import Any

import typer
from rich.table import Table

from gateway.commands import console
from gateway.commands.console import Json, out
from gateway.store import heartbeats, reports

_STALE_AFTER_S = 15.0
_SHOWN = 10


def status(json: Json = False) -> None:
    """Show whether the gateway is well: processes, series, jobs, deliveries, refused instances, disk."""
    settings = console.settings()
    with console.database() as database, database.read() as connection:
        processes = heartbeats.all_of(connection)
        report: dict[str, Any] = {
            "counts": reports.counts(connection),
            "processes": [
                {
                    "process": beat.process,
                    "age_s": round(beat.age_s, 1),
                    "alive": beat.age_s < _STALE_AFTER_S,
                    **beat.detail,
                }
                for beat in processes
            ],
            "destinations": reports.waiting_deliveries(connection),
            "quarantine": reports.latest_quarantine(connection, _SHOWN),
        }
    disk = shutil.disk_usage(settings.node.state_dir)
    report["disk"] = {"free_bytes": disk.free, "reserve_bytes": settings.spool.reserve_bytes}
    report["problems"] = problems = _problems(report)
    if json:
        console.show_json(report)
    else:
        _print(report)
    if problems:
        raise typer.Exit(console.UNHEALTHY)


def _problems(report: dict[str, Any]) -> list[str]:
    """What an administrator has to do something about, in words."""
    found = [
        f"{process['process']} gave its last sign of life {process['age_s']:.0f} s ago; see its log, start it again"
        for process in report["processes"]
        if not process["alive"]
    ]
    alive = {process["process"].split("-")[0] for process in report["processes"] if process["alive"]}
    found += [
        f"no {kind} is running; run `athanor up`"
        for kind in ("scp", "clock", "process", "transfer")
        if kind not in alive
    ]
    if report["disk"]["free_bytes"] < report["disk"]["reserve_bytes"]:
        found.append("the spool has reached its reserve and refuses instances (0xA700); free some space")
    found += [
        f"{row['deliveries']} deliveries to {row['destination']} wait or failed: {row['error']}"
        for row in report["destinations"]
        if row["error"]
    ]
    return found


def _print(report: dict[str, Any]) -> None:
    if report["problems"]:
        for problem in report["problems"]:
            out.print(f"[red]✗[/red] {problem}", markup=True)
    else:
        out.print("[green]✓[/green] the gateway is well")
    table = Table(box=None, pad_edge=False)
    for column in ("process", "alive", "pid", "device"):
        table.add_column(column)
    for process in report["processes"]:
        alive = "yes" if process["alive"] else f"no, {process['age_s']:.0f} s"
        table.add_row(process["process"], alive, str(process.get("pid", "")), str(process.get("device", "")))
    out.print(table)
    counts = report["counts"]
    for what in ("series", "jobs", "deliveries"):
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts[what].items())) or "none"
        out.print(f"{what:<11}{states}")
    out.print(f"{'instances':<11}{counts['instances']}, {counts['quarantined']} refused or kept beside")
    out.print(f"{'disk':<11}{report['disk']['free_bytes'] / 1e9:.1f} GB free")
    for row in report["quarantine"]:
        out.print(
            f"  {console.local_time(row['at'])} {row['calling_ae_title']} 0x{row['status']:04X} {row['reason']}",
            markup=False,
        )


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(status)

"""``athanor status``: how the gateway is, on one screen."""

from __future__ import annotations

import typer

from gateway.commands import console
from gateway.commands.console import CROSS, TICK, Json, say, show_table
from gateway.domain.durations import duration
from gateway.store.health import Report, health


def status(json: Json = False) -> None:
    """Show whether the gateway is well: processes, series, jobs, deliveries, refused instances, disk.

    Each problem comes with what to do. Exit code 4 when there is one.
    """
    settings = console.settings()
    with console.database() as database, database.read() as connection:
        report = health(connection, settings)
    if json:
        console.show_json(report)
    else:
        _print(report)
    if report["problems"]:
        raise typer.Exit(console.UNHEALTHY)


def _print(report: Report) -> None:
    for problem in report["problems"]:
        say(problem, mark=CROSS)
    if not report["problems"]:
        say("the gateway is well", mark=TICK)
    if report["processes"]:
        show_table(
            ("process", "alive", "pid", ""),
            [
                (
                    process["process"],
                    "yes" if process["alive"] else f"no, for {duration(process['age_s'])}",
                    str(process.get("pid", "")),
                    _remark(process),
                )
                for process in report["processes"]
            ],
        )
    counts = report["counts"]
    for what in ("series", "jobs", "deliveries"):
        states = ", ".join(f"{number} {state}" for state, number in sorted(counts[what].items())) or "none"
        if what == "jobs" and counts["oldest_job_s"] is not None:
            states += f"; the oldest is open for {duration(counts['oldest_job_s'])}"
        say(states, mark=console.label(what))
    say(f"{counts['instances']}, {counts['quarantined']} refused or kept beside", mark=console.label("instances"))
    if commitments := report["commitments"]["counts"]:
        states = ", ".join(f"{number} {state}" for state, number in sorted(commitments.items()))
        say(states, mark=console.label("committed"))
    for row in report["quarantine"]:
        at = console.local_time(row["at"])
        say(f"{at} {row['calling_ae_title']} 0x{row['status']:04X} {row['reason']}", indent=11)
    for row in report["refusals"]:
        who = f"{row['calling_ae_title'] or 'somebody'} at {row['address']}, {row['count']} times"
        say(f"{console.local_time(row['last_at'])} {who}: {row['reason']}", mark=console.label("refused"))
        say(row["remedy"], indent=13, style="yellow")
    full_in = report["disk"]["full_in_days"]
    ahead = "" if full_in is None else f", at the rate of the last week full in {full_in:.0f} days"
    say(f"{report['disk']['free_bytes'] / 1e9:.1f} GB free{ahead}", mark=console.label("disk"))


def _remark(process: Report) -> str:
    """What there is to say of a process besides: its device, or which clock leads."""
    if "leads" in process:
        return "leads" if process["leads"] else "stands by"
    return str(process.get("device", ""))


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(status)

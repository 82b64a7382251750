"""`fleetaudit demo`: a throw-away fleet of real SSH hosts on loopback, audited by the real command."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from fleetaudit.cli.audit import command as audit
from fleetaudit.cli.console import say
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible


@click.command("demo")
@click.option("--output", default="demo-out", show_default=True, metavar="DIRECTORY", help="Where files go.")
def command(output: str) -> int:
    """Start six hosts on this machine's loopback with things planted on them, audit them, show what to try.

    Exit code 0 when the audit found what was planted (an audit of your own hosts that finds violations
    exits with 1).
    """
    from fleetaudit.demo.fleet import DemoFleet  # noqa: PLC0415  (start-up time)
    from fleetaudit.demo.plan import DemoError  # noqa: PLC0415  (likewise)

    folder = Path(output)
    say("starting the demo fleet …")
    try:
        starting = DemoFleet.start(folder)
    except (DemoError, OSError) as error:
        raise ConfigError(Problem(f"the demo fleet does not start: {error}")) from error
    with starting as fleet:
        for note in fleet.notes:
            say(f"note: {visible(note)}")
        arguments = [
            *("-i", str(fleet.inventory), "--known-hosts", str(fleet.known_hosts), "-p", str(fleet.policies)),
            *("-o", f"json={folder / 'report.json'}", "-o", f"csv={folder / 'report.csv'}"),
        ]
        say(f"$ fleetaudit audit {' '.join(arguments)}")
        with TemporaryDirectory(prefix="fleetaudit-") as state:  # not in the way of audits of other fleets
            code = audit.main(args=[*arguments, "--state", state], standalone_mode=False)
        planted = fleet.describe()
    if code not in (ExitCode.VIOLATIONS, ExitCode.COMPLIANT, ExitCode.INCOMPLETE):
        return int(code)
    click.echo("\nWhat was planted, and what the report says about it:")
    for host in planted:
        click.echo(f"  {host.name:<8} {visible(host.planted)}\n           → {visible(host.expected)}")
    click.echo(f"\nWritten to {folder}/: report.json, report.csv, inventory.yaml, known_hosts, policies/")
    click.echo("Look at the policies, then audit this machine:")
    click.echo(f"  .venv/bin/fleetaudit audit --local -p {folder}/policies/no-shell-listeners.yaml")
    click.echo("  .venv/bin/fleetaudit listeners --local")
    return ExitCode.COMPLIANT if code == ExitCode.VIOLATIONS else ExitCode.INCOMPLETE

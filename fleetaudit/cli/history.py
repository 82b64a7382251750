"""`fleetaudit history`: ask past runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fleetaudit.cli.storing import usual_place
from fleetaudit.history.reading import StoredHost, StoredRun, find_run, findings_of, hosts_of, runs
from fleetaudit.history.store import Store, open_store
from fleetaudit.report.record import encode
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

F = TypeVar("F", bound=Callable[..., Any])


def _shared(function: F) -> F:
    for decorator in (
        click.option("--format", "style", type=click.Choice(["text", "json"]), default="text"),
        click.option("--state", metavar="DIRECTORY", help="Where the usual file is."),
        click.option(
            "--store", default="", metavar="PATH|URL", help="The history (default: the usual file)."
        ),
    ):
        function = decorator(function)
    return function


@click.group("history")
def command() -> None:
    """Ask past runs, kept with --store: what changed, since when, who listened then."""


@command.command("runs")
@click.option("--last", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many.")
@_shared
def runs_command(*, last: int, store: str, state: str | None, style: str) -> int:
    """The runs, latest first."""
    with _open(store, state) as history, history.reading() as connection:
        found = runs(connection, last)
    for run in found:
        click.echo(encode(_run_row(run)) if style == "json" else _run_line(run))
    return ExitCode.COMPLIANT


@command.command("show")
@click.argument("run", default="latest")
@click.option("--host", help="Only this one, with every listener.")
@_shared
def show_command(*, run: str, host: str | None, store: str, state: str | None, style: str) -> int:
    """One run: its hosts and findings. RUN is an id or its beginning, latest, or latest~1: the one before."""
    with _open(store, state) as history, history.reading() as connection:
        found = find_run(connection, run)
        hosts = [it for it in hosts_of(connection, found) if host in (None, it.name)]
        findings = [it for it in findings_of(connection, found) if host in (None, it.host)]
    if style == "json":
        row = _run_row(found) | {
            "hosts": [_host_row(it) for it in hosts],
            "findings": [_slots(it) for it in findings],
        }
        click.echo(encode(row))
        return ExitCode.COMPLIANT
    click.echo(_run_line(found))
    statuses = Counter(it.status for it in hosts)
    click.echo(
        "hosts: " + (", ".join(f"{count} {name}" for name, count in sorted(statuses.items())) or "none")
    )
    for it in hosts:
        if it.detail:
            click.echo(visible(f"  {it.name}: {it.status}: {it.detail}"))
    for finding in findings:
        click.echo(
            visible(
                f"  {finding.verdict:8} {finding.severity:8} {finding.host}  "
                f"{finding.policy}/{finding.rule}  {finding.endpoint}: {finding.reason}"
            )
        )
    return ExitCode.COMPLIANT


def _open(store: str, state: str | None) -> Store:
    return open_store(usual_place(store, state), create=False)


def _run_line(run: StoredRun) -> str:
    counts = run.summary.get("results", {})
    hosts = run.summary.get("hosts", {})
    if not run.finished:
        return f"{visible(run.run_id)}  {visible(run.started_at)}  cut short while it was stored"
    reached = hosts.get("ok", 0) + hosts.get("partial", 0)
    words = ", ".join(
        f"{counts.get(name, 0)} {name}" for name in ("fail", "waived", "unknown", "error", "pass")
    )
    whole = "" if run.complete else ", interrupted"
    return (
        f"{visible(run.run_id)}  {visible(run.started_at)}  exit {run.exit_code}  "
        f"{reached} of {hosts.get('targeted', 0)} hosts{whole}  {words}"
    )


def _run_row(run: StoredRun) -> dict[str, object]:
    return {
        "run": run.run_id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "finished": run.finished,
        "complete": run.complete,
        "exit_code": run.exit_code,
        "summary": run.summary,
    }


def _host_row(host: StoredHost) -> dict[str, object]:
    return {"name": host.name, "status": host.status, "detail": host.detail, "looked_at": host.looked_at}


def _slots(value: Any) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__slots__}

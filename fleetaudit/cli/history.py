"""`fleetaudit history`: ask past runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from fleetaudit.cli.console import say
from fleetaudit.cli.history_export import command as export
from fleetaudit.cli.history_words import (
    comparison_row,
    counts,
    host_row,
    look_row,
    look_text,
    reached,
    run_line,
    run_row,
    say_missing,
    standing_row,
    standing_text,
)
from fleetaudit.cli.options import Finite
from fleetaudit.cli.storing import usual_place
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.history.comparing import compare
from fleetaudit.history.diff import fold
from fleetaudit.history.past import (
    Look,
    finished,
    judged,
    listening,
    looks,
    verdict_counts,
)
from fleetaudit.history.pruning import doomed, forget_snapshots, prune, with_snapshots
from fleetaudit.history.reading import find_run, findings_of, hosts_of, runs
from fleetaudit.history.standing import standing
from fleetaudit.history.store import Store, open_store
from fleetaudit.history.times import span
from fleetaudit.judgement import utc_now
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


_ALL = 10_000_000  # more runs than anybody keeps
_LAST = click.option(
    "--last", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many."
)


@click.group("history")
def command() -> None:
    """Ask past runs, kept with --store: what changed, since when, who listened then."""


@command.command("runs")
@_LAST
@_shared
def runs_command(*, last: int, store: str, state: str | None, style: str) -> int:
    """The runs, latest first."""
    with _reading(store, state) as connection:
        found = runs(connection, last)
    for run in found:
        click.echo(encode(run_row(run)) if style == "json" else run_line(run))
    return ExitCode.COMPLIANT


@command.command("show")
@click.argument("run", default="latest")
@click.option("--host", help="Only this one.")
@_shared
def show_command(*, run: str, host: str | None, store: str, state: str | None, style: str) -> int:
    """One run: its hosts and findings. RUN is an id or its beginning, latest, or latest~1: the one before."""
    with _reading(store, state) as connection:
        found = find_run(connection, run)
        hosts = [it for it in hosts_of(connection, found) if host in (None, it.name)]
        findings = [it for it in findings_of(connection, found) if host in (None, it.host)]
    if host is not None and not hosts:
        raise ConfigError(Problem(f"run {visible(found.run_id)} did not ask a host '{visible(host)}'"))
    if style == "json":
        rows = {"hosts": [host_row(it) for it in hosts], "findings": [asdict(it) for it in findings]}
        click.echo(encode(run_row(found) | rows))
        return ExitCode.COMPLIANT
    click.echo(run_line(found))
    statuses = Counter(it.status for it in hosts)
    click.echo(
        "hosts: " + (", ".join(f"{count} {name}" for name, count in sorted(statuses.items())) or "none")
    )
    for it in hosts:
        if it.detail:
            click.echo(visible(f"  {it.name}: {it.status}: {it.detail}"))
    for finding in findings:
        where = f"  {finding.endpoint}" if finding.endpoint else ""
        rule = f"{finding.policy}/{finding.rule}"
        line = f"  {finding.verdict:8} {finding.severity:8} {finding.host}  {rule}{where}: {finding.reason}"
        click.echo(visible(line))
    return ExitCode.COMPLIANT


@command.command("diff")
@click.argument("before", default="latest~1")
@click.argument("after", default="latest")
@click.option("--host", help="Only this one.")
@click.option("--by-host", is_flag=True, help="Host by host, instead of each change once.")
@click.option("--all", "everything", is_flag=True, help="Unix, raw, packet and vsock sockets too.")
@_shared
def diff_command(
    *,
    before: str,
    after: str,
    host: str | None,
    by_host: bool,
    everything: bool,
    store: str,
    state: str | None,
    style: str,
) -> int:
    """What changed between two runs: opened, closed, owner changed, newly leaked, user changed, newly public.

    \b
    Exit codes: 0 nothing, 1 something, 2 no such run, 3 nothing that was seen, but a host could not be
    compared, or was seen in part.
    """
    with _reading(store, state) as connection:
        old, new = find_run(connection, before), find_run(connection, after)
        found = compare(connection, old, new, host=host, everything=everything)
    if not found.compared and not found.missing:
        who = f"asked a host '{visible(host)}'" if host else "asked anybody"
        raise ConfigError(Problem(f"neither run {who}"))
    say_missing(found)
    if style == "json":
        click.echo(encode(comparison_row(old, new, found)))
    elif by_host:
        for name, some in found.changed.items():
            for change in some:
                click.echo(visible(f"{name}  {change}"))
    else:
        for drift in fold(found.changed.items()):
            click.echo(visible(str(drift)))
    if found.changed:
        return ExitCode.VIOLATIONS
    return ExitCode.INCOMPLETE if found.missing or found.partly else ExitCode.COMPLIANT


@command.command("listeners")
@click.argument("host")
@click.option("--port", type=click.IntRange(0, 65535), help="Only this port.")
@click.option("--at", "when", metavar="TIME", help="A day, 2026-11-17, or a moment, 2026-11-17T14:30:00Z.")
@_shared
def listeners_command(
    *, host: str, port: int | None, when: str | None, store: str, state: str | None, style: str
) -> int:
    """Who listened on HOST at that time (default: the last time it was asked): the last look before it.

    Of a day also every later look on that day that differs. Exit code 3 when the host had not been seen by
    then, or only in part.
    """
    first, last = span(when) if when else ("9999", "9999")
    with _reading(store, state) as connection:
        past = looks(connection, host)
        chosen = _chosen(past, first, last)
        found = [(look, listening(connection, look, port)) for look in chosen]
    shown: tuple[object, ...] = ()
    for look, listeners in found:
        mark = (look.status, *((it.words, it.holders) for it in listeners))
        if mark != shown:
            click.echo(
                encode(look_row(host, look, listeners))
                if style == "json"
                else look_text(host, look, listeners)
            )
        shown = mark
    if not found:
        earliest = past[0].looked_at if past else "never"
        say(f"{visible(host)} had not been asked by then; the first time was {earliest}")
        return ExitCode.INCOMPLETE
    later = next((it.looked_at for it in past if it.looked_at > found[-1][0].looked_at), None)
    if style == "text":
        say(f"next look: {later}" if later else "there was no later look")
    whole = all(look.status == "ok" for look, _ in found)
    return ExitCode.COMPLIANT if whole else ExitCode.INCOMPLETE


@command.command("since")
@click.argument("rule")
@click.argument("host")
@_shared
def since_command(*, rule: str, host: str, store: str, state: str | None, style: str) -> int:
    """Since when RULE (or POLICY/RULE) stands as it does on HOST, and when it was last good.

    Exit code 1 when it fails now, 3 when that is not known.
    """
    with _reading(store, state) as connection:
        past = judged(connection, rule, host)
    if not past:
        raise ConfigError(
            Problem(f"no whole run in the history judged '{visible(rule)}' on '{visible(host)}'")
        )
    found = standing(past)
    click.echo(
        encode(standing_row(rule, host, found)) if style == "json" else standing_text(rule, host, found)
    )
    codes = {
        "fail": ExitCode.VIOLATIONS,
        "unknown": ExitCode.INCOMPLETE,
        "error": ExitCode.INCOMPLETE,
    }
    return codes.get(found.now.verdict, ExitCode.COMPLIANT)


@command.command("trend")
@click.option("--rule", help="Hosts by verdict of this rule (or POLICY/RULE), instead of all results.")
@_LAST
@_shared
def trend_command(*, rule: str | None, last: int, store: str, state: str | None, style: str) -> int:
    """How counts went from run to run, earliest first; runs that were cut short are left out."""
    with _reading(store, state) as connection:
        if rule is None:
            rows = [(run, dict(run.summary.get("results", {}))) for run in finished(connection, last)]
        else:
            rows = list(verdict_counts(connection, rule, last))
    before: dict[str, int] | None = None
    for run, found in rows:
        if style == "json":
            click.echo(encode({"run": run.run_id, "started_at": run.started_at, "counts": found}))
        else:
            click.echo(f"{visible(run.started_at)}  {reached(run)}  {counts(found, before)}")
        before = found
    return ExitCode.COMPLIANT


@command.command("prune")
@click.option("--keep", type=click.IntRange(0, _ALL), metavar="N", help="Never the latest N whole runs.")
@click.option("--older-than", type=Finite(0, 1e6), metavar="DAYS", help="Only runs that began before that.")
@click.option(
    "--snapshots-older-than", type=Finite(0, 1e6), metavar="DAYS", help="Forget snapshots from before that."
)
@click.option("--dry-run", is_flag=True, help="Only say which.")
@_shared
def prune_command(
    *,
    keep: int | None,
    older_than: float | None,
    snapshots_older_than: float | None,
    dry_run: bool,
    store: str,
    state: str | None,
    style: str,
) -> int:
    """Delete old runs. With --keep and --older-than a run must be beyond the latest N and older than DAYS.

    What was cut short more than a day ago is deleted too. With --snapshots-older-than, alone or besides, the
    snapshots of older runs are: what was found stays, but `report` cannot write their reports again.
    """
    if keep is None and older_than is None and snapshots_older_than is None:
        raise ConfigError(Problem("prune: delete what?", hint="say --keep N or --older-than DAYS, or both"))
    if keep is None and older_than is None:
        keep = _ALL
    age = None if older_than is None else timedelta(days=older_than)
    with _open(store, state) as history:
        with history.reading() as connection:
            found = doomed(connection, utc_now(), keep=keep, older_than=age)
            count = len(runs(connection))
        for run in found:
            click.echo(encode(run_row(run)) if style == "json" else run_line(run))
        if not dry_run and found:
            prune(history, [run.key for run in found])
        if snapshots_older_than is not None:
            _forget_snapshots(history, utc_now() - timedelta(days=snapshots_older_than), dry_run=dry_run)
    done = "would be deleted" if dry_run else "deleted"
    say(f"{len(found)} of {count} runs {done}")
    return ExitCode.COMPLIANT


def _forget_snapshots(history: Store, before: datetime, *, dry_run: bool) -> None:
    with history.reading() as connection:
        number = with_snapshots(connection, before)
    if not dry_run:
        forget_snapshots(history, before)
    say(f"the snapshots of {number} runs {'would be' if dry_run else 'were'} forgotten")


command.add_command(export)


def _open(store: str, state: str | None) -> Store:
    return open_store(usual_place(store, state), create=False)


@contextmanager
def _reading(store: str, state: str | None) -> Iterator[Connection]:
    with _open(store, state) as history, history.reading() as connection:
        yield connection


def _chosen(past: list[Look], first: str, last: str) -> list[Look]:
    """The last look up to `first`, and every one after that up to `last`."""
    before = [it for it in past if it.looked_at <= first]
    return [*before[-1:], *(it for it in past if first < it.looked_at <= last)]

"""`fleetaudit policy explain`: why a rule says what it says of a host."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from fleetaudit.cli import explanation
from fleetaudit.cli.outputs import colour, width
from fleetaudit.cli.state import kept_run
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.inputs import contexts_of, open_snapshots, read_policies, read_waivers
from fleetaudit.judgement import moment, utc_now
from fleetaudit.model import Outcome, Verdict
from fleetaudit.policy.explain import explain, find_rule
from fleetaudit.saved import index
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_NAMED = 10  # hosts that a message names
_CODES = {
    Verdict.FAIL: ExitCode.VIOLATIONS,
    Verdict.UNKNOWN: ExitCode.INCOMPLETE,
    Verdict.ERROR: ExitCode.INCOMPLETE,
}


@click.command("explain")
@click.argument("host")
@click.argument("rule")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="SNAPSHOTS|RUN",
    help="A file of snapshots, or a kept run's id.",
)
@click.option(
    "-p",
    "--policy",
    "policies",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Policy file, or a directory of *.yaml; repeatable: all that apply count for `approved`.",
)
@click.option("-i", "--inventory", multiple=True, metavar="SOURCE", help="Groups and variables, instead.")
@click.option("--waivers", "accepted", multiple=True, metavar="FILE", help="Accepted violations.")
@click.option("--now", metavar="TIME", help="Waivers as of this time (2026-11-22T10:00:00Z).")
@click.option("--latest", is_flag=True, help="Of two snapshots of the host, explain the later.")
@click.option("--state", metavar="DIRECTORY", help="Where runs are kept.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    host: str,
    rule: str,
    *,
    source: str,
    policies: tuple[str, ...],
    inventory: tuple[str, ...],
    accepted: tuple[str, ...],
    now: str | None,
    latest: bool,
    state: str | None,
    style: str,
) -> int:
    """Explain a RULE on a HOST: each listener and owner, what matched or how nearly, what to do.

    RULE is a rule's id, or POLICY/ID. Exit code 0: it passes, is waived or not applicable; 1: it fails;
    3: unknown or an error.
    """
    loaded = read_policies(policies)
    policy, wanted = find_rule(loaded, rule)
    at = moment(now) if now else utc_now()
    waivers, _ = read_waivers(accepted, loaded, at)
    contexts, _ = contexts_of(inventory)
    with ExitStack() as stack:
        saved = _outcome(host, source, state, stack, latest=latest)
    outcome = derive(replace(saved, context=contexts.get(saved.host, saved.context)))
    found = explain(outcome, loaded, policy, wanted, waivers=waivers, now=at)
    shown = (
        explanation.as_json(found) if style == "json" else explanation.text(found, width(), colour=colour())
    )
    click.echo(shown, nl=False)
    return _CODES.get(found.result.verdict, ExitCode.COMPLIANT) if found.result else ExitCode.COMPLIANT


def _outcome(host: str, source: str, state: str | None, stack: ExitStack, *, latest: bool) -> Outcome:
    """The host's line in a file, or in a run that was kept."""
    if source == "-" or Path(source).exists():
        saved = index(open_snapshots([source], stack), latest=latest)
        return _of_host(host, source, [name for name, _ in saved.targets], saved)
    journal = stack.enter_context(kept_run(source, state))
    lines = (decode_line(line) for line in journal.lines_in_host_order())
    return _of_host(host, f"run {source}", sorted(journal.hosts), lines)


def _of_host(host: str, where: str, names: list[str], outcomes: Iterable[Outcome]) -> Outcome:
    if host in names:
        for outcome in outcomes:
            if outcome.host == host:
                return outcome
    near = difflib.get_close_matches(host, names, n=1)
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(map(visible, names[:_NAMED])) + more
    hint = f"did you mean {visible(near[0])}?" if near else f"hosts: {listed}"
    raise ConfigError(Problem(f"{visible(where)}: no host '{visible(host)}'", hint=hint))

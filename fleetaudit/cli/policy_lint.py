"""`fleetaudit policy lint`: what in a policy is wrong or surely a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import click

from fleetaudit import yamlio
from fleetaudit.cli.console import say
from fleetaudit.cli.lint_formats import FORMATS, Linted
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, PolicyError, Problem
from fleetaudit.inputs import contexts_of, open_snapshots, policy_files, read_bytes, read_policies
from fleetaudit.judgement import utc_now
from fleetaudit.policy.lint import lint
from fleetaudit.policy.lint.against import FleetUse
from fleetaudit.policy.model import Policy
from fleetaudit.saved import index
from fleetaudit.summary import ExitCode


@click.command("lint")
@click.argument("paths", nargs=-1, required=True, metavar="POLICY…")
@click.option("--format", "style", type=click.Choice(list(FORMATS)), default="text", show_default=True)
@click.option(
    "--against",
    "snapshots",
    multiple=True,
    metavar="SNAPSHOTS",
    help="Also say what is idle on all hosts of these: rules, allow entries, paths.",
)
@click.option(
    "-i",
    "--inventory",
    multiple=True,
    metavar="SOURCE",
    help="Groups and variables for --against, instead of the saved ones.",
)
def command(
    paths: tuple[str, ...], style: str, snapshots: tuple[str, ...], inventory: tuple[str, ...]
) -> int:
    """Check policy files and directories: every problem at once, with place and remedy.

    Exit code 1: something is surely a mistake; 2: a policy cannot be loaded.
    """
    if inventory and not snapshots:
        raise ConfigError(Problem("-i is for --against", hint="name snapshots with --against FILE"))
    policies, broken = _load(paths)
    fleet = _fleet(policies, snapshots, inventory) if snapshots else None
    found = Linted(
        broken=broken,
        questionable=tuple(problem for policy in policies for problem in _lint(policy, fleet)),
        policies=len(policies),
        rules=sum(len(policy.rules) for policy in policies),
    )
    click.echo(FORMATS[style](found), nl=False)
    count = len(found.everything)
    say(f"{found.policies} policies, {found.rules} rules, {count} problems")
    if broken:
        return ExitCode.USAGE
    return ExitCode.VIOLATIONS if count else ExitCode.COMPLIANT


def _fleet(policies: Sequence[Policy], snapshots: Sequence[str], sources: Sequence[str]) -> FleetUse:
    """What the policies do on the hosts of these files, taken in one by one."""
    fleet = FleetUse(policies)
    contexts, _ = contexts_of(sources)
    with ExitStack() as stack:
        for saved in index(open_snapshots(snapshots, stack)):
            fleet.add(derive(replace(saved, context=contexts.get(saved.host, saved.context))))
    if fleet.without_snapshot:
        say(f"warning: {fleet.without_snapshot} of {fleet.hosts} hosts have no snapshot and say nothing")
    return fleet


def _load(paths: Sequence[str]) -> tuple[tuple[Policy, ...], tuple[Problem, ...]]:
    """Every policy that loads, and all that keeps the others from loading."""
    files = policy_files(paths)
    try:
        return read_policies(files, bases=True), ()
    except PolicyError as error:
        broken = error.problems
    policies: list[Policy] = []
    for file in files:
        try:
            policies += read_policies([file])
        except ConfigError:
            continue  # among the problems already
    return tuple(policies), broken


def _lint(policy: Policy, fleet: FleetUse | None) -> tuple[Problem, ...]:
    data = read_bytes(policy.file)
    text = data.decode("utf-8-sig", "replace")
    return lint(yamlio.parse(data, policy.file), policy, text, utc_now().date(), fleet)

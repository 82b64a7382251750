"""`fleetaudit policy lint`: what in a policy is wrong or surely a mistake."""

from __future__ import annotations

import click

from fleetaudit import yamlio
from fleetaudit.cli.console import say
from fleetaudit.inputs import read_bytes, read_policies
from fleetaudit.policy.lint import lint
from fleetaudit.summary import ExitCode


@click.command("lint")
@click.argument("paths", nargs=-1, required=True, metavar="POLICY…")
def command(paths: tuple[str, ...]) -> int:
    """Check policy files and directories: every problem at once, with place and remedy."""
    policies = read_policies(paths)
    problems = [
        problem
        for policy in policies
        for problem in lint(yamlio.parse(read_bytes(policy.file), policy.file), policy)
    ]
    for problem in problems:
        click.echo(str(problem))
    rules = sum(len(policy.rules) for policy in policies)
    say(f"{len(policies)} policies, {rules} rules, {len(problems)} problems")
    return ExitCode.VIOLATIONS if problems else ExitCode.COMPLIANT

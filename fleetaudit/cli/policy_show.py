"""`fleetaudit policy show`: one policy, resolved."""

from __future__ import annotations

import click

from fleetaudit import schema
from fleetaudit.inputs import resolve_policy
from fleetaudit.policy.show import show
from fleetaudit.summary import ExitCode


@click.command("show")
@click.argument("path", metavar="POLICY")
def command(path: str) -> int:
    """Print a policy with all that it extends and includes, and where each rule is from.

    What is printed loads again, by itself, and means the same.
    """
    click.echo(schema.modeline("policy"))
    for line in show(resolve_policy(path)):
        click.echo(line)
    return ExitCode.COMPLIANT

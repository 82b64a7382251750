"""`fleetaudit policy learn`: a baseline policy from recorded hosts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.options import Finite
from fleetaudit.cli.recorded import RECORDED_STATE, open_recorded
from fleetaudit.cli.wholefile import write_whole
from fleetaudit.derive import derive
from fleetaudit.inputs import contexts_of
from fleetaudit.policy.learn import Learner
from fleetaudit.policy.learn_rules import Threshold
from fleetaudit.saved import index
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible


@click.command("learn")
@click.argument("recorded", nargs=-1, required=True, metavar="SNAPSHOTS|RUN…")
@click.option(
    "--group-by",
    type=click.Choice(["none", "inventory-group"]),
    default="none",
    show_default=True,
    help="Rules for all hosts, or for each set of inventory groups that tell hosts apart.",
)
@click.option("--output", metavar="FILE", help="Write the policy there instead of to standard output.")
@click.option("--name", default="baseline", show_default=True, help="The policy's name.")
@click.option(
    "--min-share",
    type=Finite(0, 100),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="Learn what so many of the hosts have; of 5 and more, two at least. 0: what any host has.",
)
@click.option("--allow-shells", is_flag=True, help="Learn shells as owners too; each entry says so.")
@click.option("-i", "--inventory", multiple=True, metavar="SOURCE", help="Groups, instead of the saved ones.")
@click.option("--latest", is_flag=True, help="Of two snapshots of one host, learn from the later.")
@RECORDED_STATE
def command(
    *,
    recorded: tuple[str, ...],
    group_by: str,
    output: str | None,
    name: str,
    min_share: float,
    allow_shells: bool,
    inventory: tuple[str, ...],
    latest: bool,
    state: str | None,
) -> int:
    """Write a baseline policy from recorded hosts: what listens there, nothing else.

    What few hosts have, and what no policy should trust, is in comments. Exit code 3: no host has a snapshot.
    """
    contexts, _ = contexts_of(inventory)
    with ExitStack() as stack:
        files, is_run = open_recorded(recorded, state, stack)
        saved = index(files, latest=latest or is_run)
        targets = [(host, contexts.get(host, context).groups) for host, context in saved.targets]
        learner = Learner(targets, group_by == "inventory-group", Threshold(min_share), allow_shells)
        seen = 0
        for outcome in saved:
            derived = derive(replace(outcome, context=contexts.get(outcome.host, outcome.context)))
            seen += derived.snapshot is not None
            learner.add(derived)
    if not seen:
        say("error: no host has a snapshot: there is nothing to learn from")
        return ExitCode.INCOMPLETE
    text = learner.policy(name)
    if output is None or output == "-":
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())
        say(f"{visible(output)}: learnt from {seen} of {len(targets)} hosts; review it before you use it")
    return ExitCode.COMPLIANT

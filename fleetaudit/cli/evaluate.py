"""`fleetaudit evaluate`: policies over saved snapshots, without SSH."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click

from fleetaudit.audit import moment, require_targets, within_age
from fleetaudit.cli.console import say
from fleetaudit.cli.files import open_snapshots, read_policies
from fleetaudit.cli.judging import conclude, describe_run, new_run_id, utc_now, warn_idle
from fleetaudit.cli.options import JUDGEMENT, Finite, Judging, pick
from fleetaudit.cli.outputs import parse_outputs
from fleetaudit.inventory import load
from fleetaudit.model import HostContext, Outcome, Source
from fleetaudit.saved import index
from fleetaudit.text import visible


@click.command("evaluate")
@click.argument("snapshots", nargs=-1, required=True, metavar="SNAPSHOTS…")
@JUDGEMENT
@click.option(
    "-i",
    "--inventory",
    multiple=True,
    metavar="SOURCE",
    help="Groups and variables, instead of the saved ones.",
)
@click.option("--latest", is_flag=True, help="Of two snapshots of one host, judge the later.")
@click.option("--max-age", type=Finite(0, 1e6), metavar="HOURS", help="Older snapshots are unknown.")
@click.option("--now", metavar="TIME", help="Judge as if it were this time (2026-11-22T10:00:00Z).")
def command(
    snapshots: tuple[str, ...],
    inventory: tuple[str, ...],
    latest: bool,
    max_age: float | None,
    now: str | None,
    **options: object,
) -> int:
    """Judge policies over saved snapshots: the same report and exit codes as the audit that took them."""
    judging = pick(Judging, options)
    policies = read_policies(judging.policies)
    outputs = parse_outputs(judging.outputs, quiet=judging.quiet)
    started = utc_now()
    judged_at = moment(now) if now else started
    contexts, sources = _contexts(inventory)

    def adjust(outcome: Outcome) -> Outcome:
        outcome = replace(outcome, context=contexts.get(outcome.host, outcome.context))
        return outcome if max_age is None else within_age(outcome, judged_at, timedelta(hours=max_age))

    with ExitStack() as stack:
        saved = index(open_snapshots(snapshots, stack), latest=latest)
        hosts = [(host, contexts.get(host, context)) for host, context in saved.targets]
        missing = sorted(set(contexts) - {host for host, _ in hosts})
        if missing:
            names = ", ".join(map(visible, missing[:10]))
            say(f"warning: {len(missing)} hosts of the inventory have no snapshot: {names}")
        counted = require_targets(policies, hosts)
        warn_idle(counted)
        recorded = {"fail_on": judging.fail_on, "latest": latest, "max_age": max_age, "now": now}
        run = describe_run(new_run_id(started), started, counted, sources, recorded)
        code, _ = conclude(saved, policies, run, judging, outputs, adjust=adjust)
        return code


def _contexts(sources: tuple[str, ...]) -> tuple[dict[str, HostContext], tuple[Source, ...]]:
    """What an inventory given now says of hosts; it overrides what was saved with their snapshots."""
    if not sources:
        return {}, ()
    inventory = load(sources, home=str(Path.home()))
    return {host.name: host.context for host in inventory.hosts}, inventory.sources

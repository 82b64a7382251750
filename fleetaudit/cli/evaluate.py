"""`fleetaudit evaluate`: policies over saved snapshots, without SSH."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import click

from fleetaudit.cli.console import say
from fleetaudit.cli.evidence import manifest_files, proof_of
from fleetaudit.cli.judging import against_baseline, conclude, judges_of, warn_idle
from fleetaudit.cli.noticing import noticing
from fleetaudit.cli.options import JUDGEMENT, Finite, Judging, pick
from fleetaudit.cli.outputs import parse_outputs
from fleetaudit.cli.storing import history_of
from fleetaudit.inputs import contexts_of, open_snapshots
from fleetaudit.judgement import adjusted, describe_run, new_run_id, require_targets, utc_now
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
def command(
    snapshots: tuple[str, ...],
    inventory: tuple[str, ...],
    latest: bool,
    max_age: float | None,
    **options: object,
) -> int:
    """Judge policies over saved snapshots: the same report and exit codes as the audit that took them."""
    judging = pick(Judging, options)
    outputs = parse_outputs(judging.outputs, quiet=judging.quiet, reserved=manifest_files(judging.manifest))
    history = history_of(judging.store, no_store=judging.no_store)
    notices = noticing(judging, history)
    proof = proof_of(judging.manifest, judging.sign, kept=history.place is not None)
    started = utc_now()
    judges = judges_of(judging, started)
    contexts, sources = contexts_of(inventory)
    judges = against_baseline(judges, judging, contexts)

    oldest = None if max_age is None else timedelta(hours=max_age)
    with ExitStack() as stack:
        saved = index(open_snapshots(snapshots, stack), latest=latest)
        hosts = [(host, contexts.get(host, context)) for host, context in saved.targets]
        missing = sorted(set(contexts) - {host for host, _ in hosts})
        if missing:
            names = ", ".join(map(visible, missing[:10]))
            say(f"warning: {len(missing)} hosts of the inventory have no snapshot: {names}")
        counted = require_targets(judges.policies, hosts)
        warn_idle(counted)
        recorded = {**judges.recorded, "latest": latest, "max_age": max_age, "now": judging.now}
        run = describe_run(
            new_run_id(started),
            started,
            counted,
            sources,
            recorded,
            waivers=judges.waiver_files,
            complete=saved.complete,
        )
        outcomes = adjusted(saved, contexts, oldest, judges.now)
        code, _ = conclude(
            outcomes,
            run,
            judges,
            outputs,
            include_pass=judging.include_pass,
            noticing=notices,
            inventory_given=bool(contexts),
            proof=proof,
        )
        return code

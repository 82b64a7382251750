"""`fleetaudit audit`: the main job."""

from __future__ import annotations

from collections.abc import Mapping

import click

from fleetaudit.cli.collect import lines_to
from fleetaudit.cli.evidence import manifest_files, proof_of
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.inventory import list_hosts
from fleetaudit.cli.judging import against_baseline, conclude, judges_of, warn_idle
from fleetaudit.cli.noticing import noticing
from fleetaudit.cli.options import (
    CONNECTION,
    JUDGEMENT,
    KEEPING,
    TARGETS,
    Connecting,
    Judging,
    Keeping,
    Targeting,
    pick,
)
from fleetaudit.cli.outputs import parse_outputs
from fleetaudit.cli.session import gather, targets
from fleetaudit.cli.state import recording
from fleetaudit.cli.storing import history_of
from fleetaudit.judgement import describe_run, require_targets, utc_now
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import ExitCode


@click.command("audit")
@TARGETS
@JUDGEMENT
@CONNECTION
@KEEPING
@click.option(
    "--snapshots", metavar="FILE", help="Keep the snapshots too, for `evaluate`, as `collect` writes them."
)
def command(snapshots: str | None, **options: object) -> int:
    """Ask every host that PATTERN selects who listens there, judge the policies, write the reports."""
    targeting, connecting = pick(Targeting, options), pick(Connecting, options)
    judging, keeping = pick(Judging, options), pick(Keeping, options)
    if connecting.list_hosts:
        list_hosts(targets(targeting, connecting))
        return ExitCode.COMPLIANT
    judges = judges_of(judging, utc_now())
    reserved = (snapshots, keeping.retry_file, *manifest_files(judging.manifest))
    outputs = parse_outputs(judging.outputs, quiet=judging.quiet, reserved=reserved)
    history = history_of(judging.store, keeping.state, no_store=judging.no_store)
    notices = noticing(judging, history)
    proof = proof_of(judging.manifest, judging.sign, kept=history.place is not None)
    goal = targets(targeting, connecting)
    contexts = {host.name: host.context for host in goal.hosts}
    judges = against_baseline(judges, judging, contexts, keeping.state)
    counted = require_targets(judges.policies, [(host.name, host.context) for host in goal.hosts])
    warn_idle(counted)
    interrupt = Interrupt()
    quiet = judging.quiet or targeting.local or connecting.progress == "json"
    with recording(goal.hosts, keeping, exclusive=not targeting.local, quiet=quiet) as kept:
        complete = gather(kept, connecting, interrupt, quiet=judging.quiet)
        if snapshots:
            with lines_to(snapshots) as put:
                for line in kept.journal.lines_in_host_order():
                    put(line + b"\n")
        asked = _recorded(options)
        run = describe_run(
            kept.run_id,
            kept.started,
            counted,
            goal.sources,
            asked,
            waivers=judges.waiver_files,
            complete=complete,
        )
        outcomes = map(decode_line, kept.journal.lines_in_host_order())
        code, written = conclude(
            outcomes,
            run,
            judges,
            outputs,
            include_pass=judging.include_pass,
            interrupt=interrupt,
            noticing=notices,
            proof=proof,
        )
        written = kept.write_retry_file() and written
        kept.ended_well = complete and written and not interrupt.happened
        return ExitCode.INCOMPLETE if not written and code is ExitCode.COMPLIANT else code


def _recorded(options: Mapping[str, object]) -> Mapping[str, object]:
    """The options that say how a run was made; paths of outputs and whatever names a key stay out."""
    left_out = (
        "outputs",
        "policies",
        "waivers",
        "inventory",
        "private_key",
        "known_hosts",
        "verbose",
        "quiet",
        "list_hosts",
        "progress",
        "resume",
        "retry_file",
        "state",
        "store",
        "no_store",
        "notify",
        "notify_secret_file",
        "manifest",
        "sign",
        "keep_runs",
    )
    return {name: value for name, value in options.items() if name not in left_out}

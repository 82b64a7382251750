"""`fleetaudit audit`: the main job."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from fleetaudit.audit import require_targets
from fleetaudit.cli.collect import lines_to
from fleetaudit.cli.files import read_policies
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.inventory import list_hosts
from fleetaudit.cli.judging import conclude, describe_run, new_run_id, utc_now, warn_idle
from fleetaudit.cli.options import CONNECTION, JUDGEMENT, TARGETS, Connecting, Judging, Targeting, pick
from fleetaudit.cli.outputs import parse_outputs, require_writable, say
from fleetaudit.cli.session import collecting, targets
from fleetaudit.errors import ReportError
from fleetaudit.journal import Journal
from fleetaudit.summary import ExitCode


@click.command("audit")
@TARGETS
@JUDGEMENT
@CONNECTION
@click.option(
    "--snapshots", metavar="FILE", help="Keep the snapshots too, for `evaluate`, as `collect` writes them."
)
def command(snapshots: str | None, **options: object) -> int:
    """Ask every host that PATTERN selects who listens there, judge the policies, write the reports."""
    targeting, connecting, judging = (
        pick(Targeting, options),
        pick(Connecting, options),
        pick(Judging, options),
    )
    if connecting.list_hosts:
        list_hosts(targets(targeting, connecting))
        return ExitCode.COMPLIANT
    policies = read_policies(judging.policies)
    outputs = parse_outputs(judging.outputs, quiet=judging.quiet, reserved=(snapshots,))
    if snapshots:
        require_writable(Path(snapshots))
    goal = targets(targeting, connecting)
    counted = require_targets(policies, [(host.name, host.context) for host in goal.hosts])
    warn_idle(counted)
    started, interrupt = utc_now(), Interrupt()
    run_id = new_run_id(started)
    with _journal(run_id, interrupt) as journal:
        with collecting(goal.hosts, connecting, interrupt, quiet=judging.quiet) as collection:
            for collected in collection:
                journal.append(collected.line, collected.outcome.host)
        journal.sync()
        if snapshots:
            with lines_to(snapshots) as put:
                for line in journal.lines_in_host_order():
                    put(line + b"\n")
        complete = not interrupt.happened
        run = describe_run(run_id, started, counted, goal.sources, _recorded(options), complete=complete)
        lines = journal.lines_in_host_order()
        return conclude(lines, policies, run, judging, outputs, interrupt=interrupt)


def _recorded(options: Mapping[str, object]) -> Mapping[str, object]:
    """The options that say how a run was made; paths of outputs and whatever names a key stay out."""
    left_out = (
        "outputs",
        "policies",
        "inventory",
        "private_key",
        "known_hosts",
        "verbose",
        "quiet",
        "list_hosts",
    )
    return {name: value for name, value in options.items() if name not in left_out}


@contextmanager
def _journal(run_id: str, interrupt: Interrupt) -> Iterator[Journal]:
    """The run on disk. It is kept when the run did not end well, and removed when it did."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    spare: Path | None = None
    try:
        journal = Journal.create(state / "fleetaudit" / "runs", run_id)
    except ReportError as error:
        say(f"warning: {error}; the run is kept in a temporary directory instead")
        spare = Path(tempfile.mkdtemp(prefix="fleetaudit-"))
        journal = Journal.create(spare, run_id)
    try:
        yield journal
    except BaseException:
        journal.close()
        say(f"what was collected is kept in {journal.path}")
        raise
    if interrupt.happened:
        journal.close()
        say(f"what was collected is kept in {journal.path}")
    else:
        journal.remove()
        if spare:
            spare.rmdir()

"""What audit and evaluate share: from what hosts said to written reports and an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleetaudit.cli.console import say
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.options import Judging
from fleetaudit.cli.outputs import Output, write
from fleetaudit.judgement import report
from fleetaudit.model import Outcome, Run, Severity
from fleetaudit.policy.model import Policy
from fleetaudit.summary import ExitCode, Gate, Tally
from fleetaudit.text import visible
from fleetaudit.where import Where

_NAMED = 10


def conclude(
    outcomes: Iterable[Outcome],
    policies: Sequence[Policy],
    run: Run,
    judging: Judging,
    outputs: Sequence[Output],
    *,
    where: Where,
    interrupt: Interrupt | None = None,
) -> tuple[ExitCode, bool]:
    """Judge the outcomes and write every report. Returns how the run ended, and whether all was written."""
    gate = Gate(Severity(judging.fail_on), judging.require_coverage, judging.allow_unjudged, where)
    interrupt = interrupt or Interrupt()
    tally = Tally(gate, interrupt.happened)
    with interrupt.guard(lambda: None):  # judging goes on: half a report would help nobody
        failures = write(report(outcomes, policies, run, tally), outputs, include_pass=judging.include_pass)
    say_left_out(tally.left_out)
    for failure in failures:
        say(f"error: {failure}")
    code = ExitCode.INTERRUPTED if interrupt.happened else ExitCode(tally.summary().exit_code)
    return (ExitCode.INCOMPLETE if failures and code is ExitCode.COMPLIANT else code), not failures


def say_left_out(hosts: Sequence[str]) -> None:
    """Name the hosts that `--where` left out: a mistake in it must not make the audit smaller unseen."""
    if hosts:
        more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
        say(f"--where left out {len(hosts)} hosts: {', '.join(map(visible, hosts[:_NAMED]))}{more}")


def warn_idle(policies: Sequence[tuple[Policy, int]]) -> None:
    """Policies that are for none of the targets are said, so that a typo in `hosts` cannot hide."""
    for policy, count in policies:
        if not count:
            say(f"warning: policy '{visible(policy.name)}' is for none of the targets: not applicable")

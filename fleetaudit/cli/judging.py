"""What audit and evaluate share: from what hosts said to written reports and an exit code."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from fleetaudit.cli.console import say
from fleetaudit.cli.evidence import NO_PROOF, Evidence, Proof
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.noticing import Noticing
from fleetaudit.cli.options import Judging
from fleetaudit.cli.outputs import Output, write
from fleetaudit.cli.recorded import recorded_path
from fleetaudit.cli.storing import History
from fleetaudit.judgement import moment, report
from fleetaudit.judges import Judges, appoint
from fleetaudit.model import HostContext, Outcome, Run
from fleetaudit.policy.model import Policy
from fleetaudit.summary import ExitCode
from fleetaudit.text import visible

_NAMED = 10
# Judging makes a great many values and no cycles: looking for these costs a quarter of it.
_GARBAGE_AFTER = 20_000


def judges_of(judging: Judging, now: datetime) -> Judges:
    """What judges the run, as the options say. Raises ConfigError."""
    return appoint(
        judging.policies,
        moment(judging.now) if judging.now else now,
        fail_on=judging.fail_on,
        require_coverage=judging.require_coverage,
        allow_unjudged=judging.allow_unjudged,
        where=judging.where,
        tags=judging.tags,
        skip_tags=judging.skip_tags,
        waivers=judging.waivers,
        strict_waivers=judging.strict_waivers,
        waiver_warn_days=judging.waiver_warn_days,
    )


def against_baseline(
    judges: Judges, judging: Judging, contexts: Mapping[str, HostContext], state: str | None = None
) -> Judges:
    """The judges with the baseline that the options name, if they name one. Raises ConfigError."""
    name = judging.baseline
    path, is_run = recorded_path(name, state) if name is not None else (None, False)
    return judges.against(path, contexts, new_only=judging.new_only, name=name or "", is_run=is_run)


def conclude(
    outcomes: Iterable[Outcome],
    run: Run,
    judges: Judges,
    outputs: Sequence[Output],
    *,
    include_pass: bool = False,
    interrupt: Interrupt | None = None,
    noticing: Noticing | None = None,
    inventory_given: bool = False,
    proof: Proof = NO_PROOF,
) -> tuple[ExitCode, bool]:
    """Judge the outcomes, write every report, keep the run in the history and tell what is new.

    `inventory_given`: what hosts are in was said now, not by the outcomes. Returns how the run ended, and
    whether all was written.
    """
    gc.set_threshold(_GARBAGE_AFTER)
    interrupt = interrupt or Interrupt()
    tally = judges.tally()
    tally.interrupted = interrupt.happened
    with interrupt.guard(lambda: None):  # judging goes on: half a report would help nobody
        whole = report(outcomes, judges.policies, run, tally)
        noticing = noticing or Noticing(History(None))
        history = noticing.history
        evidence = Evidence(run, judges, proof)
        if history.place is not None or proof.path is not None:
            whole = evidence.over(whole)
        past = history.past(outputs)
        keeping = history.keeping(whole, judges, tally, evidence, inventory_given=inventory_given)
        with keeping as (whole, unkept):
            written = write(whole, outputs, include_pass=include_pass, past=past)
            evidence.reports = written.files
        failures = [*written.failures, *unkept, *evidence.finish(tally.summary())]
        failures += history.keep_signature(evidence)
        if not unkept:
            noticing.tell(run.id)
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

"""What audit and evaluate share: from snapshot lines to written reports and an exit code."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from types import MappingProxyType

from fleetaudit import __version__
from fleetaudit.agent.payload import agent_sha256
from fleetaudit.audit import report
from fleetaudit.cli.console import say
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.options import Judging
from fleetaudit.cli.outputs import Output, write
from fleetaudit.model import Outcome, Run, Severity, Source
from fleetaudit.policy.model import Policy
from fleetaudit.summary import ExitCode, Gate, Tally
from fleetaudit.text import visible


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


def stamp(time: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def new_run_id(started: datetime) -> str:
    """Sortable by time, unique by chance."""
    return f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def describe_run(
    run_id: str,
    started: datetime,
    policies: Sequence[tuple[Policy, int]],
    sources: Sequence[Source],
    options: Mapping[str, object],
    *,
    complete: bool = True,
) -> Run:
    """Run metadata; the run ends, for the report, when collection does. `options` hold no secret."""
    recorded = {name: value for name, value in options.items() if value not in (None, (), False)}
    return Run(
        id=run_id,
        started_at=stamp(started),
        finished_at=stamp(utc_now()),
        version=__version__,
        agent_sha256=agent_sha256(),
        policies=tuple(Source(policy.file, policy.sha256, policy.name, count) for policy, count in policies),
        inventory=tuple(sources),
        options=MappingProxyType(dict(sorted(recorded.items()))),
        complete=complete,
    )


def conclude(
    lines: Iterable[bytes],
    policies: Sequence[Policy],
    run: Run,
    judging: Judging,
    outputs: Sequence[Output],
    *,
    adjust: Callable[[Outcome], Outcome] = lambda outcome: outcome,
    interrupt: Interrupt | None = None,
) -> tuple[ExitCode, bool]:
    """Judge the lines and write every report. Returns how the run ended, and whether all was written."""
    gate = Gate(Severity(judging.fail_on), judging.require_coverage, judging.allow_unjudged)
    interrupt = interrupt or Interrupt()
    tally = Tally(gate, interrupt.happened, cut_short=not run.complete)
    with interrupt.guard(lambda: None):  # judging goes on: half a report would help nobody
        failures = write(
            report(lines, policies, run, tally, adjust), outputs, include_pass=judging.include_pass
        )
    for failure in failures:
        say(f"error: {failure}")
    code = ExitCode.INTERRUPTED if interrupt.happened else ExitCode(tally.summary().exit_code)
    return (ExitCode.INCOMPLETE if failures and code is ExitCode.COMPLIANT else code), not failures


def warn_idle(policies: Sequence[tuple[Policy, int]]) -> None:
    """Policies that are for none of the targets are said, so that a typo in `hosts` cannot hide."""
    for policy, count in policies:
        if not count:
            say(f"warning: policy '{visible(policy.name)}' is for none of the targets: not applicable")

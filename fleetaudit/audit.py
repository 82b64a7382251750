"""The use case on one screen: snapshot lines and policies become a report.

Lines come from a run that collects them now or from a file saved before: from here on there is no
difference, which is why both give the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, Place, PolicyError, Problem
from fleetaudit.model import HostAudit, HostContext, HostStatus, Outcome, Report, Run
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy
from fleetaudit.saved import when
from fleetaudit.snapshot import decode_line
from fleetaudit.summary import Tally

_CLOCK_SKEW = timedelta(minutes=5)


def report(
    lines: Iterable[bytes],
    policies: Sequence[Policy],
    run: Run,
    tally: Tally,
    adjust: Callable[[Outcome], Outcome] = lambda outcome: outcome,
) -> Report:
    """The report over snapshot lines in host order: one host in memory at a time, one pass.

    `adjust` may replace what the inventory says of a host, or refuse a snapshot that is too old.
    """
    return Report(run, tally.over(_audits(lines, policies, adjust)), tally.summary)


def _audits(
    lines: Iterable[bytes], policies: Sequence[Policy], adjust: Callable[[Outcome], Outcome]
) -> Iterator[HostAudit]:
    for line in lines:
        yield evaluate(derive(adjust(decode_line(line))), policies)


def require_targets(
    policies: Sequence[Policy], hosts: Iterable[tuple[str, HostContext]]
) -> tuple[tuple[Policy, int], ...]:
    """Each policy with the number of hosts that it is for. Raises PolicyError when all are for none."""
    targets = list(hosts)
    counted = tuple(
        (policy, sum(policy.hosts.matches(name, context.groups) for name, context in targets))
        for policy in policies
    )
    if not any(count for _, count in counted):
        message = f"the policy is for none of the {len(targets)} targets: its hosts are "
        raise PolicyError(
            Problem(f"{message}'{policy.hosts.text}'", Place(policy.file), "see `fleetaudit inventory list`")
            for policy in policies
        )
    return counted


def within_age(outcome: Outcome, now: datetime, limit: timedelta) -> Outcome:
    """The outcome, or one without its snapshot when that is older than `limit` or tells no time.

    What was true too long ago is unknown now.
    """
    if outcome.snapshot is None:
        return outcome
    # The controller's clock where it is known: the host's time is the host's word.
    told = outcome.received_at or outcome.snapshot.collected_at
    time = when(told)
    if time is not None and now - limit <= time <= now + _CLOCK_SKEW:
        return outcome
    detail = (
        f"the snapshot of {told} is {'from the future' if time and time > now else 'older than --max-age'}"
    )
    if time is None:
        detail = f"the snapshot tells no time: {told!r}"
    return replace(outcome, status=HostStatus.ERROR, detail=detail, snapshot=None)


def moment(text: str) -> datetime:
    """An RFC 3339 time that a person wrote. Raises ConfigError."""
    time = when(text)
    if time is None:
        raise ConfigError(Problem(f"'{text}' is not a time", hint="write 2026-11-22T10:00:00Z"))
    return time

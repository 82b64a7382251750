"""The use case on one screen: what hosts said and policies become a report.

Outcomes come from a run that collects them now or from a file saved before: from here on there is no
difference, which is why both give the same results.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import MappingProxyType

from fleetaudit import __version__
from fleetaudit.agent.payload import agent_sha256
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, Place, PolicyError, Problem
from fleetaudit.model import HostContext, HostStatus, Outcome, Report, Run, Source
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy
from fleetaudit.saved import when
from fleetaudit.summary import Tally

_CLOCK_SKEW = timedelta(minutes=5)


def report(outcomes: Iterable[Outcome], policies: Sequence[Policy], run: Run, tally: Tally) -> Report:
    """The report over outcomes in host order: one host in memory at a time, one pass."""
    audits = (evaluate(derive(outcome), policies) for outcome in tally.meant(outcomes))
    return Report(run, tally.over(audits), tally.summary)


def describe_run(
    run_id: str,
    started: datetime,
    policies: Sequence[tuple[Policy, int]],
    sources: Sequence[Source],
    options: Mapping[str, object],
    *,
    waivers: Sequence[Source] = (),
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
        waivers=tuple(waivers),
        options=MappingProxyType(dict(sorted(recorded.items()))),
        complete=complete,
    )


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


def adjusted(
    outcomes: Iterable[Outcome],
    contexts: Mapping[str, HostContext],
    oldest: timedelta | None,
    now: datetime,
) -> Iterator[Outcome]:
    """Saved outcomes as an inventory given now sees their hosts; what is older than `oldest` is unknown."""
    for saved in outcomes:
        outcome = replace(saved, context=contexts.get(saved.host, saved.context))
        yield outcome if oldest is None else within_age(outcome, now, oldest)


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


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


def stamp(time: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"


def new_run_id(started: datetime) -> str:
    """Sortable by time, unique by chance."""
    return f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"

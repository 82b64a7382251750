"""Which waivers were looked at for a rule on a host, and why each one accepts what was found, or does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleetaudit.errors import Place
from fleetaudit.model import Finding, HostAudit, Owner, Result, Verdict
from fleetaudit.policy.checks.wording import name_of
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.nearness import entry_match
from fleetaudit.policy.view import HostView, view_of
from fleetaudit.policy.waivers import Waiver, broken_by


@dataclass(frozen=True, slots=True)
class ConsideredWaiver:
    """A waiver for the rule: where it stands, whether it accepts a violation on this host, and why (not)."""

    place: Place
    text: str
    applies: bool
    why: str


def consider(
    audit: HostAudit, policy: str, rule: str, waivers: Sequence[Waiver], now: datetime
) -> Iterator[ConsideredWaiver]:
    """Each waiver for this rule against the audit before it was waived."""
    result = next((item for item in audit.results if (item.policy, item.rule) == (policy, rule)), None)
    snapshot = audit.outcome.snapshot
    for waiver in waivers:
        if (waiver.policy, waiver.rule) != (policy, rule):
            continue
        if result is None or snapshot is None:
            yield ConsideredWaiver(waiver.place, str(waiver), applies=False, why="nothing was judged here")
            continue
        applies, why = _judged(waiver, audit.outcome.context.groups, result, view_of(snapshot), now)
        yield ConsideredWaiver(waiver.place, str(waiver), applies, why)


def _judged(
    waiver: Waiver, groups: Sequence[str], result: Result, view: HostView, now: datetime
) -> tuple[bool, str]:
    if not waiver.hosts.matches(result.host, groups):
        return False, f"it is for hosts {waiver.hosts.text}"
    if waiver.is_expired(now):
        return False, f"it expired at {waiver.until:%Y-%m-%dT%H:%M:%SZ}"
    if waiver.too_long:
        return False, waiver.too_long
    failed = [finding for finding in result.findings if finding.verdict is Verdict.FAIL]
    if not failed:
        return (
            False,
            f"the rule does not fail here, and only violations can be waived ({result.verdict.value})",
        )
    covered = [finding for finding in failed if waiver.covers(result, groups, finding, view)]
    if covered:
        return True, f"it accepts {len(covered)} of {len(failed)} violations"
    return False, "; ".join(dict.fromkeys(_why_not(waiver, finding, view) for finding in failed))


def _why_not(waiver: Waiver, finding: Finding, view: HostView) -> str:
    """Why a waiver for this host, in force, does not accept a violation."""
    if waiver.listeners is not None:
        if finding.listener is None:
            return "it is about listeners, and the violation is about none"
        if waiver.listeners.match(finding.listener, view) is not True:
            return "it does not select the listener"
    for owner in broken_by(finding):
        if not any(matcher.match(owner, Trust.ALLOW) is True for matcher in waiver.owners):
            return f"{name_of(owner)} is not among its owners{_difference(waiver.owners, owner)}"
    return "it names owners, and the violation is about none"


def _difference(matchers: Sequence[OwnerMatcher], owner: Owner) -> str:
    """In what the nearest of its matchers differs."""
    found = [entry_match(matcher, number, owner, Trust.ALLOW) for number, matcher in enumerate(matchers, 1)]
    if not found:
        return ""
    nearest = min(found, key=lambda item: len(item.misses))
    return ": " + ", ".join(f"{miss.name} is {miss.had}, not {miss.wanted}" for miss in nearest.misses)

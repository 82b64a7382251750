"""Waivers: violations that somebody has accepted, for a reason and for a time. Pure.

A waiver turns a failed finding into a waived one, which no count takes for a pass; what is unknown or crashed
cannot be waived. It holds until the end of its day in UTC, wherever fleetaudit runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone

from fleetaudit.errors import Place
from fleetaudit.model import Finding, HostAudit, Owner, Result, Verdict
from fleetaudit.patterns import HostPattern
from fleetaudit.policy.evaluate import gravest
from fleetaudit.policy.matchers import OwnerMatcher, Selector, Trust
from fleetaudit.policy.view import HostView, view_of


@dataclass(frozen=True, slots=True)
class Waiver:
    """One waiver; without `expires` it has no end. `too_long` is why its policy does not allow it."""

    policy: str
    rule: str
    reason: str
    place: Place
    hosts: HostPattern
    listeners: Selector | None
    owners: tuple[OwnerMatcher, ...]
    expires: date | None
    approved_by: str = ""
    ticket: str = ""
    too_long: str = ""

    @property
    def until(self) -> datetime | None:
        """The moment at which the waiver holds no more: the end of its day, in UTC."""
        if self.expires is None:
            return None
        return datetime.combine(self.expires, time(), timezone.utc) + timedelta(days=1)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.until is not None and now >= self.until

    def __str__(self) -> str:
        facts = [f"ticket {self.ticket}"] if self.ticket else []
        facts += [f"approved by {self.approved_by}"] if self.approved_by else []
        facts.append(f"until {self.expires}" if self.expires else "without end")
        return f"{self.place}: {self.reason} ({', '.join(facts)})"

    def covers(self, result: Result, groups: Sequence[str], finding: Finding, view: HostView) -> bool:
        """Whether the finding is what the waiver accepts: every owner that breaks the rule has to match."""
        if (self.policy, self.rule) != (result.policy, result.rule):
            return False
        if not self.hosts.matches(result.host, groups):
            return False
        if self.listeners is not None and (
            finding.listener is None or self.listeners.match(finding.listener, view) is not True
        ):
            return False
        return not self.owners or self._covers_owners(finding)

    def _covers_owners(self, finding: Finding) -> bool:
        breaking = broken_by(finding)
        return bool(breaking) and all(
            any(matcher.match(owner, Trust.ALLOW) is True for matcher in self.owners) for owner in breaking
        )


@dataclass(frozen=True, slots=True)
class Use:
    """What one waiver did on one host: it accepted a finding, or would have if it were valid.

    `shell` says that a shell was among the owners accepted.
    """

    waiver: Waiver
    valid: bool
    shell: bool = False


def broken_by(finding: Finding) -> tuple[Owner, ...]:
    """The owners that the finding is about; all holders of its listener where it names none."""
    if finding.owners or finding.listener is None:
        return finding.owners
    return (*finding.listener.owners, *finding.listener.held_by)


def waive(audit: HostAudit, waivers: Sequence[Waiver], now: datetime) -> tuple[HostAudit, tuple[Use, ...]]:
    """The audit with what is accepted waived, and what each waiver did. No other verdict changes."""
    rules = {(waiver.policy, waiver.rule) for waiver in waivers}
    snapshot = audit.outcome.snapshot
    if snapshot is None or not any((result.policy, result.rule) in rules for result in audit.results):
        return audit, ()
    judge = _Judge(view_of(snapshot), audit.outcome.context.groups, waivers, now)
    results = tuple(
        judge.result(result)
        if result.verdict is Verdict.FAIL and (result.policy, result.rule) in rules
        else result
        for result in audit.results
    )
    return replace(audit, results=results), tuple(judge.uses)


class _Judge:
    """Applies the waivers to the results of one host."""

    def __init__(
        self, view: HostView, groups: Sequence[str], waivers: Sequence[Waiver], now: datetime
    ) -> None:
        self.uses: list[Use] = []
        self._view = view
        self._groups = groups
        self._waivers = waivers
        self._now = now

    def result(self, result: Result) -> Result:
        findings = tuple(judged for finding in result.findings for judged in self._findings(result, finding))
        return replace(result, findings=findings, verdict=gravest(findings))

    def _findings(self, result: Result, finding: Finding) -> Iterator[Finding]:
        if finding.verdict is not Verdict.FAIL:
            yield finding
            return
        covering = [
            waiver for waiver in self._waivers if waiver.covers(result, self._groups, finding, self._view)
        ]
        valid = [waiver for waiver in covering if not waiver.too_long and not waiver.is_expired(self._now)]
        shell = any(owner.process.shell is True for owner in broken_by(finding))
        self.uses += [Use(waiver, waiver in valid, shell) for waiver in covering]
        if not valid:
            said = [f"waiver {waiver.place} {waiver.too_long or _ended(waiver)}" for waiver in covering]
            yield replace(finding, reason="; ".join([finding.reason, *said]))
            return
        yield replace(finding, verdict=Verdict.WAIVED, waiver=str(valid[0]))
        if finding.beyond:
            yield replace(finding, verdict=Verdict.UNKNOWN, reason=f"beyond what is waived: {finding.beyond}")


def _ended(waiver: Waiver) -> str:
    return f"expired at {waiver.until:%Y-%m-%dT%H:%M:%SZ}" if waiver.until else ""

"""Waivers over a whole run: applied to one host after another, and what became of each of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fleetaudit.model import HostAudit, WaiverStanding
from fleetaudit.policy.model import Policy
from fleetaudit.policy.waivers import Waiver, waive

# Design 5.1.12: over-broad are more than these many hosts that are more than this share of the targets.
_MANY_HOSTS: Final = 5
_LARGE_SHARE: Final = 0.2


@dataclass(slots=True)
class _Count:
    findings: int = 0
    hosts: int = 0
    shells: int = 0
    targets: int = 0
    unseen: int = 0  # targets that were not judged


@dataclass(slots=True)
class Waiving:
    """The waivers of one run at one moment; those that end within `warn` are told."""

    waivers: Sequence[Waiver]
    now: datetime
    warn: timedelta
    policies: Sequence[Policy]
    _counts: list[_Count] = field(default_factory=list)
    _targets: int = 0

    def over(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """The same audits with what is accepted waived."""
        self._counts = [_Count() for _ in self.waivers]
        self._targets = 0
        for audit in audits:
            self._targets += 1
            self._count_target(audit)
            waived, uses = waive(audit, self.waivers, self.now)
            for number, waiver in enumerate(self.waivers):
                mine = [use for use in uses if use.waiver is waiver]
                count = self._counts[number]
                count.findings += len(mine)
                count.hosts += bool(mine)
                count.shells += sum(use.shell for use in mine)
            yield waived

    def _count_target(self, audit: HostAudit) -> None:
        for waiver, count in zip(self.waivers, self._counts, strict=True):
            if waiver.hosts.matches(audit.outcome.host, audit.outcome.context.groups):
                count.targets += 1
                count.unseen += audit.outcome.snapshot is None

    def standings(self) -> tuple[WaiverStanding, ...]:
        """What became of each, in reading order."""
        known = {policy.name for policy in self.policies}
        counts = self._counts or [_Count() for _ in self.waivers]
        return tuple(
            self._standing(waiver, count, known) for waiver, count in zip(self.waivers, counts, strict=True)
        )

    def _standing(self, waiver: Waiver, count: _Count, known: set[str]) -> WaiverStanding:
        states = dict(self._states(waiver, count, known))
        return WaiverStanding(
            file=waiver.place.file,
            line=waiver.place.line,
            policy=waiver.policy,
            rule=waiver.rule,
            reason=waiver.reason,
            states=tuple(states),
            detail="; ".join(words for words in states.values() if words),
            approved_by=waiver.approved_by,
            ticket=waiver.ticket,
            until=f"{waiver.until:%Y-%m-%dT%H:%M:%SZ}" if waiver.until else None,
            findings=count.findings,
            hosts=count.hosts,
        )

    def _states(self, waiver: Waiver, count: _Count, known: set[str]) -> Iterator[tuple[str, str]]:
        until = waiver.until
        if until is not None and waiver.is_expired(self.now):
            yield "expired", f"it expired at {until:%Y-%m-%dT%H:%M:%SZ}"
        elif waiver.too_long:
            yield "too_long", waiver.too_long
        elif count.findings:
            yield "used", ""
        if until is not None and self.now < until <= self.now + self.warn:
            yield "expiring", f"it ends at {until:%Y-%m-%dT%H:%M:%SZ}"
        if not count.findings:
            yield _why_unused(waiver, count, known)
        broad = list(self._breadth(waiver, count))
        if broad:
            yield "over_broad", "; ".join(broad)

    def _breadth(self, waiver: Waiver, count: _Count) -> Iterator[str]:
        if not waiver.owners:
            yield "it accepts whoever owns it: name owners"
        if count.targets > _MANY_HOSTS and count.targets > _LARGE_SHARE * self._targets:
            yield f"it is for {count.targets} of {self._targets} hosts"
        if count.shells:
            yield "it covers a shell"


def _why_unused(waiver: Waiver, count: _Count, known: set[str]) -> tuple[str, str]:
    if waiver.policy not in known:
        return "other_policy", f"no policy of this run is called '{waiver.policy}'"
    if not count.targets:
        return "not_targeted", "it is for no host of this run"
    if count.unseen:
        return "open", f"not used, and {count.unseen} of its hosts were not audited"
    return "unused", "nothing it covers was found"

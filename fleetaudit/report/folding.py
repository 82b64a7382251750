"""Audits folded for reading: what is the same on many hosts is said once, with the hosts it holds for.

Memory grows with the number of different things to say and of host names, not with snapshots.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar

from fleetaudit.model import Boundary, Finding, HostAudit, HostStatus, Result, Severity, Verdict
from fleetaudit.report.wording import Holder, account, endpoint, holders, origin, program, word

K = TypeVar("K", bound=Hashable)
Rule: TypeAlias = tuple[str, str]  # policy, rule
Shape: TypeAlias = tuple[Hashable, ...]

_NAMES_KEPT: Final = 8
_PID: Final = re.compile(r"\bpid \d+")
_GRAVITY: Final = {severity: place for place, severity in enumerate(Severity)}


@dataclass(slots=True)
class Hosts:
    """Some hosts, in host order: how many, and the first names."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    _last: str | None = None

    def add(self, host: str) -> None:
        """One more, unless it is the one added last."""
        if host != self._last:
            self._last = host
            self.count += 1
            if len(self.names) < _NAMES_KEPT:
                self.names.append(host)

    def __str__(self) -> str:
        names = ", ".join(self.names)
        return f"{names} and {self.count - len(self.names)} more" if self.count > len(self.names) else names


@dataclass(slots=True)
class Fold(Generic[K]):
    """One thing to say and where it holds.

    `sample` is its first finding; `rules` and `endpoints` are what it was said of, in that order.
    """

    key: K
    sample: Finding | None = None
    hosts: Hosts = field(default_factory=Hosts)
    rules: dict[str, None] = field(default_factory=dict)
    endpoints: dict[str, None] = field(default_factory=dict)


class Folds(Generic[K]):
    """Folds by key; the most widespread first, those that tie as they came."""

    def __init__(self) -> None:
        self._folds: dict[K, Fold[K]] = {}

    def add(self, key: K, host: str, rule: Rule | None = None, finding: Finding | None = None) -> None:
        """One more case of `key`."""
        fold = self._folds.setdefault(key, Fold(key, finding))
        fold.hosts.add(host)
        if rule is not None:
            fold.rules["/".join(rule)] = None
        if finding is not None and finding.listener is not None:
            fold.endpoints[endpoint(finding.listener)] = None

    def __iter__(self) -> Iterator[Fold[K]]:
        return iter(sorted(self._folds.values(), key=lambda fold: -fold.hosts.count))

    def __len__(self) -> int:
        return len(self._folds)


@dataclass(slots=True)
class BrokenRule:
    """A rule and its violations."""

    first: Result
    hosts: Hosts = field(default_factory=Hosts)
    entries: Folds[Shape] = field(default_factory=Folds)


@dataclass(slots=True)
class Digest:
    """Everything the text report says, gathered in one pass over the audits."""

    broken: dict[Rule, BrokenRule] = field(default_factory=dict)
    violators: Hosts = field(default_factory=Hosts)
    failed: Folds[tuple[HostStatus, str]] = field(default_factory=Folds)
    partial: Folds[str] = field(default_factory=Folds)
    unjudged: Hosts = field(default_factory=Hosts)
    containers: Hosts = field(default_factory=Hosts)
    stale: Folds[str] = field(default_factory=Folds)
    unknown: Folds[str] = field(default_factory=Folds)
    errors: Folds[str] = field(default_factory=Folds)
    waived: Folds[str] = field(default_factory=Folds)
    passed: Folds[Rule] = field(default_factory=Folds)
    endpoints: int = 0
    unapproved: int = 0

    def add(self, audit: HostAudit) -> None:
        """Take in one host."""
        outcome = audit.outcome
        self.endpoints += audit.endpoints
        self.unapproved += audit.unapproved
        if outcome.context.boundary is Boundary.CONTAINER:
            self.containers.add(outcome.host)
        if outcome.snapshot is None:
            self.failed.add((outcome.status, outcome.detail), outcome.host)
            return  # that its rules are unknown is said by that line
        if outcome.snapshot.agent.stale:
            self.stale.add(outcome.snapshot.agent.stale, outcome.host)
        if outcome.status is HostStatus.PARTIAL:
            self.partial.add(outcome.detail, outcome.host)
        if all(result.verdict is Verdict.NOT_APPLICABLE for result in audit.results):
            self.unjudged.add(outcome.host)
        for result in audit.results:
            self._add_result(result)

    def _add_result(self, result: Result) -> None:
        rule = (result.policy, result.rule)
        if result.verdict is Verdict.PASS:
            self.passed.add(rule, result.host, rule)
        for finding in result.findings or (Finding(result.verdict, "no reason was given"),):
            reason = _PID.sub("pid N", finding.reason)
            if finding.verdict is Verdict.FAIL:
                self.violators.add(result.host)
                broken = self.broken.setdefault(rule, BrokenRule(result))
                broken.hosts.add(result.host)
                broken.entries.add(_shape(finding, reason), result.host, rule, finding)
            elif finding.verdict is Verdict.UNKNOWN:
                self.unknown.add(reason, result.host, rule, finding)
            elif finding.verdict is Verdict.ERROR:
                self.errors.add(reason, result.host, rule, finding)
            elif finding.verdict is Verdict.WAIVED:
                self.waived.add(finding.waiver or reason, result.host, rule, finding)

    def violations(self) -> list[BrokenRule]:
        """Broken rules, gravest first, then by policy and rule."""
        return [
            self.broken[rule]
            for rule in sorted(
                self.broken, key=lambda rule: (_GRAVITY[self.broken[rule].first.severity], rule)
            )
        ]


def owner_shape(holder: Holder) -> tuple[str, ...]:
    """What makes two owners the same to a reader, those that the finding is about first."""
    owner, process = holder.owner, holder.owner.process
    order = "1" if holder.concerned else "2"
    parents = [program(ancestor) for ancestor in owner.ancestors] if holder.concerned else []
    facts = (program(process), account(process), word(process.exe), word(process.exe_deleted), origin(owner))
    return (order, *facts, str(holder.held_by), *parents)


def _shape(finding: Finding, reason: str) -> Shape:
    """What makes two violations of a rule the same to a reader: all but host, pids and numbers of workers."""
    owners = {owner_shape(holder) for holder in holders(finding)}
    reason += " (new)" if finding.new else ""
    return (endpoint(finding.listener) if finding.listener else "", tuple(sorted(owners)), reason)

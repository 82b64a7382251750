"""What a change of policies changes: the verdicts of both on one host after another, compared. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from fleetaudit.model import Finding, Outcome, Result, Severity, Verdict
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy

RuleKey: TypeAlias = tuple[str, str]
_QUIET: Final = (Verdict.PASS, Verdict.NOT_APPLICABLE)


class Kind(Enum):
    """What a flip means to whoever merges the change, gravest first."""

    NEWLY_FAILING = "newly_failing"
    NEWLY_ERROR = "newly_error"
    NEWLY_UNKNOWN = "newly_unknown"
    NO_LONGER_FAILING = "no_longer_failing"
    OTHER = "other"


STOPPING: Final = (Kind.NEWLY_FAILING, Kind.NEWLY_ERROR, Kind.NEWLY_UNKNOWN)
"""What an audit that was compliant before would not be any more."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One rule on one host whose verdict changes; None is a rule that does not judge the host.

    `findings` are the new ones where it fails in both, else all that made the verdict after.
    """

    host: str
    policy: str
    rule: str
    title: str
    severity: Severity
    before: Verdict | None
    after: Verdict | None
    findings: tuple[Finding, ...] = ()

    @property
    def kind(self) -> Kind:
        """What it means."""
        if self.after is Verdict.FAIL:
            return Kind.NEWLY_FAILING
        if self.after is Verdict.ERROR:
            return Kind.NEWLY_ERROR
        if self.after is Verdict.UNKNOWN and self.before not in (Verdict.FAIL, Verdict.ERROR):
            return Kind.NEWLY_UNKNOWN
        return Kind.NO_LONGER_FAILING if self.before is Verdict.FAIL else Kind.OTHER


@dataclass(slots=True)
class Replay:
    """Two sets of policies over the same hosts, taken in one by one.

    Rules are the same when policy name and rule id are. `unseen` are hosts without a snapshot: nothing is
    known of them by either.
    """

    before: Sequence[Policy]
    after: Sequence[Policy]
    hosts: int = 0
    unseen: list[str] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)

    @property
    def added(self) -> tuple[RuleKey, ...]:
        """The rules that are new."""
        return tuple(sorted(_rules(self.after) - _rules(self.before)))

    @property
    def removed(self) -> tuple[RuleKey, ...]:
        """The rules that are gone."""
        return tuple(sorted(_rules(self.before) - _rules(self.after)))

    def of(self, kind: Kind) -> tuple[Flip, ...]:
        """The flips of one kind, by policy, rule and host."""
        found = [flip for flip in self.flips if flip.kind is kind]
        return tuple(sorted(found, key=lambda flip: (flip.policy, flip.rule, flip.host)))

    @property
    def stops(self) -> bool:
        """Whether something newly fails, or cannot be judged any more."""
        return any(flip.kind in STOPPING for flip in self.flips)

    def add(self, outcome: Outcome) -> None:
        """Take in one derived host."""
        self.hosts += 1
        if outcome.snapshot is None:
            self.unseen.append(outcome.host)
            return
        old = {_key(result): result for result in evaluate(outcome, self.before).results}
        new = {_key(result): result for result in evaluate(outcome, self.after).results}
        come_and_gone = {*self.added, *self.removed}
        for key in sorted(old.keys() | new.keys()):
            flip = _flip(old.get(key), new.get(key))
            if flip is not None and not (key in come_and_gone and _is_quiet(flip)):
                self.flips.append(flip)


def _flip(old: Result | None, new: Result | None) -> Flip | None:
    told = new or old
    if told is None:
        return None
    before, after = old.verdict if old else None, new.verdict if new else None
    findings = new.findings if new else ()
    if before is after:
        known = {item.fingerprint for item in old.findings if item.verdict is before} if old else set()
        findings = tuple(
            item for item in findings if item.verdict is Verdict.FAIL and item.fingerprint not in known
        )
        if not findings:
            return None
    return Flip(told.host, told.policy, told.rule, told.title, told.severity, before, after, findings)


def _is_quiet(flip: Flip) -> bool:
    """Whether a rule that came or went finds nothing: it is told once, not for each host."""
    return flip.before in (None, *_QUIET) and flip.after in (None, *_QUIET)


def _key(result: Result) -> RuleKey:
    return (result.policy, result.rule)


def _rules(policies: Sequence[Policy]) -> set[RuleKey]:
    return {(policy.name, rule.id) for policy in policies for rule in policy.rules}

"""A baseline: what failed before, so that a deploy is held up by new violations only. Pure.

A finding is known by its fingerprint: host, policy, rule, endpoint and who holds it (executable, user, unit),
never a pid. What failed before and fails now is old; everything else is new, also what was unknown before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fleetaudit.model import BaselineStanding, Finding, HostAudit, Missing, Owner, Result, Verdict
from fleetaudit.policy.waivers import broken_by


@dataclass(frozen=True, slots=True)
class Baseline:
    """What failed, and what was waived, by fingerprint; `name` says where that was read, `hosts` how many."""

    name: str
    hosts: int
    failing: frozenset[str]
    waived: frozenset[str]

    def is_new(self, finding: Finding) -> bool | None:
        """Whether the violation was not there before; None for what is no violation.

        An accepted one is old also when it failed before: a waiver makes nothing new.
        """
        if finding.verdict is Verdict.FAIL:
            known = finding.fingerprint in self.failing
        elif finding.verdict is Verdict.WAIVED:
            known = finding.fingerprint in self.failing or finding.fingerprint in self.waived
        else:
            return None
        return not (known and is_recognisable(finding))


def fingerprints(results: Iterable[Result], verdict: Verdict) -> Iterator[str]:
    """Those of all findings with this verdict."""
    return (it.fingerprint for result in results for it in result.findings if it.verdict is verdict)


def is_recognisable(finding: Finding) -> bool:
    """Whether the fingerprint says who it is: an owner not seen, or not verified, may be another one now."""
    if finding.listener is None:
        return True
    owners = broken_by(finding)
    return all(map(_is_known, owners)) if owners else finding.listener.owner_state == "kernel"


def _is_known(owner: Owner) -> bool:
    process = owner.process
    user = process.euid if process.user is None else process.user
    named = not isinstance(process.exe, Missing) and not isinstance(user, Missing)
    return named and process.exe_verified is not False


@dataclass(slots=True)
class Comparing:
    """One pass over a run against a baseline: findings are marked and counted; with `new_only` old ones do
    not fail the run.
    """

    baseline: Baseline
    new_only: bool = False
    _old: int = 0
    _new: int = 0
    _newly_waived: int = 0

    def over(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """The same audits, each violation marked as new or not."""
        self._old = self._new = self._newly_waived = 0
        for audit in audits:
            yield replace(audit, results=tuple(map(self._marked, audit.results)))

    def _marked(self, result: Result) -> Result:
        if not any(finding.verdict in (Verdict.FAIL, Verdict.WAIVED) for finding in result.findings):
            return result
        findings = tuple(replace(it, new=self.baseline.is_new(it)) for it in result.findings)
        failing = [it for it in findings if it.verdict is Verdict.FAIL]
        self._new += sum(it.new is True for it in failing)
        self._old += sum(it.new is False for it in failing)
        self._newly_waived += sum(it.verdict is Verdict.WAIVED and it.new is True for it in findings)
        return replace(result, findings=findings)

    def standing(self) -> BaselineStanding:
        """What the report says of it, when all have passed."""
        return BaselineStanding(
            self.baseline.name, self.baseline.hosts, self._old, self._new, self._newly_waived, self.new_only
        )

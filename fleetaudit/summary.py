"""Denominators, counts and the exit code of a run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from fleetaudit.baseline import Comparing
from fleetaudit.model import (
    HostAudit,
    HostStatus,
    Outcome,
    Result,
    Severity,
    Summary,
    Verdict,
    WaiverStanding,
)
from fleetaudit.waiving import Waiving
from fleetaudit.where import EVERYWHERE, Where

_JUDGED = frozenset({Verdict.PASS, Verdict.FAIL, Verdict.WAIVED, Verdict.UNKNOWN, Verdict.ERROR})


class ExitCode(IntEnum):
    """What the process says to whoever started it; the gravest that holds, in the order of `gravest`."""

    COMPLIANT = 0
    VIOLATIONS = 1
    USAGE = 2
    INCOMPLETE = 3
    INTERNAL = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Gate:
    """What makes a run fail: `fail_on` and graver; `require_coverage` in percent of the targets.

    `where` says which hosts are targets at all; `strict_waivers` fails a run that has waivers which want
    attention.
    """

    fail_on: Severity = Severity.LOW
    require_coverage: float = 100.0
    allow_unjudged: bool = False
    where: Where = EVERYWHERE
    strict_waivers: bool = False


@dataclass(slots=True)
class Tally:
    """Counts audits as they pass, so that the summary needs no second look."""

    gate: Gate
    interrupted: bool = False
    waiving: Waiving | None = None
    comparing: Comparing | None = None
    left_out: list[str] = field(default_factory=list)
    _statuses: Counter[str] = field(default_factory=Counter)
    _results: Counter[str] = field(default_factory=Counter)
    _severities: Counter[str] = field(default_factory=Counter)
    _unjudged: int = 0
    _open: int = 0  # unknown or error, at or above the gate, on a host that was reached
    _violations: int = 0

    def meant(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The outcomes of hosts that are meant; who is left out is noted."""
        for outcome in outcomes:
            if self.gate.where.leaves_out(outcome):
                self.left_out.append(outcome.host)
            else:
                yield outcome

    def over(self, audits: Iterable[HostAudit]) -> Iterator[HostAudit]:
        """The same audits, counted one by one, with what waivers accept waived and what is new marked."""
        waived = self.waiving.over(audits) if self.waiving else audits
        for audit in self.comparing.over(waived) if self.comparing else waived:
            self._count(audit)
            yield audit

    def summary(self) -> Summary:
        """The counts of everything that has passed."""
        ok, partial = self._statuses[HostStatus.OK.value], self._statuses[HostStatus.PARTIAL.value]
        targeted = self._statuses.total()
        waivers = self.waiving.standings() if self.waiving else ()
        return Summary(
            targeted=targeted,
            ok=ok,
            partial=partial,
            failed=targeted - ok - partial,
            unjudged=self._unjudged,
            statuses={status.value: self._statuses[status.value] for status in HostStatus},
            results={verdict.value: self._results[verdict.value] for verdict in Verdict},
            severities={severity.value: self._severities[severity.value] for severity in Severity},
            exit_code=self._exit_code(ok + partial, targeted, waivers),
            left_out=len(self.left_out),
            waivers=waivers,
            baseline=self.comparing.standing() if self.comparing else None,
        )

    def _count(self, audit: HostAudit) -> None:
        reached = audit.outcome.snapshot is not None
        self._statuses[audit.outcome.status.value] += 1
        self._results.update(result.verdict.value for result in audit.results)
        if reached and not any(result.verdict in _JUDGED for result in audit.results):
            self._unjudged += 1
        for result in audit.results:
            if result.verdict is Verdict.FAIL:
                self._severities[result.severity.value] += 1
            self._weigh(result, reached)

    def _weigh(self, result: Result, reached: bool) -> None:
        if not result.severity.at_least(self.gate.fail_on):
            return
        self._violations += self._violates(result)
        self._open += reached and result.verdict in (Verdict.UNKNOWN, Verdict.ERROR)

    def _violates(self, result: Result) -> bool:
        """Whether the result fails the run: of new violations alone also those that a waiver accepts."""
        if self.comparing is None or not self.comparing.new_only:
            return result.verdict is Verdict.FAIL
        return any(finding.new is True for finding in result.findings)

    def _exit_code(self, reached: int, targeted: int, waivers: Iterable[WaiverStanding]) -> ExitCode:
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if self._violations or (self.gate.strict_waivers and any(it.wants_attention for it in waivers)):
            return ExitCode.VIOLATIONS
        covered = reached > 0 and 100 * reached >= self.gate.require_coverage * targeted
        unjudged = self._unjudged and not self.gate.allow_unjudged
        # A run that was cut short is not compliant, whatever coverage is required.
        cut_short = self._statuses[HostStatus.NOT_ATTEMPTED.value] > 0
        if not covered or self._open or unjudged or cut_short:
            return ExitCode.INCOMPLETE
        return ExitCode.COMPLIANT

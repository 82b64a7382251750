"""What changed since the run before, and how it went until now. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from fleetaudit.model import HostAudit, Summary, Verdict
from fleetaudit.report import wording
from fleetaudit.report.base import Past, Violation
from fleetaudit.report.figures import shares
from fleetaudit.report.phrases import clipped

_LISTED: Final = 50
_TEXT: Final = 300
_OPEN: Final = (Verdict.UNKNOWN, Verdict.ERROR)


@dataclass(slots=True)
class Found:
    """Some violations: how many, and the first of them as (severity, rule, host, listener)."""

    count: int = 0
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, it: Violation) -> None:
        """One more."""
        self.count += 1
        if len(self.rows) < _LISTED:
            rule = clipped(f"{it.policy}/{it.rule}", _TEXT)
            self.rows.append(
                (clipped(it.severity), rule, clipped(it.host, _TEXT), clipped(it.endpoint, _TEXT))
            )


@dataclass(frozen=True, slots=True)
class Trend:
    """Shares that passed, in tenths of a percent, run by run and this one last; `line` are SVG points."""

    line: str
    words: str


class Changes:
    """Compares each host with what the run before found on it.

    `unseen` are violations on hosts that it did not reach, so nobody knows whether they are new; `open` are
    old ones that could not be judged now, on hosts or by rules that were not, or not well enough.
    """

    def __init__(self, past: Past) -> None:
        self.new, self.gone = Found(), Found()
        self.still = self.waived = self.unseen = 0
        self.run_id, self.started_at = clipped(past.run_id), clipped(past.started_at)
        self._past = past
        self._then: dict[str, dict[str, Violation]] = defaultdict(dict)
        for fingerprint, violation in past.violations.items():
            self._then[violation.host][fingerprint] = violation

    @property
    def open(self) -> int:
        """Violations of the run before of which this one cannot say what became of them."""
        return len(self._past.violations) - self.still - self.waived - self.gone.count

    def add(self, audit: HostAudit) -> None:
        """Take in one host."""
        if audit.outcome.snapshot is None:
            return
        host = audit.outcome.host
        then = self._then.get(host, {})
        now: dict[str, Verdict] = {}
        for result in audit.results:
            for finding in result.findings:
                now[finding.fingerprint] = finding.verdict
                if finding.verdict is not Verdict.FAIL or finding.fingerprint in then:
                    continue
                if host not in self._past.hosts:
                    self.unseen += 1
                    continue
                where = wording.endpoint(finding.listener) if finding.listener else ""
                self.new.add(Violation(host, result.policy, result.rule, result.severity.value, where))
        judged = {(it.policy, it.rule) for it in audit.results if it.verdict not in _OPEN}
        for fingerprint, violation in then.items():
            verdict = now.get(fingerprint)
            self.still += verdict is Verdict.FAIL
            self.waived += verdict is Verdict.WAIVED
            if verdict is None and (violation.policy, violation.rule) in judged:
                self.gone.add(violation)

    def trend(self, summary: Summary) -> Trend | None:
        """How the share that passes went; None when this run or all before it judged nothing."""
        passed, of = shares(summary)
        before = [1000 * it.passed // it.of for it in self._past.trend if it.of]
        if not of or not before:
            return None
        tenths = [*before, 1000 * passed // of]
        step = 1000 / (len(tenths) - 1)
        points = (f"{round(place * step)},{100 - share // 10}" for place, share in enumerate(tenths))
        words = ", ".join(f"{share // 10}.{share % 10} %" for share in tenths)
        return Trend(" ".join(points), words)

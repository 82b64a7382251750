"""The numbers that every report states: its denominators, and the one percentage with its formula. Pure."""

from __future__ import annotations

from typing import Final

from fleetaudit.model import HostAudit, Run, Summary, Verdict

FORMULA: Final = "pass / (pass + fail + waived + unknown + error), not_applicable left out"
_COUNTED: Final = (Verdict.PASS, Verdict.FAIL, Verdict.WAIVED, Verdict.UNKNOWN, Verdict.ERROR)


def denominators(summary: Summary) -> dict[str, int]:
    """Hosts: how many were targeted, reached, covered fully, and judged by a rule that applies.

    If --where left some out, how many: they answered, and are no targets.
    """
    reached = summary.ok + summary.partial
    counts = {
        "targeted": summary.targeted,
        "reached": reached,
        "fully covered": summary.ok,
        "judged": reached - summary.unjudged,
    }
    return counts | ({"left out": summary.left_out} if summary.left_out else {})


def denominators_text(summary: Summary) -> str:
    """The denominators in words."""
    return ", ".join(f"{count} {name}" for name, count in denominators(summary).items())


def compliance(summary: Summary) -> float | None:
    """The share of results that pass, 0 to 1, by `FORMULA`; None when there is none to count."""
    passed, of = shares(summary)
    return passed / of if of else None


def compliance_text(summary: Summary) -> str:
    """The share in percent with one decimal, rounded down: what is not all never reads as 100 %."""
    passed, of = shares(summary)
    if not of:
        return "none: nothing was judged"
    tenths = 1000 * passed // of
    return f"{tenths // 10}.{tenths % 10} %"


def shares(summary: Summary) -> tuple[int, int]:
    """Results that pass, and of how many that count."""
    numbers = {verdict: summary.results.get(verdict.value, 0) for verdict in _COUNTED}
    return numbers[Verdict.PASS], sum(numbers.values())


def notes(run: Run, summary: Summary) -> list[str]:
    """What else shaped the run's verdict: rules that were left out, and a baseline."""
    said = []
    left_out = run.options.get("rules_left_out")
    if isinstance(left_out, int) and left_out:
        said.append(f"{counted(left_out, 'rule')} left out by --tags and --skip-tags")
    if (gate := summary.baseline) is not None:
        found = f"{counted(gate.new, 'new violation')}, {gate.old} old, {gate.newly_waived} newly waived"
        which = "; only new ones fail the run" if gate.new_only else ""
        said.append(f"against the baseline {gate.name} ({counted(gate.hosts, 'host')}): {found}{which}")
    return said


def counted(count: int, noun: str) -> str:
    """A number of things in words: 1 host, 2 hosts."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def unjudged_reason(audit: HostAudit) -> str:
    """Why nothing was judged on a host; "" when something was, or when the host was not reached."""
    if audit.outcome.snapshot is None:
        return ""
    if not audit.results:
        return "no policy selects this host"
    if all(result.verdict is Verdict.NOT_APPLICABLE for result in audit.results):
        return "no rule applies to what listens on this host"
    return ""


def failure_reason(audit: HostAudit) -> str:
    """Why a host was not audited: status and detail; "" for one that was."""
    outcome = audit.outcome
    if outcome.snapshot is not None:
        return ""
    return f"{outcome.status.value}: {outcome.detail}" if outcome.detail else outcome.status.value

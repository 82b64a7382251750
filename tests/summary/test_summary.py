"""The exit code follows from the counts, in one order of precedence."""

from __future__ import annotations

import itertools

import pytest

from fleetaudit.errors import ConfigError
from fleetaudit.judgement import moment
from fleetaudit.model import HostAudit, HostStatus, Outcome, Result, Severity, Snapshot, Verdict
from fleetaudit.summary import ExitCode, Gate, Tally
from tests.build import outcome, snapshot

REACHED = outcome(snapshot([], {})).snapshot


def audit(*verdicts: tuple[Verdict, Severity] | Verdict, status: HostStatus = HostStatus.OK) -> HostAudit:
    reached: Snapshot | None = REACHED if status in (HostStatus.OK, HostStatus.PARTIAL) else None
    results = tuple(
        Result(
            "h", "p", f"r{place}", "t", *(item[::-1] if isinstance(item, tuple) else (Severity.HIGH, item))
        )
        for place, item in enumerate(verdicts)
    )
    return HostAudit(Outcome("h", status, snapshot=reached), results)


DEFAULT = Gate()


def code(*audits: HostAudit, gate: Gate = DEFAULT, interrupted: bool = False) -> ExitCode:
    tally = Tally(gate, interrupted)
    assert list(tally.over(audits)) == list(audits)
    return ExitCode(tally.summary().exit_code)


PASS, FAIL, UNKNOWN = audit(Verdict.PASS), audit(Verdict.FAIL), audit(Verdict.UNKNOWN)
DOWN = audit(Verdict.UNKNOWN, status=HostStatus.TIMEOUT)
IDLE = audit(Verdict.NOT_APPLICABLE)


@pytest.mark.parametrize(
    ("audits", "expected"),
    [
        ((PASS,), 0),
        ((PASS, FAIL), 1),
        ((PASS, UNKNOWN), 3),
        ((PASS, audit(Verdict.ERROR)), 3),
        ((PASS, audit(Verdict.WAIVED)), 0),
        ((PASS, DOWN), 3),
        ((PASS, IDLE), 3),
        ((PASS, audit()), 3),
        ((audit(Verdict.PASS, Verdict.NOT_APPLICABLE),), 0),
        ((FAIL, UNKNOWN, DOWN, IDLE), 1),
        ((), 3),
    ],
)
def test_exit_codes(audits: tuple[HostAudit, ...], expected: int) -> None:
    assert code(*audits) == expected
    assert code(*audits, interrupted=True) == ExitCode.INTERRUPTED


@pytest.mark.parametrize(("fails", "gate"), list(itertools.product(Severity, Severity)))
def test_the_gate_is_the_least_severity_that_counts(fails: Severity, gate: Severity) -> None:
    counts = list(Severity).index(fails) <= list(Severity).index(gate)
    assert code(audit((Verdict.FAIL, fails)), gate=Gate(gate)) == (1 if counts else 0)
    assert code(audit((Verdict.UNKNOWN, fails)), gate=Gate(gate)) == (3 if counts else 0)


def test_coverage_and_unjudged_hosts_can_be_allowed() -> None:
    half = Gate(require_coverage=50)
    assert code(PASS, DOWN, gate=half) == 0
    assert code(PASS, DOWN, DOWN, gate=half) == 3
    assert code(PASS, IDLE, gate=Gate(allow_unjudged=True)) == 0


def test_the_counts() -> None:
    tally = Tally(Gate())
    list(tally.over([PASS, FAIL, DOWN, IDLE, audit(Verdict.PASS, status=HostStatus.PARTIAL)]))
    found = tally.summary()
    assert (found.targeted, found.ok, found.partial, found.failed, found.unjudged) == (5, 3, 1, 1, 1)
    assert found.statuses["timeout"] == 1
    assert found.results["pass"] == 2
    assert found.severities["high"] == 1


def test_times() -> None:
    assert moment("2026-11-22T10:00:00.123Z") == moment("2026-11-22T11:00:00.123+01:00")
    with pytest.raises(ConfigError, match="not a time"):
        moment("soon")

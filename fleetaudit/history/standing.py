"""Since when a rule stands as it does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleetaudit.history.past import Judged

_SILENT = frozenset({"unknown", "error"})  # such a run says neither that it was good nor that it was bad


@dataclass(frozen=True, slots=True)
class FindingSince:
    """One finding that is open now, and the first run of the unbroken row of runs that had it."""

    endpoint: str
    reason: str
    first: Judged


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict now and the first run that had it without another one since.

    `last_good` is the last run before in which the rule passed; `before` the run before `first`.
    `silent` runs since could not tell.
    """

    now: Judged
    first: Judged
    runs: int
    silent: int
    before: Judged | None
    last_good: Judged | None
    findings: tuple[FindingSince, ...]


def standing(past: Sequence[Judged]) -> Standing:
    """How a rule stands at the end of its `past`, earliest first, of one run at least.

    Runs that could not tell do not end a row of runs that could.
    """
    now = past[-1]
    start = len(past) - 1
    for place in range(len(past) - 1, -1, -1):
        verdict = past[place].verdict
        if verdict == now.verdict:
            start = place
        elif verdict not in _SILENT:
            break
    row = past[start:]
    return Standing(
        now=now,
        first=past[start],
        runs=sum(it.verdict == now.verdict for it in row),
        silent=sum(it.verdict != now.verdict for it in row),
        before=past[start - 1] if start else None,
        last_good=next((it for it in reversed(past[:start]) if it.verdict == "pass"), None),
        findings=tuple(
            FindingSince(endpoint, reason, _first(fingerprint, row))
            for fingerprint, endpoint, reason in now.findings
        ),
    )


def _first(fingerprint: str, row: Sequence[Judged]) -> Judged:
    found = row[-1]
    for it in reversed(row):
        if any(known == fingerprint for known, _, _ in it.findings):
            found = it
        elif it.verdict not in _SILENT:
            break
    return found

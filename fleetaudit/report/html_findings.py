"""What the page says without its script: findings folded by rule, and hosts that were not judged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from fleetaudit.model import Severity, Summary, Verdict
from fleetaudit.report import wording
from fleetaudit.report.figures import counted
from fleetaudit.report.folding import BrokenRule, Digest, Fold, K
from fleetaudit.report.html_rows import evidence
from fleetaudit.report.html_tree import Tree, tree
from fleetaudit.report.phrases import clipped

ENTRIES: Final = 500  # made here: thousands of them take a browser seconds
_ROWS: Final = 100  # of a table
_NAMED: Final = 6
_TEXT: Final = 600


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was found, on one host or on many alike; pids in it are of the host `example`."""

    hosts: str
    count: int
    example: str
    where: str
    reason: str
    evidence: str
    tree: Tree | None
    waiver: str = ""
    new: bool | None = None
    rules: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A rule with its violations, or findings of one verdict."""

    anchor: str
    verdict: str
    title: str
    about: str
    entries: tuple[Entry, ...]
    more: int
    severity: str = ""
    rule: str = ""
    controls: str = ""
    references: str = ""
    remediation: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A small table; `more` rows had no place."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int


def sections(digest: Digest) -> tuple[Section, ...]:
    """Violations by rule, gravest first, then errors, unknowns and what was waived: at most `ENTRIES`."""
    room = ENTRIES
    found = []
    for number, broken in enumerate(digest.violations(), 1):
        made = _violations(broken, f"rule-{number}", room)
        room -= len(made.entries)
        found.append(made)
    for verdict, title, about, folds in (
        (Verdict.ERROR, "Errors", "rules that could not be run: never a pass", digest.errors),
        (Verdict.UNKNOWN, "Could not be judged", "what was seen cannot support a verdict", digest.unknown),
        (Verdict.WAIVED, "Waived", "violations that somebody accepted: no passes", digest.waived),
    ):
        if len(folds):
            entries = tuple(_entry(fold, fold.key, verdict) for fold in islice(folds, room))
            room -= len(entries)
            more = len(folds) - len(entries)
            found.append(Section(f"verdict-{verdict.value}", verdict.value, title, about, entries, more))
    return tuple(found)


def listings(digest: Digest, summary: Summary, *, include_pass: bool) -> tuple[Listing, ...]:
    """Hosts that were not audited, or only in part, or not judged; waivers to look at; what passed."""
    failed = [
        (fold.key[0].value, str(fold.hosts.count), str(fold.hosts), fold.key[1]) for fold in digest.failed
    ]
    partial = [(str(fold.hosts.count), str(fold.hosts), fold.key) for fold in digest.partial]
    unjudged = [(str(digest.unjudged.count), str(digest.unjudged))] if digest.unjudged.count else []
    waivers = [
        (f"{it.file}:{it.line}", f"{it.policy}/{it.rule}", ", ".join(it.states), it.detail)
        for it in summary.waivers
        if it.wants_attention
    ]
    stale = [(str(fold.hosts.count), str(fold.hosts), fold.key) for fold in digest.stale]
    passed = sorted(("/".join(fold.key), str(fold.hosts.count)) for fold in digest.passed)
    made = [
        _listing(
            f"Not audited: {counted(summary.failed, 'host')}", ("status", "hosts", "which", "detail"), failed
        ),
        _listing(
            f"Covered only in part: {counted(summary.partial, 'host')}", ("hosts", "which", "gaps"), partial
        ),
        _listing(
            f"Not judged, no rule applies: {counted(digest.unjudged.count, 'host')}",
            ("hosts", "which"),
            unjudged,
        ),
        _listing("Waivers that want attention", ("waiver", "rule", "states", "why"), waivers),
        _listing("Another agent than this version's", ("hosts", "which", "how"), stale),
        _listing("Passed", ("rule", "hosts"), passed if include_pass else []),
    ]
    return tuple(listing for listing in made if listing.rows)


def severity_counts(summary: Summary) -> Iterator[tuple[str, int]]:
    """Failing results by severity, gravest first, none left out."""
    for severity in Severity:
        yield severity.value, summary.severities.get(severity.value, 0)


def _violations(broken: BrokenRule, anchor: str, room: int) -> Section:
    rule = broken.first
    entries = tuple(
        _entry(fold, fold.sample.reason, Verdict.FAIL)
        for fold in islice(broken.entries, max(room, 0))
        if fold.sample is not None
    )
    return Section(
        anchor=anchor,
        verdict=Verdict.FAIL.value,
        title=_short(rule.title),
        about=counted(broken.hosts.count, "host"),
        entries=entries,
        more=len(broken.entries) - len(entries),
        severity=rule.severity.value,
        rule=_short(f"{rule.policy}/{rule.rule}"),
        controls=_short(wording.controls(rule.controls)),
        references=_short(", ".join(rule.references)),
        remediation=_short(rule.remediation),
    )


def _entry(fold: Fold[K], reason: object, verdict: Verdict) -> Entry:
    """One fold; what is not a violation is folded over rules and listeners too, so these are named."""
    sample = fold.sample
    violation = verdict is Verdict.FAIL
    listener = sample.listener if sample else None
    endpoints = [wording.endpoint(listener)] if violation and listener else list(fold.endpoints)
    waived = sample.waiver if sample and verdict is Verdict.WAIVED else None
    return Entry(
        hosts=_short(str(fold.hosts)),
        count=fold.hosts.count,
        example=_short(fold.hosts.names[0]) if fold.hosts.count > 1 and fold.hosts.names else "",
        where=_some(endpoints),
        reason=_short(sample.reason if waived and sample else str(reason)),
        evidence=_short(evidence(sample)) if sample else "",
        tree=tree(sample) if sample and (sample.listener or sample.owners) else None,
        waiver=_short(waived or ""),
        new=sample.new if sample else None,
        rules="" if violation else _some(fold.rules),
    )


def _listing(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Listing:
    shown = tuple(tuple(map(_short, row)) for row in rows[:_ROWS])
    return Listing(title, head, shown, len(rows) - len(shown))


def _some(names: Iterable[str]) -> str:
    everything = list(names)
    more = f" and {len(everything) - _NAMED} more" if len(everything) > _NAMED else ""
    return _short(", ".join(everything[:_NAMED])) + more


def _short(text: str) -> str:
    return clipped(text, _TEXT)

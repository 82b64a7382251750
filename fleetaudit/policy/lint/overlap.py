"""Rules of one policy that judge the same listeners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleetaudit.errors import Problem
from fleetaudit.policy.checks import CHECKS
from fleetaudit.policy.lint.base import Entry, Subject, entries
from fleetaudit.policy.lint.containment import entry_covers, selector_covers, value_covers
from fleetaudit.policy.model import Rule
from fleetaudit.policy.values import Kind


def shadowed_rule(subject: Subject) -> Iterator[Problem]:
    """A rule that another one makes idle: it selects no more, and asserts nothing more."""
    for place, rule in enumerate(subject.rules):
        for other_place, other in enumerate(subject.rules):
            if other is rule or not covers(other, rule) or not implies(other, rule):
                continue
            if other_place > place and covers(rule, other) and implies(rule, other):
                continue  # each covers the other: said once, at the later
            yield subject.problem(
                "shadowed-rule",
                f"rule '{other.id}' at line {other.place.line} already judges all that '{rule.id}' does",
                rule.path,
                "remove it, or make it say more",
            )
            break


def no_override(subject: Subject) -> Iterator[Problem]:
    """A narrower allow list beside a wider one: both are judged, the narrow one overrides nothing."""
    for rule in subject.rules:
        for other in subject.rules:
            if other is rule or not covers(other, rule):
                continue
            wide, narrow = list(entries(other, "allow_owners")), list(entries(rule, "allow_owners"))
            lost = [entry for entry in narrow if not _allowed(entry, wide)] if wide and narrow else []
            if lost:
                yield subject.problem(
                    "no-override",
                    f"rule '{other.id}' at line {other.place.line} judges these listeners too and does not "
                    "allow this owner: no rule overrides another",
                    lost[0].path,
                    f"add the entry to '{other.id}' as well, or take these listeners out of it",
                )
                break


def _allowed(entry: Entry, wide: list[Entry]) -> bool:
    return any(entry_covers(other.fields, entry.fields) or _meet(other, entry) for other in wide)


def _meet(one: Entry, two: Entry) -> bool:
    """Whether some owner could match both: none when they name programs of which none is the other's."""
    mine, theirs = one.fields.get("exe"), two.fields.get("exe")
    if mine is None or theirs is None:
        return True
    pairs = [(left, right) for left in _listed(mine) for right in _listed(theirs)]
    return any(
        value_covers(left, right, Kind.TEXT)
        or value_covers(right, left, Kind.TEXT)
        or _is_pattern(left, right)
        for left, right in pairs
    )


def _is_pattern(*values: object) -> bool:
    return any(not isinstance(value, str) or set("~*?[{") & set(value) for value in values)


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether `wide` is about all listeners, on all hosts, that `narrow` is about."""
    if wide.spec.get("hosts") not in (None, narrow.spec.get("hosts")):
        return False
    if any(wide.spec.get(name) not in (None, narrow.spec.get(name)) for name in ("when", "when_expr")):
        return False
    return selector_covers(_listeners(wide), _listeners(narrow))


def _listeners(rule: Rule) -> Mapping[str, object] | None:
    listeners = rule.spec.get("listeners")
    return listeners if isinstance(listeners, Mapping) else None


def implies(strong: Rule, weak: Rule) -> bool:
    """Whether whatever the assertions of `weak` find on a listener, those of `strong` find too."""
    asserted = [name for name in CHECKS if name in weak.spec]
    return bool(asserted) and all(_check_implies(name, strong, weak) for name in asserted)


def _check_implies(name: str, strong: Rule, weak: Rule) -> bool:
    if name not in strong.spec:
        return False
    if name == "allow_owners":
        wide = list(entries(weak, name))
        return all(any(entry_covers(w.fields, s.fields) for w in wide) for s in entries(strong, name))
    if name == "deny_owners":
        denied = list(entries(strong, name))
        return all(any(entry_covers(d.fields, w.fields) for d in denied) for w in entries(weak, name))
    if name == "scope":
        return value_covers(weak.spec[name], strong.spec[name], Kind.TEXT)
    if name == "expect":
        return strong.spec[name] == weak.spec[name] == "none"
    # What must be there is counted by endpoint: over more listeners it may be there in another one.
    same = name == "same" or _listeners(strong) == _listeners(weak)
    return same and strong.spec[name] == weak.spec[name]

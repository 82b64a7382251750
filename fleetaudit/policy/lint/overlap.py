"""Rules of one policy that judge the same listeners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleetaudit.errors import Problem
from fleetaudit.policy.checks import CHECKS
from fleetaudit.policy.lint.base import Entry, Subject, entries
from fleetaudit.policy.lint.containment import entry_covers, selector_covers, span, value_covers
from fleetaudit.policy.model import Rule
from fleetaudit.policy.values import Kind


def shadowed_rule(subject: Subject) -> Iterator[Problem]:
    """A rule that another one makes idle: it selects no more, and asserts nothing more."""
    told: set[int] = set()
    for other, rule in _nested(subject.rules):
        if id(rule) in told or not implies(other, rule):
            continue
        if other.place > rule.place and covers(rule, other) and implies(rule, other):
            continue  # each covers the other: said once, at the later
        told.add(id(rule))
        yield subject.problem(
            "shadowed-rule",
            f"rule '{other.id}' at line {other.place.line} already judges all that '{rule.id}' does",
            rule.path,
            "remove it, or make it say more",
        )


def no_override(subject: Subject) -> Iterator[Problem]:
    """A narrower allow list beside a wider one: both are judged, the narrow one overrides nothing."""
    told: set[int] = set()
    for other, rule in _nested([rule for rule in subject.rules if "allow_owners" in rule.spec]):
        wide = list(entries(other, "allow_owners"))
        lost = [entry for entry in entries(rule, "allow_owners") if not _allowed(entry, wide)]
        if lost and id(rule) not in told:
            told.add(id(rule))
            yield subject.problem(
                "no-override",
                f"rule '{other.id}' at line {other.place.line} judges these listeners too and does not "
                "allow this owner: no rule overrides another",
                lost[0].path,
                f"add the entry to '{other.id}' as well, or take these listeners out of it",
            )


def _nested(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """The pairs (wide, narrow) of which the first is about all listeners that the second is about.

    Ports are compared first: of the rules of a long policy, nearly all differ in them.
    """
    ports = [_ports(rule) for rule in rules]
    for place, narrow in enumerate(rules):
        mine = ports[place]
        for other, wide in enumerate(rules):
            theirs = ports[other]
            if theirs is not None and (mine is None or not _holds(theirs, mine[0][0])):
                continue
            if other != place and covers(wide, narrow):
                yield wide, narrow


def _holds(spans: Sequence[tuple[int, int]], port: int) -> bool:
    return any(low <= port <= high for low, high in spans)


def _ports(rule: Rule) -> tuple[tuple[int, int], ...] | None:
    """The ports that a rule names as numbers and ranges; None when it does not, or not only."""
    listed = _listed((_listeners(rule) or {}).get("port"))
    spans = [span(value) for value in listed]
    known = tuple(found for found in spans if found is not None)
    return known if known and len(known) == len(spans) else None


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

"""What is allowed in a policy but surely a mistake. Pure: rules in, located problems out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleetaudit.errors import Problem
from fleetaudit.policy.matchers import ANNOTATIONS
from fleetaudit.policy.model import Policy, Rule
from fleetaudit.policy.values import Path
from fleetaudit.yamlio import Document

_CLAIMS = frozenset({"comm", "argv"})


def lint(document: Document, policy: Policy) -> tuple[Problem, ...]:
    """Every questionable entry of a policy that loads, in reading order."""
    return tuple(problem for rule in policy.rules for problem in _rule(document, rule))


def _rule(document: Document, rule: Rule) -> Iterator[Problem]:
    for name in ("allow_owners", "require_owners"):
        for path, entry in _entries(rule, name):
            if set(entry) - ANNOTATIONS <= _CLAIMS:
                yield Problem(
                    "claim-only: comm and argv are the process's own words and prove nothing",
                    document.place(path),
                    "add exe, unit or user to the entry",
                )
    for name in ("allow_owners", "deny_owners", "require_owners"):
        for path, entry in _entries(rule, name):
            yield from _negated_ancestors(document, path, entry)


def _entries(rule: Rule, name: str) -> Iterator[tuple[Path, Mapping[str, object]]]:
    entries = rule.spec.get(name)
    for place, entry in enumerate(entries if isinstance(entries, Sequence) else ()):
        if isinstance(entry, Mapping):
            yield (*rule.path, name, place), entry


def _negated_ancestors(document: Document, path: Path, entry: Mapping[str, object]) -> Iterator[Problem]:
    ancestor = entry.get("ancestor")
    for field, value in ancestor.items() if isinstance(ancestor, Mapping) else ():
        if isinstance(value, Mapping) and "not" in value:
            yield Problem(
                "`not` inside `ancestor` says that some ancestor differs, which is nearly always true",
                document.place((*path, "ancestor", field)),
                f"write no_ancestor: {{{field}: …}} to say that none matches",
            )

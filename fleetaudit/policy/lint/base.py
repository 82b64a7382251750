"""What every lint rule looks at: a policy that loads, with the place of everything in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from fleetaudit.errors import Problem
from fleetaudit.policy.matchers import ANNOTATIONS
from fleetaudit.policy.model import Policy, Rule
from fleetaudit.policy.values import Path
from fleetaudit.yamlio import Document

TRUSTING = ("allow_owners", "require_owners")
_LISTS = (*TRUSTING, "deny_owners")
_NESTED = ("ancestor", "no_ancestor", "parent")


@dataclass(frozen=True, slots=True)
class Found(Problem):
    """A problem that lint found, and its path in the document."""

    path: Path = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A policy under lint. `today` is for what depends on the date: the caller's clock, not ours."""

    document: Document
    policy: Policy
    today: date

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules written in this file: those it takes over from another are linted there."""
        return tuple(rule for rule in self.policy.rules if rule.place.file == self.document.file)

    def problem(self, code: str, message: str, path: Path, hint: str) -> Found:
        """A problem found at `path`."""
        return Found(message, self.document.place(path), hint, code, path)

    def is_written_here(self, problem: Problem) -> bool:
        """Whether what a problem is about stands in this file: what a rule takes over is linted there."""
        value = self.document.value
        for step in problem.path[:3] if isinstance(problem, Found) else ():  # rules, number, key
            if isinstance(value, Mapping) and step in value:
                value = value[str(step)]
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return step == "hosts"  # the policy's own, which may be left out
        return True


Linter: TypeAlias = Callable[[Subject], Iterator[Problem]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an owner list. `fields` is what it matches by; `notes` are its annotations."""

    assertion: str
    path: Path
    fields: Mapping[str, object]
    notes: Mapping[str, object]


def entries(rule: Rule, *assertions: str) -> Iterator[Entry]:
    """The entries of these owner lists of a rule, of all of them when none is named."""
    for name in assertions or _LISTS:
        listed = rule.spec.get(name)
        for place, entry in enumerate(listed if isinstance(listed, Sequence) else ()):
            if isinstance(entry, Mapping):
                fields = {key: value for key, value in entry.items() if key not in ANNOTATIONS}
                notes = {key: value for key, value in entry.items() if key in ANNOTATIONS}
                yield Entry(name, (*rule.path, name, place), fields, notes)


def matchers(rule: Rule) -> Iterator[Entry]:
    """Every owner matcher of a rule: the lists' entries, the selector's, and those nested in them."""
    found = list(entries(rule))
    owner = selector(rule).get("owner")
    if isinstance(owner, Mapping):
        found.append(Entry("owner", (*rule.path, "listeners", "owner"), owner, {}))
    while found:
        entry = found.pop(0)
        yield entry
        for name in _NESTED:
            inner = entry.fields.get(name)
            if isinstance(inner, Mapping):
                found.append(Entry(name, (*entry.path, name), inner, {}))


def selector(rule: Rule) -> Mapping[str, object]:
    """The rule's `listeners`, empty when it has none."""
    listeners = rule.spec.get("listeners")
    return listeners if isinstance(listeners, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One literal, glob, regex or range in a value, and whether a `not` stands above it."""

    path: Path
    value: object
    negated: bool

    @property
    def is_text(self) -> bool:
        """Whether it is written out, with no inventory variable in it."""
        return isinstance(self.value, str) and "{{" not in self.value

    @property
    def is_literal(self) -> bool:
        """Whether it matches itself only."""
        return self.is_text and not str(self.value).startswith("~") and not set("*?[") & set(str(self.value))


def leaves(path: Path, value: object, *, negated: bool = False) -> Iterator[Leaf]:
    """The single values of a policy value, in reading order."""
    if isinstance(value, Mapping):
        yield from leaves((*path, "not"), value.get("not"), negated=not negated)
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from leaves((*path, place), item, negated=negated)
    else:
        yield Leaf(path, value, negated)

"""How near an entry of an owner list comes to an owner: field by field, what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fleetaudit.model import Missing, Owner
from fleetaudit.policy.entry_use import entry_lists
from fleetaudit.policy.fields import OWNER_FIELDS
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.model import CompiledRule
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.values import Test

_KIN = ("parent", "ancestor", "no_ancestor")


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """One field of an entry or selector: what it wants, what the subject has, whether that matches."""

    name: str
    wanted: str
    had: str
    matches: Truth


@dataclass(frozen=True, slots=True)
class EntryMatch:
    """One entry of an owner list against one owner. `number` counts from 1, as a person does."""

    number: int
    text: str
    matches: Truth
    fields: tuple[FieldMatch, ...]

    @property
    def misses(self) -> tuple[FieldMatch, ...]:
        """The fields that keep the entry from matching, or may."""
        return tuple(item for item in self.fields if item.matches is not True)


@dataclass(frozen=True, slots=True)
class ListMatch:
    """One owner list against one owner: the entries that match, and the nearest one if none does."""

    assertion: str
    matching: tuple[EntryMatch, ...]
    nearest: EntryMatch | None


def shown(value: object) -> str:
    """A policy value in words: a or b, not c, min 1, max 4."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(item)}" for name, item in value.items())
    return "none" if value is None else str(value)


def list_matches(compiled: CompiledRule, owner: Owner) -> Iterator[ListMatch]:
    """Each owner list of the rule against the owner."""
    for name, entries, trust in entry_lists(compiled):
        numbered = list(enumerate(entries, start=1))
        matching = [(number, entry) for number, entry in numbered if entry.match(owner, trust) is True]
        nearest = (
            [] if matching else [min(numbered, key=lambda item: _distance(item[0], item[1], owner, trust))]
        )
        yield ListMatch(
            name,
            tuple(entry_match(entry, number, owner, trust) for number, entry in matching),
            next((entry_match(entry, number, owner, trust) for number, entry in nearest), None),
        )


def _distance(number: int, entry: OwnerMatcher, owner: Owner, trust: Trust) -> tuple[bool, int, bool, int]:
    """How far from matching: what may match first, then by how few fields differ, then the same program."""
    wrong = [name for name, truth in _truths(entry, owner, trust) if truth is False]
    return (bool(wrong), len(wrong), "exe" in wrong, number)


def _truths(entry: OwnerMatcher, owner: Owner, trust: Trust) -> Iterator[tuple[str, Truth]]:
    """Whether each field of the entry matches, the others left aside."""
    if entry.kernel:
        yield "kernel", False
        return
    for name, test in entry.tests:
        yield name, _one_field(entry, name, test, owner, trust)
    for relative in entry.relatives:
        yield relative[0], replace(entry, tests=(), relatives=(relative,)).match(owner, trust)


def entry_match(entry: OwnerMatcher, number: int, owner: Owner, trust: Trust) -> EntryMatch:
    """The entry against the owner, field by field."""
    if entry.kernel:
        told = (FieldMatch("kernel", "the kernel alone", "a process", matches=False),)
        return EntryMatch(number, entry.text, matches=False, fields=told)
    wanted = [test.text for _, test in entry.tests] + [matcher.text for _, matcher in entry.relatives]
    fields = tuple(
        FieldMatch(name, text, _chain(name, owner) if name in _KIN else _had(name, owner), truth)
        for (name, truth), text in zip(_truths(entry, owner, trust), wanted, strict=True)
    )
    return EntryMatch(number, entry.text, entry.match(owner, trust), fields)


def _one_field(entry: OwnerMatcher, name: str, test: Test, owner: Owner, trust: Trust) -> Truth:
    if name == "exe" and any(other == "exe_deleted" for other, _ in entry.tests):
        # Without that field beside it, exe means a file that is there still; here that is judged apart.
        owner = replace(owner, process=replace(owner.process, exe_deleted=False))
    return replace(entry, tests=((name, test),), relatives=()).match(owner, trust)


def _had(name: str, owner: Owner) -> str:
    known = [value for value in OWNER_FIELDS[name].read(owner) if not isinstance(value, Missing)]
    words = dict.fromkeys(shown(value) for value in known)
    said = " = ".join(words) or "not known"
    if name == "exe" and owner.process.exe_verified is False:
        said += ", a path that could not be verified"
    if name == "exe" and owner.process.exe_deleted is True:
        said += ", deleted"
    return said


def _chain(name: str, owner: Owner) -> str:
    names = [str(item.exe) if isinstance(item.exe, str) else f"pid {item.pid}" for item in owner.ancestors]
    chain = " < ".join(names[:1] if name == "parent" else names) or "none known"
    return f"{chain}, then cut" if owner.ancestry_cut and name != "parent" else chain

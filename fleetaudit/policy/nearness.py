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
        found = [entry_match(entry, place, owner, trust) for place, entry in enumerate(entries, start=1)]
        matching = tuple(item for item in found if item.matches is True)
        # How near: those that may match first, then by how few fields differ, then by the same program.
        nearest = min(found, key=_distance) if found and not matching else None
        yield ListMatch(name, matching, nearest)


def _distance(item: EntryMatch) -> tuple[bool, int, bool, int]:
    wrong = [found.name for found in item.fields if found.matches is False]
    return (item.matches is False, len(wrong), "exe" in wrong, item.number)


def entry_match(entry: OwnerMatcher, number: int, owner: Owner, trust: Trust) -> EntryMatch:
    """The entry against the owner, field by field."""
    if entry.kernel:
        told = (FieldMatch("kernel", "the kernel alone", "a process", matches=False),)
        return EntryMatch(number, entry.text, matches=False, fields=told)
    fields = [
        FieldMatch(name, test.text, _had(name, owner), _one_field(entry, name, owner, trust))
        for name, test in entry.tests
    ]
    for name, relative in entry.relatives:
        alone = replace(entry, tests=(), relatives=((name, relative),))
        fields.append(FieldMatch(name, relative.text, _chain(name, owner), alone.match(owner, trust)))
    return EntryMatch(number, entry.text, entry.match(owner, trust), tuple(fields))


def _one_field(entry: OwnerMatcher, name: str, owner: Owner, trust: Trust) -> Truth:
    """Whether this field of the entry matches, the others left aside."""
    if name == "exe" and any(other == "exe_deleted" for other, _ in entry.tests):
        # Without that field beside it, exe means a file that is there still; here that is judged apart.
        owner = replace(owner, process=replace(owner.process, exe_deleted=False))
    tests = tuple((other, test) for other, test in entry.tests if other == name)
    return replace(entry, tests=tests, relatives=()).match(owner, trust)


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

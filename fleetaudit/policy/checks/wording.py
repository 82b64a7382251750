"""Reasons in words: who broke a rule, how the socket came to them, and by how little an entry missed them.

Every part is bounded, for hosts choose names and policies can be long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fleetaudit.model import UNKNOWN, Missing, Owner, Process
from fleetaudit.policy.fields import OWNER_FIELDS
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.truth import Truth
from fleetaudit.text import visible

_PLAINLY: Final = ("original", "worker")
_MOST_NAMED: Final = 3
_MOST_ANCESTORS: Final = 4
_LONGEST: Final = 60  # characters of one value
_LONGEST_ENTRY: Final = 160
_LONGEST_REASON: Final = 800


def clipped(text: str, most: int = _LONGEST) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 1] + "…"


def bounded(reason: str) -> str:
    """A reason as one line of bounded length, whatever hosts and policies put into it."""
    return clipped(reason if reason.isprintable() else visible(reason), _LONGEST_REASON)


def wanted(entries: Sequence[OwnerMatcher]) -> str:
    """What entries ask for."""
    return clipped(" or ".join(entry.text for entry in entries), _LONGEST_ENTRY)


# ---------------------------------------------------------------- who


def name_of(owner: Owner) -> str:
    """An owner in words: what it runs, its pid, its user, and how it came to the socket if not plainly."""
    process = owner.process
    facts = [f"pid {process.pid}"]
    if isinstance(process.user, str):
        facts.append(f"user {clipped(process.user)}")
    elif isinstance(process.euid, int):
        facts.append(f"uid {process.euid}")
    if not isinstance(owner.inherited, Missing) and owner.inherited.value not in _PLAINLY:
        facts.append(owner.inherited.value)
    if process.exe_deleted is True:
        facts.append("executable deleted")
    if process.exe_verified is False:
        facts.append("path not verified")
    return f"{_program(process)} ({', '.join(facts)})"


def names_of(owners: Sequence[Owner]) -> str:
    """Several owners in words: the first few, and how many more."""
    named = ", ".join(name_of(owner) for owner in owners[:_MOST_NAMED])
    return f"{named} and {len(owners) - _MOST_NAMED} more" if len(owners) > _MOST_NAMED else named


def way_of(owners: Sequence[Owner]) -> str:
    """How one of the owners came to the socket, the first that did not open it, ready to end a reason."""
    known = sorted((item for item in owners if item.ancestors), key=_came_plainly)
    if not known:
        return ""
    owner = known[0]
    chain = [f"{_program(process)} (pid {process.pid})" for process in owner.ancestors]
    if len(chain) > _MOST_ANCESTORS:
        chain = [*chain[: _MOST_ANCESTORS - 1], "…", chain[-1]]
    if owner.ancestry_cut:
        chain.append("?")
    way = f"{_program(owner.process)} (pid {owner.process.pid}) < {' < '.join(chain)}"
    direct = owner.handed_by in (None, owner.ancestors[0].pid)
    handed = "" if direct else f", the socket from pid {owner.handed_by}"
    return f"; {way}{handed}"


def _came_plainly(owner: Owner) -> bool:
    return isinstance(owner.inherited, Missing) or owner.inherited.value in _PLAINLY


def _program(process: Process) -> str:
    exe = process.exe if isinstance(process.exe, str) else None
    comm = process.comm if isinstance(process.comm, str) else None
    what = clipped((exe.rsplit("/", 1)[-1] if exe else comm) or "unknown program")
    return f"{what} [{clipped(comm)}]" if comm and exe and comm != what else what


# ---------------------------------------------------------------- by how little


@dataclass(frozen=True, slots=True)
class _Miss:
    """A field in which an owner is not, or may not be, what an entry wants."""

    name: str
    had: str
    matches: Truth


def nearest(entries: Sequence[OwnerMatcher], owner: Owner, trust: Trust) -> str:
    """The entry that misses the owner by the fewest fields, and these, ready to end a reason."""
    owned = [entry for entry in entries if not entry.kernel]
    if not owned:
        return "; the only entry is {kernel: true}"
    missed = [(entry, tuple(_misses(entry, owner, trust))) for entry in owned]
    entry, misses = min(missed, key=lambda item: (len(item[1]), -len(item[0].tests)))
    differs = ", ".join(f"{miss.name} is {miss.had}" for miss in misses[:_MOST_NAMED])
    which = "nearest is" if len(owned) > 1 else "wanted is"
    return f"; {which} {clipped(entry.text, _LONGEST_ENTRY)}, but {differs}"


def undecided_fields(entries: Sequence[OwnerMatcher], owner: Owner, trust: Trust) -> str:
    """The fields that the snapshot would have to tell to decide about the owner."""
    names = {
        miss.name
        for entry in entries
        if entry.match(owner, trust) is None
        for miss in _misses(entry, owner, trust)
        if miss.matches is None
    }
    return " and ".join(sorted(names)) or "enough"


def _misses(entry: OwnerMatcher, owner: Owner, trust: Trust) -> Iterator[_Miss]:
    deleted = tuple(test for test in entry.tests if test[0] == "exe_deleted")
    for name, test in entry.tests:
        # Whether a deleted executable will do is said by another field of the same entry.
        tests = ((name, test), *deleted) if name == "exe" and deleted else ((name, test),)
        truth = replace(entry, tests=tests, relatives=()).match(owner, trust)
        if truth is not True:
            yield _Miss(name, _had(name, owner), truth)
    for name, matcher in entry.relatives:
        truth = replace(entry, tests=(), relatives=((name, matcher),)).match(owner, trust)
        if truth is not True:
            yield _Miss(name, "not that" if truth is False else "not known", truth)


def _had(name: str, owner: Owner) -> str:
    values = [value for value in OWNER_FIELDS[name].read(owner) if value is not UNKNOWN]
    if not values:
        return "not known"
    if name == "argv" and values[0] is not None:
        return "another"  # reasons are in reports of every format, command lines only in JSON
    process = owner.process
    text = clipped("none" if values[0] is None else str(values[0]))
    text = text.lower() if isinstance(values[0], bool) else text
    if name == "exe" and process.exe_verified is False:
        return f"{text}, which is not verified"
    if name == "exe" and process.exe_deleted is True:
        return f"{text}, which is deleted"
    return text

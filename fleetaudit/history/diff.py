"""What changed on a host between two looks, in words, and the same folded over a fleet. Pure.

A restart is no change, and neither is a pool of workers that grew: what is compared is what lasts.
Of a host that was seen in part, what is missing may only not have been seen: such a change is not `certain`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.history.normal import UNKNOWN_WORD, Endpoint, Holder, Normal, endpoint_words

_REACH: Final[Mapping[str, int]] = {"loopback": 0, "link_local": 1, "private": 2, "any": 3, "public": 3}
_PUBLIC: Final = 3
_QUIET: Final = frozenset({"unix", "raw", "packet", "vsock"})
_LEAKED: Final = frozenset({"leak", "orphan"})
_ALL_KNOWN: Final = frozenset({"owned", "kernel"})
_NAMED: Final = 5

# Gravest first: the order in which a person reads them.
KINDS: Final = ("newly leaked", "newly public", "opened", "user changed", "owner changed", "closed")


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One thing that changed at `endpoint`; `before` and `after` say what, empty where there was nothing."""

    kind: str
    endpoint: str
    before: str
    after: str
    certain: bool = True

    def __str__(self) -> str:
        what = f"{self.before} → {self.after}" if self.before and self.after else self.before or self.after
        return f"{self.kind}: {self.endpoint}  {what}" + ("" if self.certain else "  (seen in part)")


@dataclass(frozen=True, slots=True)
class Drift:
    """One change and the hosts that have it, sorted."""

    change: Change
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.hosts[:_NAMED])
        more = f" and {len(self.hosts) - _NAMED} more" if len(self.hosts) > _NAMED else ""
        count = f"{len(self.hosts)} hosts: " if len(self.hosts) > 1 else ""
        return f"{self.change}  on {count}{named}{more}"


def changes(before: Normal, after: Normal, *, everything: bool = False) -> tuple[Change, ...]:
    """What changed, gravest first. Unix, raw, packet and vsock sockets only with `everything`."""
    old = {it.key: it for it in before.endpoints if everything or it.protocol not in _QUIET}
    new = {it.key: it for it in after.endpoints if everything or it.protocol not in _QUIET}
    found = []
    public, explained = _newly_public(old, new, before, after)
    found += public
    for key in new.keys() - old.keys() - explained:
        found += _opened(new[key], after, certain=before.complete)
    for key in old.keys() - new.keys() - explained:
        who = _programs(_holders(old[key], before))
        found.append(Change("closed", endpoint_words(old[key]), who, "", after.complete))
    for key in old.keys() & new.keys():
        found += _exchanged(old[key], new[key], before, after)
    return tuple(sorted(set(found), key=lambda it: (KINDS.index(it.kind), it)))


def fold(changed: Iterable[tuple[str, Sequence[Change]]]) -> tuple[Drift, ...]:
    """The changes of (host, changes), each once with its hosts: gravest kind first, most hosts first."""
    hosts: dict[Change, set[str]] = defaultdict(set)
    for host, some in changed:
        for change in some:
            hosts[change].add(host)
    drifts = [Drift(change, tuple(sorted(names))) for change, names in hosts.items()]
    return tuple(
        sorted(drifts, key=lambda it: (KINDS.index(it.change.kind), -len(it.hosts), it.change, it.hosts))
    )


def holder_words(holders: Iterable[Holder]) -> str:
    """Who holds an endpoint, with users: nginx (root), nginx (www-data)."""
    return ", ".join(sorted({f"{_program(it)} ({it.user or UNKNOWN_WORD}{_marks(it)})" for it in holders}))


def _newly_public(
    old: Mapping[tuple[str, ...], Endpoint],
    new: Mapping[tuple[str, ...], Endpoint],
    before: Normal,
    after: Normal,
) -> tuple[list[Change], set[tuple[str, ...]]]:
    """Services that could not be reached from anywhere and now can; with the endpoints that this explains."""
    was, now = _services(old.values()), _services(new.values())
    found, explained = [], set()
    for service in was.keys() & now.keys():
        reach = max(_REACH.get(it.scope, _PUBLIC) for it in was[service])
        wider = [it for it in now[service] if it.key not in old and _REACH.get(it.scope, 0) == _PUBLIC]
        if reach == _PUBLIC or not wider:
            continue
        narrow = [it for it in was[service] if it.key not in new] or was[service]
        left = ", ".join(sorted({it.address for it in narrow}))
        right = ", ".join(sorted({it.address for it in wider}))
        words = endpoint_words(min(wider, key=lambda it: it.key))
        who = _programs([holder for it in wider for holder in _holders(it, after)])
        found.append(Change("newly public", words, left, f"{right} ({who})", before.complete))
        explained |= {it.key for it in wider} | {it.key for it in narrow if it.key not in new}
        found += [leak for it in wider for leak in _leaks((), _holders(it, after), it)]
    return found, explained


def _services(endpoints: Iterable[Endpoint]) -> dict[tuple[str, str, str], list[Endpoint]]:
    """Endpoints by what is served there, whatever the address; by number of a port only."""
    found: dict[tuple[str, str, str], list[Endpoint]] = defaultdict(list)
    for it in endpoints:
        if it.port.isdigit() and it.address:
            found[(it.netns, it.protocol, it.port)].append(it)
    return found


def _opened(endpoint: Endpoint, after: Normal, *, certain: bool) -> list[Change]:
    holders = _holders(endpoint, after)
    opened = Change("opened", endpoint_words(endpoint), "", holder_words(holders) or "no owner seen", certain)
    return [opened, *_leaks((), holders, endpoint)]


def _exchanged(old: Endpoint, new: Endpoint, before: Normal, after: Normal) -> list[Change]:
    """Other holders of the same endpoint."""
    was, now = _holders(old, before), _holders(new, after)
    certain = _ALL_KNOWN.issuperset(old.states) and _ALL_KNOWN.issuperset(new.states)
    where = endpoint_words(new)
    found = _leaks(was, now, new)
    still = {(it.exe, it.user) for it in now}
    gone = [it for it in was if it.inherited in _LEAKED and (it.exe, it.user) not in still]
    found += [Change("owner changed", where, holder_words([it]), "gone", after.complete) for it in gone]
    calm_was = [it for it in was if it.inherited not in _LEAKED]
    calm_now = [it for it in now if it.inherited not in _LEAKED]
    before_exes, after_exes = {it.exe for it in calm_was}, {it.exe for it in calm_now}
    if before_exes != after_exes:
        left, right = _told_apart(calm_was, calm_now)
        if left or right:
            found.append(
                Change("owner changed", where, left or "no owner seen", right or "no owner seen", certain)
            )
    for exe in before_exes & after_exes:
        left_users = {it.user for it in calm_was if it.exe == exe}
        right_users = {it.user for it in calm_now if it.exe == exe}
        if left_users != right_users and UNKNOWN_WORD not in left_users | right_users:
            name = _base(exe)
            left, right = ", ".join(sorted(left_users)), ", ".join(sorted(right_users))
            found.append(Change("user changed", where, f"{name} as {left}", right, certain))
    return found


def _leaks(was: Sequence[Holder], now: Sequence[Holder], endpoint: Endpoint) -> list[Change]:
    known = {(it.exe, it.user) for it in was if it.inherited in _LEAKED}
    fresh = [it for it in now if it.inherited in _LEAKED and (it.exe, it.user) not in known]
    return [Change("newly leaked", endpoint_words(endpoint), "", f"to {holder_words([it])}") for it in fresh]


def _told_apart(was: Sequence[Holder], now: Sequence[Holder]) -> tuple[str, str]:
    """The programs of both; by whole path where names alone would say that nothing changed."""
    left, right = _programs(was), _programs(now)
    if left != right:
        return left, right
    return ", ".join(sorted({it.exe for it in was})), ", ".join(sorted({it.exe for it in now}))


def _holders(endpoint: Endpoint, of: Normal) -> list[Holder]:
    return [of.holders[place] for place in endpoint.holders]


def _programs(holders: Iterable[Holder]) -> str:
    return ", ".join(sorted({_program(it) for it in holders}))


def _program(holder: Holder) -> str:
    return _base(holder.exe)


def _base(exe: str) -> str:
    return exe.rsplit("/", 1)[-1] or UNKNOWN_WORD


def _marks(holder: Holder) -> str:
    words = [
        *([holder.inherited] if holder.inherited in _LEAKED or holder.inherited == "passed" else []),
        *(["executable deleted"] if "d" in holder.marks else []),
        *(["path not verified"] if "u" in holder.marks else []),
        *(["could receive it"] if "h" in holder.marks else []),
    ]
    return "".join(f", {word}" for word in words)

"""From what was seen to rules: what most hosts have is learnt, what few have is an outlier. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from fleetaudit.policy.learn_seen import Identity, Key, Program, Seen, Sight
from fleetaudit.policy.lint.containment import entry_covers
from fleetaudit.policy.values import Bindings, Kind, compile_value

T = TypeVar("T")
Hosts: TypeAlias = frozenset[str]
Entry: TypeAlias = Mapping[str, object]
Sights: TypeAlias = Iterable[tuple[Sight, set[str]]]
_FEW: Final = 5
_PORTS_TOLD: Final = 10
_MOST_PROGRAMS: Final = 200  # on ports that vary, in one class: hosts choose how many there are


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a class of hosts must show to be learnt: `share` percent of the hosts that could show it.

    At least two of five hosts and more, so that no single one of them teaches anything; share 0 learns all.
    """

    share: float = 10.0

    def learns(self, shown: int, among: int) -> bool:
        """Whether what `shown` of `among` hosts have is learnt."""
        least = 2 if among >= _FEW and self.share else 1
        return shown >= max(least, math.ceil(self.share * among / 100))


@dataclass(frozen=True, slots=True)
class Outlier:
    """What was seen and not learnt, in words, and where."""

    words: str
    hosts: Hosts
    among: int


@dataclass(frozen=True, slots=True)
class Finding:
    """How many hosts a learnt port was seen on, on how many of them exactly as learnt, and what else."""

    label: str
    hosts: int
    among: int
    as_learnt: int
    outliers: tuple[Outlier, ...] = ()


@dataclass(frozen=True, slots=True)
class Learnt:
    """A rule to be: which listeners, where they may be bound (None: anywhere), who may own them.

    With `span` the ports are a range of which only what `program` holds is meant.
    """

    protocol: str
    ports: tuple[int, ...]
    entries: tuple[Entry, ...]
    scopes: tuple[str, ...] | None
    findings: tuple[Finding, ...]
    program: Program | None = None
    span: tuple[int, int] | None = None

    @property
    def content(self) -> tuple[object, ...]:
        """What the rule asserts, ports aside."""
        return (self.protocol, self.program, self.span, repr(self.entries), self.scopes)


def learn_class(seen: Seen, threshold: Threshold) -> tuple[tuple[Learnt, ...], tuple[Outlier, ...]]:
    """The rules for a class of hosts, ports with the same owners together; and what no rule approves."""
    fixed = _fixed_ports(seen)
    rules: list[Learnt] = []
    unlearnt: list[Key] = []
    for key in sorted(fixed):
        rule = _fixed_rule(key, seen, threshold)
        if rule is not None:
            rules.append(rule)
        else:
            unlearnt.append(key)
    varying = [key for key in sorted(seen.sights) if key not in fixed]
    for protocol, program in _varying_programs(seen, varying):
        rule = _varying_rule(protocol, program, seen, threshold)
        if rule is not None:
            rules.append(rule)

    outliers = (*_unlearnt(seen, unlearnt), *_unlearnt_varying(seen, varying, rules))
    return tuple(rules), outliers


# ---------------------------------------------------------------- fixed and varying ports


def _fixed_ports(seen: Seen) -> set[Key]:
    """Ports that are someone's own: outside of the ephemeral range, or the same on most of its hosts."""
    used: dict[tuple[str, Program], dict[int, set[str]]] = {}
    for (protocol, port), sights in seen.sights.items():
        for sight, hosts in sights.items():
            for program in {holder.program for holder in sight.holders if sight.span is not None}:
                used.setdefault((protocol, program), {}).setdefault(port, set()).update(hosts)
    return {key for key, sights in seen.sights.items() if _is_fixed(key, sights, used)}


def _is_fixed(
    key: Key, sights: Mapping[Sight, set[str]], used: Mapping[tuple[str, Program], Mapping[int, set[str]]]
) -> bool:
    protocol, port = key
    for sight in sights:
        if sight.span is None or any(holder.kind == "kernel" for holder in sight.holders):
            return True
        for holder in sight.holders:
            ports = used[protocol, holder.program]
            everywhere = set().union(*ports.values())
            alone = len(everywhere) == 1 and len(ports) == 1 and protocol == "tcp"
            if alone or (len(ports[port]) > 1 and 2 * len(ports[port]) > len(everywhere)):
                return True
    return not any(sight.holders for sight in sights)


def _varying_programs(seen: Seen, varying: Sequence[Key]) -> list[tuple[str, Program]]:
    """Those on the most hosts, where there are more than anybody would read rules about."""
    found: dict[tuple[str, Program], set[str]] = {}
    for protocol, port in varying:
        for sight, hosts in seen.sights[protocol, port].items():
            for holder in sight.holders:
                found.setdefault((protocol, holder.program), set()).update(hosts)
    return sorted(sorted(found, key=lambda key: (-len(found[key]), key))[:_MOST_PROGRAMS])


# ---------------------------------------------------------------- rules


def _fixed_rule(key: Key, seen: Seen, threshold: Threshold) -> Learnt | None:
    sights = list(seen.sights[key].items())
    if not threshold.learns(len(_hosts_of(sights)), len(seen.hosts)):
        return None
    protocol, port = key
    return _rule(Learnt(protocol, (port,), (), None, ()), f"{protocol} {port}", sights, seen, threshold)


def _varying_rule(protocol: str, program: Program, seen: Seen, threshold: Threshold) -> Learnt | None:
    """The rule for the ephemeral ports of a program: all that it selects counts, fixed ports too."""
    runs = _running(program)
    mine = [
        (port, sight, hosts)
        for (other, port), sights in seen.sights.items()
        if other == protocol
        for sight, hosts in sights.items()
        if any(map(runs, sight.holders))
    ]
    spans = [sight.span for _, sight, _ in mine if sight.span is not None]
    span = (min(low for low, _ in spans), max(high for _, high in spans))
    if protocol in ("udp", "udplite"):
        selected = [(sight, hosts) for _, sight, hosts in mine if sight.span is not None]
    else:
        selected = [(sight, hosts) for port, sight, hosts in mine if span[0] <= port <= span[1]]
    if not threshold.learns(len(_hosts_of(selected)), len(seen.hosts)):
        return None
    draft = Learnt(protocol, (), (), None, (), program, span)
    return _rule(draft, f"{protocol} ports that vary", selected, seen, threshold)


def _running(program: Program) -> Callable[[Identity], bool]:
    """Whether a holder is one that a selector for this program selects."""
    kind, value = program
    test = compile_value(value, Kind.TEXT, (), Bindings())
    return lambda it: it.kind == kind and (it.exe == value or test.match((it.exe,)) is True)


def _rule(draft: Learnt, label: str, sights: Sights, seen: Seen, threshold: Threshold) -> Learnt | None:
    """The draft with what these sights teach; None when they teach no owner."""
    among = _hosts_of(sights)
    holders = _collect(sights, lambda sight: sight.holders)
    known = {holder for holder, hosts in holders.items() if threshold.learns(len(hosts), len(among))}
    if not known:
        return None
    scopes = _collect(sights, lambda sight: {sight.scope} - {""})
    bound = {scope for scope, hosts in scopes.items() if threshold.learns(len(hosts), len(among))}
    anywhere = "any" in bound or not bound
    outliers = [_outlier(it.words, hosts, among) for it, hosts in holders.items() if it not in known]
    refused = _collect(sights, lambda sight: sight.refused)
    outliers += [_outlier(words, hosts, among) for words, hosts in refused.items()]
    if not anywhere:
        outliers += [
            _outlier(f"a socket bound to scope {scope}", hosts, among)
            for scope, hosts in scopes.items()
            if scope not in bound
        ]
    odd = frozenset().union(*(item.hosts for item in outliers)) if outliers else frozenset()
    finding = Finding(label, len(among), len(seen.hosts), len(among - odd), _sorted(outliers))
    return replace(
        draft,
        entries=_entries(known),
        scopes=None if anywhere else tuple(sorted(bound)),
        findings=(finding,),
    )


def _outlier(words: str, hosts: Iterable[str], among: Hosts) -> Outlier:
    return Outlier(words, frozenset(hosts), len(among))


def _sorted(outliers: Iterable[Outlier]) -> tuple[Outlier, ...]:
    return tuple(sorted(outliers, key=lambda item: (item.words, sorted(item.hosts))))


def _hosts_of(sights: Sights) -> Hosts:
    return frozenset().union(*(hosts for _, hosts in sights))


def _collect(sights: Sights, read: Callable[[Sight], Iterable[T]]) -> dict[T, set[str]]:
    found: dict[T, set[str]] = {}
    for sight, hosts in sights:
        for item in read(sight):
            found.setdefault(item, set()).update(hosts)
    return found


# ---------------------------------------------------------------- entries


def _entries(known: Iterable[Identity]) -> tuple[Entry, ...]:
    """One entry for each program, with its users and units; none that another one covers."""
    by_unit: dict[tuple[str, str, str, bool], set[str]] = {}
    for it in known:
        by_unit.setdefault((it.kind, it.exe, it.unit, it.shell), set()).add(it.user)
    by_users: dict[tuple[str, str, tuple[str, ...], bool], set[str]] = {}
    for (kind, exe, unit, shell), users in by_unit.items():
        by_users.setdefault((kind, exe, tuple(sorted(users)), shell), set()).add(unit)
    entries = [_entry(*key, units) for key, units in sorted(by_users.items())]
    return tuple(
        entry
        for place, entry in enumerate(entries)
        if not any(
            entry_covers(_fields(other), _fields(entry))
            and (number < place or not entry_covers(_fields(entry), _fields(other)))
            for number, other in enumerate(entries)
            if number != place
        )
    )


def _entry(kind: str, exe: str, users: tuple[str, ...], shell: bool, units: set[str]) -> Entry:
    if kind == "kernel":
        return {"kernel": True}
    if kind == "init":
        return {"exe": exe, "pid": 1, "reason": "socket activation"}
    entry: dict[str, object] = {"exe": exe, "user": _one_or_list(users)}
    if kind == "container":
        entry = {"exe_in_container": exe, "container": "*", "user": _one_or_list(users)}
    elif "" not in units:
        entry["unit"] = _one_or_list(sorted(units))
    if shell:
        entry["reason"] = "a shell, learnt because --allow-shells was given"
    return entry


def _fields(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "reason"}


def _one_or_list(values: Sequence[str]) -> object:
    return values[0] if len(values) == 1 else list(values)


# ---------------------------------------------------------------- what is not learnt


def _unlearnt(seen: Seen, keys: Sequence[Key]) -> Iterator[Outlier]:
    """Sights on ports that have no rule; those that differ in the port alone are one."""
    alike: dict[tuple[str, frozenset[str], str], tuple[list[int], set[str]]] = {}
    for protocol, port in keys:
        for words, hosts in _told("", seen.sights[protocol, port].items()).items():
            ports, found = alike.setdefault((protocol, frozenset(hosts), words), ([], set()))
            ports.append(port)
            found.update(hosts)
    told = sorted(
        (protocol, ports, words, sorted(hosts)) for (protocol, _, words), (ports, hosts) in alike.items()
    )
    for protocol, ports, words, names in told:
        yield Outlier(f"{protocol} {_some(ports)}{words}", frozenset(names), len(seen.hosts))


def _some(ports: Sequence[int]) -> str:
    more = f" and {len(ports) - _PORTS_TOLD} more" if len(ports) > _PORTS_TOLD else ""
    return ", ".join(map(str, ports[:_PORTS_TOLD])) + more


def _unlearnt_varying(seen: Seen, varying: Sequence[Key], rules: Sequence[Learnt]) -> Iterator[Outlier]:
    """Sights on varying ports that no rule selects."""
    known = [(rule.protocol, _running(rule.program)) for rule in rules if rule.program is not None]
    left: dict[str, list[tuple[Sight, set[str]]]] = {}
    for protocol, port in varying:
        for sight, hosts in seen.sights[protocol, port].items():
            selecting = [runs for other, runs in known if other == protocol]
            if not any(runs(holder) for holder in sight.holders for runs in selecting):
                left.setdefault(protocol, []).append((sight, hosts))
    for protocol, sights in sorted(left.items()):
        for words, hosts in sorted(_told(f"{protocol} ports that vary", sights).items()):
            yield Outlier(words, frozenset(hosts), len(seen.hosts))


def _told(label: str, sights: Sights) -> dict[str, set[str]]:
    """What was seen, in words, and on which hosts."""
    found: dict[str, set[str]] = {}
    for sight, hosts in sights:
        names = sorted({holder.words for holder in sight.holders} | sight.refused)
        scope = f" ({sight.scope})" if sight.scope else ""
        found.setdefault(f"{label}{scope}: {' and '.join(names)}", set()).update(hosts)
    return found

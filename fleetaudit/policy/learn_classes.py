"""Classes of hosts by their groups in the inventory, each with a host pattern that selects it alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.patterns import parse

_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_TERMS: Final = 12


@dataclass(frozen=True, slots=True)
class HostClass:
    """Hosts of the same groups; `pattern` None: all there are."""

    pattern: str | None
    hosts: frozenset[str]


def classes(targets: Sequence[tuple[str, Sequence[str]]]) -> tuple[HostClass, ...]:
    """The hosts with their groups, as classes by pattern: those groups count that tell hosts apart.

    All hosts are one class when groups, as patterns, cannot tell them apart.
    """
    everybody = frozenset(host for host, _ in targets)
    members: dict[str, set[str]] = {}
    for host, groups in targets:
        for group in groups:
            if _PLAIN.fullmatch(group) and group != "all":
                members.setdefault(group, set()).add(host)
    telling = _telling(members, everybody)
    sorted_by_groups: dict[tuple[str, ...], set[str]] = {}
    for host in everybody:
        mine = tuple(group for group in telling if host in members[group])
        sorted_by_groups.setdefault(mine, set()).add(host)
    found = []
    groups_of = dict(targets)
    for mine, hosts in sorted(sorted_by_groups.items()):
        pattern = _pattern(mine, frozenset(hosts), telling, members, everybody)
        if pattern is None or _selected(pattern, groups_of) != hosts:
            return (HostClass(None, everybody),)
        found.append(HostClass(pattern, frozenset(hosts)))
    if len(found) <= 1:
        return (HostClass(None, everybody),)
    return tuple(sorted(found, key=lambda item: item.pattern or ""))


def _telling(members: Mapping[str, set[str]], everybody: frozenset[str]) -> tuple[str, ...]:
    """One group for each set of hosts that is not all of them."""
    found: dict[frozenset[str], str] = {}
    for group in sorted(members, key=lambda name: (len(name), name)):
        if members[group] != everybody:
            found.setdefault(frozenset(members[group]), group)
    return tuple(sorted(found.values()))


def _pattern(
    mine: Sequence[str],
    hosts: frozenset[str],
    telling: Sequence[str],
    members: Mapping[str, set[str]],
    everybody: frozenset[str],
) -> str | None:
    """The fewest terms found greedily: groups that they share, less groups of the others."""
    selected = set(everybody)
    included: list[str] = []
    for group in sorted(mine, key=lambda name: (len(members[name]), name)):
        if selected - members[group]:
            included.append(group)
            selected &= members[group]
        if selected == hosts:
            break
    excluded: list[str] = []
    others = [group for group in telling if group not in mine]
    while selected != hosts:
        group = max(others, key=lambda name: (len(selected & members[name]), name), default="")
        if not group or not selected & members[group]:
            return None
        excluded.append(group)
        selected -= members[group]
    if len(included) + len(excluded) > _MOST_TERMS:
        return None
    first, *more = included or ["all"]
    return ":".join([first, *(f"&{group}" for group in more), *(f"!{group}" for group in sorted(excluded))])


def _selected(pattern: str, groups: Mapping[str, Iterable[str]]) -> set[str]:
    parsed = parse(pattern)
    return {host for host, mine in groups.items() if parsed.matches(host, tuple(mine))}

"""Inventories: sources in, hosts and groups out. `FORMATS` is the one table of what can be read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fleetaudit import patterns
from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import ansible_ini, ansible_list, ansible_yaml, host_list, salt_roster, ssh_config
from fleetaudit.inventory.base import Format, Overrides, Stated, apply
from fleetaudit.inventory.gathering import DISK, Disk, gather
from fleetaudit.inventory.tree import ALL, Member, Variable
from fleetaudit.inventory.variables import secret_name, state
from fleetaudit.model import Host, Source
from fleetaudit.patterns import HostPattern, Term
from fleetaudit.text import visible

__all__ = [
    "ALL",
    "FORMATS",
    "Branch",
    "Disk",
    "Inventory",
    "Overrides",
    "Stated",
    "Variable",
    "apply",
    "load",
    "secret_name",
]

FORMATS: Final[Mapping[str, Format]] = {
    "host_list": host_list,
    "ansible_list": ansible_list,
    "salt_roster": salt_roster,
    "ssh_config": ssh_config,
    "ansible_ini": ansible_ini,
    "ansible_yaml": ansible_yaml,
}
"""In the order in which they are asked whether a source is theirs."""

_MAX_PROBLEMS: Final = 50


@dataclass(frozen=True, slots=True)
class Branch:
    """What stands directly in a group: hosts and child groups, in the order in which they were written."""

    hosts: tuple[str, ...]
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Hosts sorted by name; for each group (`all` too) the names of all hosts in it, and its branch.

    `branches` and `written`, the names of all hosts, are in the order in which they were written.
    """

    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    branches: Mapping[str, Branch]
    sources: tuple[Source, ...]
    variables: Mapping[str, Mapping[str, Variable]] = field(default_factory=dict, repr=False)
    """All variables of each host, merged, with where each was set; secrets among them."""
    written: tuple[str, ...] = ()

    def select(
        self, pattern: str = ALL, limit: str | None = None, read: Callable[[str], bytes] = DISK.read
    ) -> tuple[Host, ...]:
        """The hosts that the pattern, and the limit if there is one, both select; sorted by name.

        `read` gets the files of terms `@FILE`.

        Raises InventoryError for a malformed pattern, one that names what does not exist, and one that
        selects nothing: a misspelt name must not make the audit smaller.
        """
        texts = [pattern] if limit is None else [pattern, limit]
        parsed = [self._pattern(text, read) for text in texts]
        chosen = self.hosts
        for index, wanted in enumerate(parsed):
            chosen = tuple(host for host in chosen if wanted.matches(host.name, host.context.groups))
            if not chosen:
                left = f" within '{visible(texts[0])}'" if index else ""
                message = f"host pattern '{visible(wanted.text)}' matches no host{left}"
                raise InventoryError(Problem(message, hint=self._names_hint()))
        return chosen

    def _pattern(self, text: str, read: Callable[[str], bytes]) -> HostPattern:
        try:
            parsed = patterns.parse(text, read)
            problems = list(self._unknown(parsed))
            if problems:
                raise InventoryError(problems[:_MAX_PROBLEMS])
            return parsed.placed(self._fitted)
        except ConfigError as error:
            raise InventoryError(error.problems) from None

    def _unknown(self, pattern: HostPattern) -> Iterator[Problem]:
        known = {host.name for host in self.hosts} | set(self.groups)
        terms = tuple(pattern.named())
        for term in terms:
            if term.literal and term.name not in known:
                near = difflib.get_close_matches(term.name, sorted(known), n=3)
                hint = f"did you mean {' or '.join(map(visible, near))}?" if near else self._names_hint()
                message = f"no host or group is called '{visible(term.name)}'"
                if term.place is None:
                    message = f"host pattern '{visible(pattern.text)}': {message}"
                yield Problem(message, term.place, hint)
            elif len(terms) > 1 and not (term.literal or term.operator or any(map(term.fits, known))):
                message = f"'{visible(term.text)}' fits no host and no group"
                if term.place is None:
                    message = f"host pattern '{visible(pattern.text)}': {message}"
                yield Problem(message, term.place, self._names_hint())

    def _fitted(self, term: Term) -> list[str]:
        """What a term fits, in the order that its positions count: groups, then hosts, as Ansible has it.

        A host may be there twice (ansible/inventory/manager.py, _enumerate_matches).
        """
        groups = [name for name in self.branches if term.fits(name)]
        found = [host for group in groups for host in self._ordered(group)]
        if not groups or any(char in term.name for char in ".?*["):
            found += [host for host in self.written if term.fits(host)]
        return found

    def _ordered(self, group: str) -> Iterator[str]:
        """The hosts of a group: its own, then those of the groups below it, level by level."""
        seen: dict[str, None] = {}
        level = [group]
        done: set[str] = set()
        while level:
            done.update(level)
            for name in level:
                seen.update(dict.fromkeys(self.branches[name].hosts))
            below = dict.fromkeys(child for name in level for child in self.branches[name].children)
            level = [name for name in below if name not in done]
        return iter(seen)

    def _names_hint(self) -> str:
        shown = [visible(name) for name in self.groups if self.groups[name]][:10]
        return f"groups with hosts: {', '.join(shown)}"


def load(
    sources: Sequence[str],
    disk: Disk = DISK,
    *,
    home: str,
    overrides: Overrides | None = None,
    via: str | None = None,
) -> Inventory:
    """The inventory that the sources make together, a later one winning over an earlier one.

    A source is a path, a list of hosts (`host1,host2,`) or `NAME:WHAT` for a plugin. `home` stands for ~ in
    key paths. `via` "ansible" has Ansible read them all.
    Raises InventoryError with every mistake of the first stage that finds one.
    """
    if not sources:
        raise InventoryError(
            Problem("no inventory was given", hint="name one with -i FILE or -i host1,host2,")
        )
    try:
        gathered = gather(sources, FORMATS, disk, via)
    except ConfigError as error:
        raise _error(error.problems) from None
    tree = gathered.tree
    members = tree.resolve()
    if not members:
        message = "the inventory has no host"
        raise InventoryError(Problem(message, Place(sources[0]), "add a group with hosts"))
    hosts = _hosts(members, home, overrides or Overrides())
    branches = {name: Branch(direct, children) for name, direct, children in tree.branches()}
    variables = {member.name: member.variables for member in members}
    groups = _groups(members, branches)
    written = tree.host_names
    return Inventory(hosts, groups, MappingProxyType(branches), tuple(gathered.used), variables, written)


def _hosts(members: Sequence[Member], home: str, overrides: Overrides) -> tuple[Host, ...]:
    hosts: list[Host] = []
    problems: list[Problem] = []
    for member in members:
        stated, found = state(member, home, overrides.become_method or "sudo")
        problems += found
        hosts.append(apply(stated, overrides))
    if problems:
        raise _error(problems)
    return tuple(hosts)


def _groups(members: Sequence[Member], branches: Mapping[str, Branch]) -> Mapping[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {name: [] for name in sorted(branches)}
    for member in members:
        for group in (ALL, *member.groups):
            names[group].append(member.name)
    return MappingProxyType({name: tuple(hosts) for name, hosts in names.items()})


def _error(problems: Sequence[Problem]) -> InventoryError:
    """Each problem once (a group's variable is met at each of its hosts), and not without end."""
    unique = list(dict.fromkeys(problems))
    rest = len(unique) - _MAX_PROBLEMS
    more = [Problem(f"and {rest} more problems")] if rest > 0 else []
    return InventoryError([*unique[:_MAX_PROBLEMS], *more])

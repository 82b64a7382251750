"""Groups, hosts and variables while sources are read, and what follows from them for each host.

The rules are Ansible's (https://docs.ansible.com/ansible/latest/inventory_guide/intro_inventory.html and
ansible/inventory/data.py): every group descends from `all`; a host in no other group is in `ungrouped`;
group variables apply by depth, then `ansible_group_priority`, then name; host variables come last; of two
sources the later one wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.text import visible

ALL: Final = "all"
UNGROUPED: Final = "ungrouped"
PRIORITY: Final = "ansible_group_priority"
MAX_ENTRIES: Final = 500_000  # host entries, ranges expanded: what a typing slip in a range must not exceed
MAX_DEPTH: Final = 50
ENCRYPTED: Final = object()
"""The value of a variable that cannot be read. It outdoes others like any value, and no host has the variable
then: what a group says in its place is not what was meant."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's value and where it was set."""

    value: object
    place: Place


@dataclass(frozen=True, slots=True)
class Member:
    """A host with all its groups (sorted, without `all`) and its variables, merged."""

    name: str
    place: Place
    groups: tuple[str, ...]
    variables: Mapping[str, Variable]


@dataclass(slots=True)
class _Group:
    place: Place
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    parents: dict[str, None] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    depth: int = 0


@dataclass(slots=True)
class _Host:
    place: Place
    groups: dict[str, None] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """Variables kept in files beside a source (`group_vars/`, `host_vars/`), by group and by host.

    They outdo what sources say of any group, and of the host.
    """

    groups: Mapping[str, Mapping[str, Variable]]
    hosts: Mapping[str, Mapping[str, Variable]]


class Tree:
    """Everything the sources said so far. Sources add to it in their order."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._hosts: dict[str, _Host] = {}
        self._layers: list[Layer] = []
        self._entries = 0
        self.add_group(ALL, Place("(built in)"))
        self.add_group(UNGROUPED, Place("(built in)"))
        self.add_child(ALL, UNGROUPED, Place("(built in)"))

    def add_group(self, name: str, place: Place) -> None:
        """Make the group known."""
        self._groups.setdefault(name, _Group(place))

    def add_child(self, parent: str, child: str, place: Place) -> None:
        """Put a known group below another."""
        self._groups[parent].children.setdefault(child, place)
        self._groups[child].parents[parent] = None

    def add_host(self, name: str, group: str, place: Place) -> None:
        """Put a host into a known group. Raises InventoryError when there are too many."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            message = f"more than {MAX_ENTRIES} host entries"
            raise InventoryError(Problem(message, place, "check the ranges, or split the inventory"))
        host = self._hosts.setdefault(name, _Host(place))
        if group != ALL:
            host.groups[group] = None
        self._groups[group].hosts[name] = None

    def has_host(self, name: str) -> bool:
        """Whether a source named this host already."""
        return name in self._hosts

    def set_group_variable(self, group: str, name: str, variable: Variable) -> None:
        """Set a variable for a known group."""
        self._groups[group].variables[name] = variable

    def set_host_variable(self, host: str, name: str, variable: Variable) -> None:
        """Set a variable for a known host."""
        self._hosts[host].variables[name] = variable

    def add_layer(self, layer: Layer) -> None:
        """Add what files beside a source say; a later layer outdoes an earlier one."""
        self._layers.append(layer)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups known so far."""
        return tuple(self._groups)

    @property
    def host_names(self) -> tuple[str, ...]:
        """The hosts known so far."""
        return tuple(self._hosts)

    def resolve(self) -> tuple[Member, ...]:
        """Every host, sorted by name. Raises InventoryError for a group that contains itself.

        Call it once, when every source was read.
        """
        self._root()
        self._measure()
        ranks = self._ranks()
        merged: dict[frozenset[str], tuple[tuple[str, ...], dict[str, Variable]]] = {}
        members = []
        for name, host in sorted(self._hosts.items()):
            direct = frozenset(host.groups)
            if direct not in merged:
                groups = self._above(direct)
                ordered = sorted((*groups, ALL), key=ranks.__getitem__)
                merged[direct] = tuple(sorted(groups)), self._of_groups(ordered)
            groups_sorted, inherited = merged[direct]
            variables = inherited | host.variables
            for layer in self._layers:
                variables |= layer.hosts.get(name, {})
            known = {key: variable for key, variable in variables.items() if variable.value is not ENCRYPTED}
            members.append(Member(name, host.place, groups_sorted, known))
        return tuple(members)

    def _of_groups(self, ordered: Sequence[str]) -> dict[str, Variable]:
        """The variables of these groups, `all` first: files beside the sources outdo all the sources."""
        variables: dict[str, Variable] = {}
        for group in ordered:
            variables |= self._groups[group].variables
        variables.pop(PRIORITY, None)
        for groups in (ordered[:1], ordered[1:]):
            for layer in self._layers:
                for group in groups:
                    variables |= layer.groups.get(group, {})
        return variables

    def branches(self) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Each group with the hosts directly in it and its child groups, as written. After `resolve`."""
        for name, group in self._groups.items():
            yield name, tuple(group.hosts), tuple(group.children)

    def _root(self) -> None:
        """Hang every group without a parent below `all`, and every host without a group into `ungrouped`."""
        for name, group in self._groups.items():
            if name != ALL and not group.parents:
                self.add_child(ALL, name, group.place)
        ungrouped = self._groups[UNGROUPED]
        for name, host in self._hosts.items():
            if len(host.groups) > 1 and UNGROUPED in host.groups:
                del host.groups[UNGROUPED], ungrouped.hosts[name]
            elif not host.groups:
                host.groups[UNGROUPED] = ungrouped.hosts[name] = None

    def _measure(self) -> None:
        """Each group's depth: the longest way down to it from `all`, which is 0."""
        waiting = {name: len(group.parents) for name, group in self._groups.items()}
        ready = [name for name, parents in waiting.items() if not parents]
        while ready:
            name = ready.pop()
            group = self._groups[name]
            for child, place in group.children.items():
                below = self._groups[child]
                below.depth = max(below.depth, group.depth + 1)
                if below.depth > MAX_DEPTH:
                    message = f"groups are nested deeper than {MAX_DEPTH} levels"
                    raise InventoryError(Problem(message, place, "flatten them"))
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)
            del waiting[name]
        if waiting:
            raise InventoryError(self._loop(waiting))

    def _loop(self, stuck: Iterable[str]) -> Problem:
        """The loop among groups that all have a parent in the same predicament."""
        left = set(stuck)
        name = min(left)
        walked: list[str] = []
        while name not in walked:
            walked.append(name)
            name = min(parent for parent in self._groups[name].parents if parent in left)
        loop = [*walked[walked.index(name) :], name][::-1]
        place = self._groups[loop[0]].children[loop[1]]
        way = " -> ".join(visible(step) for step in loop)
        return Problem(f"a group contains itself: {way}", place, "remove one of these children")

    def _ranks(self) -> dict[str, tuple[int, int, str]]:
        problems: list[Problem] = []
        ranks = {}
        for name, group in self._groups.items():
            priority = 1
            variable = group.variables.get(PRIORITY)
            if variable is not None:
                try:
                    priority = int(str(variable.value))
                except ValueError:
                    message = f"{PRIORITY} is not a whole number"
                    problems.append(Problem(message, variable.place, "write for example 10"))
            ranks[name] = (group.depth, priority, name)
        if problems:
            raise InventoryError(problems)
        return ranks

    def _above(self, direct: Iterable[str]) -> set[str]:
        """The groups and all their ancestors, without `all`."""
        found: set[str] = set()
        waiting = [name for name in direct if name != ALL]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [parent for parent in self._groups[name].parents if parent != ALL]
        return found

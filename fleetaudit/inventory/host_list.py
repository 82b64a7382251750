"""Hosts named on the command line: `host1,host2:2222,` (a comma makes it a list, as in Ansible)."""

from __future__ import annotations

from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import names
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable


def claims(source: str, text: bytes) -> bool:
    """Whether the source is a list and not a path: it holds a comma."""
    del text
    return "," in source


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add each host of the comma-separated list. Raises ConfigError with every mistake."""
    place = Place(file)
    problems: list[Problem] = []
    for entry in text.decode("utf-8", "surrogateescape").split(","):
        name = entry.strip()
        if not name:
            continue
        try:
            _add(name, place, tree)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise InventoryError(problems)


def _add(entry: str, place: Place, tree: Tree) -> None:
    hosts, port = names.expand(entry, place)
    for host in hosts:
        if tree.has_host(host):
            continue  # an earlier source said more about it
        tree.add_host(host, UNGROUPED, place)
        if port is not None:
            tree.set_host_variable(host, "ansible_port", Variable(port, place))

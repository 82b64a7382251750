"""The JSON that `ansible-inventory --list` and inventory scripts print.

https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html: group name to `hosts`,
`children` and `vars`, or to a mere list of hosts; `_meta.hostvars` has the variables of hosts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import names, vault
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.text import visible

_META: Final = "_meta"
_KEYS: Final = frozenset({"hosts", "children", "vars"})
# Cheap to see, and no group is called so.
_LOOKS_SO: Final = re.compile(rb'\s*\{.{0,200}?"_meta"\s*:', re.DOTALL)
_HINT: Final = "it must be what `ansible-inventory --list` prints"


def claims(source: str, text: bytes) -> bool:
    """A JSON object that begins with `_meta`, or names it early."""
    return bool(source) and bool(_LOOKS_SO.match(text))


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add what it says. Raises ConfigError with every mistake."""
    add(document(text, file), file, tree)


def document(text: bytes, file: str) -> Mapping[str, object]:
    """The object in the text. Raises InventoryError."""
    try:
        value = json.loads(names.decode(text, file), object_pairs_hook=_once)
        # Python reads more than JSON is: NaN and 1e999, and halves of characters (\ud800).
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise InventoryError(Problem("it is nested too deep", Place(file), _HINT)) from None
    except ValueError as error:
        raise InventoryError(Problem(f"this is no JSON: {visible(str(error))}", Place(file), _HINT)) from None
    if not isinstance(value, dict):
        raise InventoryError(Problem("this is no JSON object", Place(file), _HINT))
    return value


def add(
    value: Mapping[str, object],
    file: str,
    tree: Tree,
    ask: Callable[[str], Mapping[str, object]] | None = None,
) -> None:
    """Add what the document says; `ask` gives the variables of a host where there is no `_meta`."""
    reader = _Reader(Place(file), tree)
    for name, body in value.items():
        if name != _META:
            reader.group(name, body)
    meta = value.get(_META)
    if isinstance(meta, Mapping) and isinstance(meta.get("hostvars", {}), Mapping):
        for host, variables in meta.get("hostvars", {}).items():
            reader.variables(host, variables)
    elif meta is not None:
        reader.wrong("_meta", "has no hostvars")
    elif ask is not None:
        for host in reader.hosts:
            reader.variables(host, ask(host))
    if reader.problems:
        raise InventoryError(reader.problems)


class _Reader:
    def __init__(self, place: Place, tree: Tree) -> None:
        self.problems: list[Problem] = []
        self.hosts: dict[str, None] = {}
        self._place = place
        self._tree = tree

    def wrong(self, what: str, message: str) -> None:
        self.problems.append(Problem(f"'{visible(what)}' {message}", self._place, _HINT))

    def group(self, name: str, body: object) -> None:
        if isinstance(body, list):
            body = {"hosts": body}
        if not isinstance(body, Mapping):
            self.wrong(name, "is no group")
            return
        if not _KEYS & body.keys():  # as Ansible has it: a host with its variables
            body = {"hosts": [name], "vars": body} if body else {}
        try:
            names.check(name, "group", self._place)
            self._tree.add_group(name, self._place)
            for host in self._listed(name, "hosts", body):
                names.check(host, "host", self._place)
                self._tree.add_host(host, name, self._place)
                self.hosts[host] = None
            for child in self._listed(name, "children", body):
                names.check(child, "group", self._place)
                self._tree.add_group(child, self._place)
                if name != UNGROUPED:
                    self._tree.add_child(name, child, self._place)
        except ConfigError as error:
            self.problems += error.problems
            return
        variables = body.get("vars") or {}
        if not isinstance(variables, Mapping):
            self.wrong(name, "has vars that are no object")
            return
        for key, value in self._readable(variables).items():
            self._tree.set_group_variable(name, key, Variable(value, self._place))

    def variables(self, host: str, variables: object) -> None:
        if not isinstance(variables, Mapping):
            self.wrong(host, "has variables that are no object")
        elif self._tree.has_host(host):  # hostvars of others are of no use, as with Ansible
            for key, value in self._readable(variables).items():
                self._tree.set_host_variable(host, key, Variable(value, self._place))

    def _readable(self, variables: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return vault.readable(variables, lambda _: self._place)
        except InventoryError as error:
            self.problems += error.problems
            return {}

    def _listed(self, group: str, what: str, body: Mapping[str, object]) -> list[str]:
        found = body.get(what) or []
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            self.wrong(group, f"has {what} that are no list of names")
            return []
        return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"'{twice}' stands twice")
    return found

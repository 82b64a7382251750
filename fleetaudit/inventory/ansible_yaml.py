"""Ansible's YAML inventory: groups with hosts, children and vars, nested at will."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from fleetaudit import schema, yamlio
from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import names, vault
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.yamlio import Document

_RENAME: Final = "rename it: .ini, or no extension"
_INI_HEADER: Final = re.compile(rb"\s*\[[A-Za-z0-9_.: -]+\]\s*(?:[#;].*)?\Z")
_Path: TypeAlias = tuple[str | int, ...]


def claims(source: str, text: bytes) -> bool:
    """Every path: the format of last resort. What it is not, `parse` names."""
    del text
    return bool(source)


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add the file's groups and hosts. Raises ConfigError with every mistake, located."""
    _refuse_other_forms(text, file)
    document = yamlio.parse(text, file, vault.TAGS)
    _refuse_other_documents(document)
    problems = schema.problems(document, "inventory")
    if problems:
        raise InventoryError(problems)
    reader = _Reader(document, tree)
    for name, body in _mapping(document.value).items():
        reader.group(name, _mapping(body), (name,), None)
    if reader.problems:
        raise InventoryError(reader.problems)


def _refuse_other_forms(text: bytes, file: str) -> None:
    lines = (line for line in text.splitlines() if line.strip() and line.lstrip()[:1] not in b"#;")
    if _INI_HEADER.match(next(lines, b"")):
        message = "this is an INI inventory, and its name says YAML"
        raise InventoryError(Problem(message, Place(file), _RENAME))


def _refuse_other_documents(document: Document) -> None:
    value = document.value
    if isinstance(value, str):
        message = "this looks like an INI inventory, and its name says YAML"
        raise InventoryError(Problem(message, document.place((), key=True), _RENAME))
    if isinstance(value, Mapping) and isinstance(value.get("plugin"), str):
        message = "this is the configuration of an inventory plugin"
        hint = "pass --inventory-via ansible, and Ansible runs it"
        raise InventoryError(Problem(message, document.place(("plugin",), key=True), hint))


class _Reader:
    """Walks one document into the tree, noting every mistake."""

    def __init__(self, document: Document, tree: Tree) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._tree = tree

    def group(self, name: str, body: Mapping[str, object], path: _Path, parent: str | None) -> None:
        place = self._document.place(path, key=True)
        try:
            names.check(name, "group", place)
        except ConfigError as error:
            self.problems += error.problems
            return
        self._tree.add_group(name, place)
        if parent is not None:
            self._tree.add_child(parent, name, place)
        for key, variable in self._variables(body.get("vars"), (*path, "vars")).items():
            self._tree.set_group_variable(name, key, variable)
        for host, variables in _mapping(body.get("hosts")).items():
            try:
                self._hosts(host, _mapping(variables), (*path, "hosts", host), name)
            except ConfigError as error:
                self.problems += error.problems
        children = _mapping(body.get("children"))
        if name == UNGROUPED and children:
            # Its hosts are those in no other group: what Ansible makes of this depends on the file's order.
            where = self._document.place((*path, "children"), key=True)
            self.problems.append(Problem("'ungrouped' cannot have children", where, "use another group"))
            return
        for child, inner in children.items():
            self.group(child, _mapping(inner), (*path, "children", child), name)

    def _hosts(self, key: str, body: Mapping[str, object], path: _Path, group: str) -> None:
        place = self._document.place(path, key=True)
        hosts, port = names.expand(key, place)
        variables = self._variables(body, path)
        for host in hosts:
            new = not self._tree.has_host(host)
            self._tree.add_host(host, group, place)
            if port is not None and new:
                self._tree.set_host_variable(host, "ansible_port", Variable(port, place))
            for name, variable in variables.items():
                self._tree.set_host_variable(host, name, variable)

    def _variables(self, body: object, path: _Path) -> dict[str, Variable]:
        def place(name: str) -> Place:
            return self._document.place((*path, name))

        try:
            plain = vault.readable(_mapping(body), place)
        except InventoryError as error:
            self.problems += error.problems
            return {}
        return {name: Variable(value, place(name)) for name, value in plain.items()}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}

"""Ansible's INI inventory: hosts by line, `[group]`, `[group:vars]`, `[group:children]`.

Values are read as Ansible reads them (ansible/plugins/inventory/ini.py): what Python takes for a literal is
one, everything else is text. So `port=22` is a number and `flag=yes` is text.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import warnings
from collections.abc import Callable
from typing import Final

from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import names
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.text import visible

_SECTION: Final = re.compile(r"\[(?P<name>[^:\]\s]+)(?::(?P<kind>\w+))?\]\s*(?:#.*)?\Z")
_GROUP: Final = re.compile(r"(?P<name>[^:\]\s]+)\s*(?:#.*)?\Z")
_YAML_NAMES: Final = (".yaml", ".yml", ".json")
# The first words of a YAML document: a key, a document's start, a flow mapping or a comment of YAML alone.
_YAML_START: Final = re.compile(rb"""(?:---|%YAML|\{|(?:"[^"]*"|'[^']*'|[^\s'"\[=]+):(?:\s|\Z))""")
# Names and passwords are text, though they may be made of digits alone.
_TEXT: Final = re.compile(r"ansible_\w*(?:host|user|pass|password|file|args)")
_LONGEST_VALUE: Final = 100_000


def claims(source: str, text: bytes) -> bool:
    """A file that is not called YAML and does not begin as YAML does: Ansible takes no other for YAML."""
    if not source or source.endswith(_YAML_NAMES):
        return False
    return source.endswith((".ini", ".cfg")) or not _YAML_START.match(_first_line(text))


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add the file's groups and hosts. Raises ConfigError with every mistake, located."""
    reader = _Reader(file, tree)
    for number, line in enumerate(names.decode(text, file).splitlines(), 1):
        stripped = line.strip()
        if stripped and line[0] not in "#;" and stripped[0] not in "#;":
            reader.read(stripped, Place(file, number))
    reader.finish()
    if reader.problems:
        raise InventoryError(reader.problems)


class _Reader:
    """Goes through the lines, noting every mistake. What is named before it is declared comes last."""

    def __init__(self, file: str, tree: Tree) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._tree = tree
        self._group = UNGROUPED
        self._read: Callable[[str, Place], None] = self._host
        self._declared = {*tree.group_names}  # by earlier sources, too
        self._waiting: dict[str, Place] = {}  # groups with variables or a parent, and nothing else so far

    def read(self, line: str, place: Place) -> None:
        try:
            section = _SECTION.match(line)
            if section:
                self._begin(section["name"], section["kind"] or "hosts", place)
            elif line.startswith("[") and line.endswith("]"):
                message = f"'{visible(line)}' is no section"
                raise InventoryError(
                    Problem(message, place, "write [group], [group:vars] or [group:children]")
                )
            else:
                self._read(line, place)
        except ConfigError as error:
            self.problems += error.problems

    def finish(self) -> None:
        for name, place in self._waiting.items():
            if name not in self._declared:
                message = f"no section declares the group '{visible(name)}'"
                self.problems.append(
                    Problem(message, place, f"add the line [{visible(name)}], or correct it")
                )

    def _begin(self, name: str, kind: str, place: Place) -> None:
        readers = {"hosts": self._host, "vars": self._variable, "children": self._child}
        if kind not in readers:
            message = f"'{visible(kind)}' is no kind of section"
            raise InventoryError(Problem(message, place, "write [group], [group:vars] or [group:children]"))
        self._read = readers[kind]
        self._group = names.check(name, "group", place)
        self._tree.add_group(name, place)
        if kind == "vars":
            self._waiting.setdefault(name, place)
        else:
            self._declared.add(name)
        if kind == "children" and name == UNGROUPED:
            raise InventoryError(Problem("'ungrouped' cannot have children", place, "use another group"))

    def _child(self, line: str, place: Place) -> None:
        found = _GROUP.match(line)
        if not found:
            raise InventoryError(
                Problem(f"'{visible(line)}' is no group name", place, "write one name a line")
            )
        child = names.check(found["name"], "group", place)
        self._waiting.setdefault(child, place)
        if self._group != UNGROUPED:
            self._tree.add_group(child, place)
            self._tree.add_child(self._group, child, place)

    def _variable(self, line: str, place: Place) -> None:
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals:
            raise InventoryError(Problem(f"'{visible(line)}' is no variable", place, "write name=value"))
        self._tree.set_group_variable(self._group, name, Variable(_value(name, text, place), place))

    def _host(self, line: str, place: Place) -> None:
        try:
            first, *words = shlex.split(line, comments=True)
        except ValueError as error:
            message = f"{str(error).lower()} in '{visible(line)}'"
            raise InventoryError(Problem(message, place, "close the quotation mark")) from None
        if "=" in first:
            message = f"'{visible(first)}' is no host name"
            hint = "write a group's variables below [group:vars]"
            raise InventoryError(Problem(message, place, hint))
        variables = {}
        for word in words:
            name, equals, text = word.partition("=")
            if not equals:
                message = f"'{visible(word)}' is no variable"
                raise InventoryError(Problem(message, place, "write name=value, with quotes around blanks"))
            variables[name] = Variable(_value(name, text, place), place)
        hosts, port = names.expand(first, place)
        for host in hosts:
            new = not self._tree.has_host(host)
            self._tree.add_host(host, self._group, place)
            if port is not None and new:
                self._tree.set_host_variable(host, "ansible_port", Variable(port, place))
            for name, variable in variables.items():
                self._tree.set_host_variable(host, name, variable)


def _value(name: str, text: str, place: Place) -> object:
    if _TEXT.fullmatch(name):
        return text
    if len(text) > _LONGEST_VALUE:
        raise InventoryError(
            Problem("a value is too long", place, f"{_LONGEST_VALUE} characters are allowed")
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in what is no literal, such as C:\path
            value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text
    except (RecursionError, MemoryError):
        raise InventoryError(Problem("a value is nested too deep", place, "put it into YAML")) from None
    plain = _plain(value, text)
    try:  # Python's literals include 1e999 and halves of characters, which no report can hold
        json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return text
    return plain


def _plain(value: object, text: str) -> object:
    """The literal as JSON can hold it. What it cannot hold, nobody needs here: it stays text."""
    if isinstance(value, list | tuple):
        return [_plain(item, text) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, text) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else text


def _first_line(text: bytes) -> bytes:
    lines = (line.strip() for line in text.removeprefix(b"\xef\xbb\xbf").splitlines())
    return next((line for line in lines if line and line[:1] not in b"#;"), b"")

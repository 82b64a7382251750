"""Variables in files beside an inventory: `group_vars/` and `host_vars/`, as Ansible looks for them.

A group's or host's file is named as it is, without extension or as .yml, .yaml or .json; the first of these
that exists counts. It may be a directory, of which all such files are read in the order of their names
(ansible/plugins/vars/host_group_vars.py, ansible/parsing/dataloader.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import vault
from fleetaudit.inventory.tree import Layer, Tree, Variable

GROUPS: Final = "group_vars"
HOSTS: Final = "host_vars"
_EXTENSIONS: Final = ("", ".yml", ".yaml", ".json")
_DEEPEST: Final = 20

Read = Callable[[str], bytes]
Listing = Callable[[str], tuple[str, ...] | None]


def layer(folder: str, tree: Tree, read: Read, listing: Listing) -> tuple[Layer | None, tuple[str, ...]]:
    """What the files in `folder` say of the groups and hosts known so far, and which files these are.

    None when there is nothing. Raises InventoryError with every mistake.
    """
    reader = _Reader(read, listing)
    groups = reader.of(f"{folder}/{GROUPS}", tree.group_names)
    hosts = reader.of(f"{folder}/{HOSTS}", tree.host_names)
    if reader.problems:
        raise InventoryError(reader.problems)
    return (Layer(groups, hosts) if groups or hosts else None), tuple(reader.files)


class _Reader:
    def __init__(self, read: Read, listing: Listing) -> None:
        self.problems: list[Problem] = []
        self.files: list[str] = []
        self._read = read
        self._listing = listing

    def of(self, folder: str, wanted: Iterable[str]) -> Mapping[str, Mapping[str, Variable]]:
        present = frozenset(self._listing(folder) or ())
        found = {}
        for name in wanted if present else ():
            entry = next((name + end for end in _EXTENSIONS if name + end in present), None)
            if entry is None:
                continue
            variables: dict[str, Variable] = {}
            for file in self._files(f"{folder}/{entry}", 0):
                variables |= self._variables(file)
            if variables:
                found[name] = variables
        return found

    def _files(self, path: str, depth: int) -> Iterator[str]:
        names = self._listing(path)
        if names is None:
            yield path
            return
        if depth > _DEEPEST:
            message = f"directories are nested deeper than {_DEEPEST} levels"
            raise InventoryError(Problem(message, Place(path), "is there a link to itself?"))
        for name in names:
            stem, dot, extension = name.rpartition(".")
            if name.startswith(".") or name.endswith("~"):
                continue
            if (stem and dot + extension in _EXTENSIONS) or not dot:
                below = f"{path}/{name}"
                if not dot or self._listing(below) is None:
                    yield from self._files(below, depth + 1)

    def _variables(self, file: str) -> Mapping[str, Variable]:
        self.files.append(file)
        try:
            text = self._read(file)
            vault.refuse(text, file)
            document = yamlio.parse(text, file, vault.TAGS)
        except ConfigError as error:
            self.problems += error.problems
            return {}
        if document.value is None:
            return {}
        if not isinstance(document.value, Mapping):
            message = "these are no variables"
            self.problems.append(Problem(message, document.place(()), "write name: value, one a line"))
            return {}

        def place(name: str) -> Place:
            return document.place((name,))

        try:
            plain = vault.readable(document.value, place)
        except InventoryError as error:
            self.problems += error.problems
            return {}
        return {name: Variable(value, place(name)) for name, value in plain.items()}

"""From sources to a tree: directories, scripts, files of any format, and the variables beside them."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import (
    ansible_list,
    ansible_yaml,
    beside,
    files,
    host_list,
    names,
    plugin,
    script,
    vault,
)
from fleetaudit.inventory.base import Format
from fleetaudit.inventory.tree import Tree
from fleetaudit.model import Source

# What Ansible passes over in a directory of inventories: INVENTORY_IGNORE_EXTS in ansible/config/base.yml.
_IGNORED: Final = re.compile(
    r"\..*|(?:host_vars|group_vars|vars_plugins)\Z|"
    r".*(?:~|\.(?:pyc|pyo|swp|bak|rpm|md|txt|rst|orig|cfg|retry))\Z",
    re.DOTALL,
)
_DEEPEST: Final = 20
_ANSIBLE: Final = "ansible-inventory"
_VAULT: Final = "ansible-vault"
# Otherwise Ansible only warns of a source that it cannot read, and goes on with fewer hosts; and variables of
# groups are to come merged into those of hosts, in Ansible's order.
_WHOLE: Final = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "ANSIBLE_INVENTORY_EXPORT": "false"}


@dataclass(frozen=True, slots=True)
class Disk:
    """How sources are read."""

    read: Callable[[str], bytes] = files.read
    listing: Callable[[str], tuple[str, ...] | None] = files.listing
    is_executable: Callable[[str], bool] = files.is_executable


DISK: Final = Disk()


class Gathering:
    """Fills a tree from sources, in their order. Raises ConfigError with every mistake of one source."""

    def __init__(self, formats: Mapping[str, Format], disk: Disk) -> None:
        self.tree = Tree()
        self.used: list[Source] = []
        self._formats = formats
        self._disk = disk
        self._folders: list[str] = []

    def add(self, source: str) -> None:
        """Add one source, as `-i` names it."""
        if not source:
            raise InventoryError(Problem("the name of an inventory is empty", hint="write -i FILE"))
        form, _, path = source.partition(":")
        told = plugin.read(source, self._formats)
        if form in self._formats and path and not host_list.claims(source, b""):
            self._folders.append(_folder(path))
            text = self._disk.read(path)
            vault.refuse(text, path)
            self._formats[form].parse(text, path, self.tree)
            self._note(path, text, form)
        elif told:
            ansible_yaml.parse(told[1], source, self.tree)
            self._note(source, told[1], told[0])
        elif host_list.claims(source, b""):
            self._parse(source, source.encode("utf-8", "surrogateescape"))
        else:
            below = self._disk.listing(source)
            self._folders.append(source.rstrip("/") or "/" if below is not None else _folder(source))
            for file in self._within(source, below, 0):
                self._file(file)

    def add_by_ansible(self, sources: Sequence[str]) -> None:
        """Have Ansible read all the sources. Raises InventoryError where it is not installed or cannot."""
        program = _program(_ANSIBLE)
        options = [option for source in sources for option in ("-i", source)]
        name = ", ".join(sources)
        text = script.run([program, *options, "--list"], name, environment=_WHOLE)

        @functools.cache
        def decrypt(value: str) -> str:
            given = value.encode("utf-8", "replace")
            said = script.run([_program(_VAULT), "decrypt", "--output=-"], name, given)
            return names.decode(said, name)

        document = vault.opened(ansible_list.document(text, name), decrypt)
        ansible_list.add(document, name, self.tree)
        self._note(name, text, _ANSIBLE)

    def add_variables(self) -> None:
        """Add what files beside the sources say of the groups and hosts of all sources."""
        for folder in self._folders:
            layer, paths = beside.layer(folder, self.tree, self._disk.read, self._disk.listing)
            if layer is not None:
                self.tree.add_layer(layer)
            for path in paths:
                kind = beside.GROUPS if f"/{beside.GROUPS}/" in path else beside.HOSTS
                self._note(path, self._disk.read(path), kind)

    def _within(self, path: str, below: tuple[str, ...] | None, depth: int) -> Iterator[str]:
        if below is None:
            yield path
            return
        if depth > _DEEPEST:
            message = f"directories are nested deeper than {_DEEPEST} levels"
            raise InventoryError(Problem(message, Place(path), "is there a link to itself?"))
        for name in below:
            if not _IGNORED.match(name):
                inner = os.path.join(path, name)  # noqa: PTH118  (names stay as the user wrote them)
                yield from self._within(inner, self._disk.listing(inner), depth + 1)

    def _file(self, path: str) -> None:
        text = self._disk.read(path)
        vault.refuse(text, path)
        if script.is_script(text):
            if not self._disk.is_executable(path):
                hint = "chmod +x, if its output is the inventory"
                raise InventoryError(Problem("this script is not executable", Place(path), hint))
            self._note(path, script.add(path, self.tree), "script")
        else:
            self._parse(path, text)

    def _parse(self, source: str, text: bytes) -> None:
        name, form = next((name, form) for name, form in self._formats.items() if form.claims(source, text))
        form.parse(text, source, self.tree)
        self._note(source, text, name)

    def _note(self, path: str, text: bytes, name: str) -> None:
        found = Source(path=path, sha256=hashlib.sha256(text).hexdigest(), name=name)
        if found not in self.used:
            self.used.append(found)


def gather(sources: Sequence[str], formats: Mapping[str, Format], disk: Disk, via: str | None) -> Gathering:
    """Everything that the sources say. Raises ConfigError with the mistakes of all of them."""
    gathering = Gathering(formats, disk)
    if via is not None:
        gathering.add_by_ansible(sources)
        return gathering
    problems: list[Problem] = []
    for source in sources:
        try:
            gathering.add(source)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise InventoryError(problems)
    gathering.add_variables()
    return gathering


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        message = f"there is no {name} on this machine"
        raise InventoryError(Problem(message, hint="install ansible-core, or leave --inventory-via out"))
    return found


def _folder(path: str) -> str:
    return os.path.dirname(path) or "."  # noqa: PTH120  (names stay as the user wrote them)

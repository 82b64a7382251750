"""Salt's roster for salt-ssh: hosts by id (https://docs.saltproject.io/en/latest/topics/ssh/roster.html).

Told apart from Ansible's YAML by the `host:` of its entries, which no group of Ansible's has.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import names
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.text import visible
from fleetaudit.yamlio import Document

_HOST: Final = re.compile(rb"(?:^[ \t]+|\{[ \t]*)host:[ \t]*[^\s{#]", re.MULTILINE)
_OF_ANSIBLE: Final = re.compile(rb"(?:^[ \t]+|[{,][ \t]*)(?:hosts|children|vars):", re.MULTILINE)

_MEANING: Final = {
    "host": "ansible_host",
    "user": "ansible_user",
    "port": "ansible_port",
    "passwd": "ansible_password",
    "priv": "ansible_ssh_private_key_file",
    "sudo": "ansible_become",
    "sudo_user": "ansible_become_user",
    "ssh_options": "ansible_ssh_common_args",
}
# Nothing is reached differently without these.
_WITHOUT_EFFECT: Final = frozenset(
    {
        "cmd_umask",
        "identities_only",
        "minion_opts",
        "mods",
        "relenv",
        "set_path",
        "thin_dir",
        "timeout",
        "tty",
    }
)
_HINT: Final = f"known: {', '.join(sorted({*_MEANING, *_WITHOUT_EFFECT}))}"


def claims(source: str, text: bytes) -> bool:
    """A file with a `host:` below something, and none of the keys that Ansible's groups have."""
    return bool(source) and bool(_HOST.search(text)) and not _OF_ANSIBLE.search(text)


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add the roster's hosts. Raises ConfigError with every mistake, located."""
    document = yamlio.parse(text, file)
    if not isinstance(document.value, dict):
        problem = Problem("a roster is a mapping of hosts", document.place(()), "write ID: {host: …}")
        raise InventoryError(problem)
    problems: list[Problem] = []
    for name, body in document.value.items():
        entry = {"host": body} if isinstance(body, str) else body
        try:
            _add(name, entry, document, tree)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise InventoryError(problems)


def _add(name: str, entry: object, document: Document, tree: Tree) -> None:
    place = document.place((name,), key=True)
    names.check(name, "host", place)
    if not isinstance(entry, Mapping) or not entry.get("host"):
        raise InventoryError(Problem(f"'{visible(name)}' has no host", place, "write host: ADDRESS"))
    problems = []
    tree.add_host(name, UNGROUPED, place)
    for key, value in entry.items():
        where = document.place((name, key), key=True)
        if key in _MEANING:
            found = _CONVERT.get(key, _as_it_is)(value, where)
            if found is not None:
                tree.set_host_variable(name, _MEANING[key], Variable(found, where))
        elif key not in _WITHOUT_EFFECT and value not in (None, ""):
            problems.append(Problem(f"the roster's '{visible(key)}' is not supported", where, _HINT))
    if problems:
        raise InventoryError(problems)


def _as_it_is(value: object, _: Place) -> object:
    return value


def _key_file(value: object, _: Place) -> object:
    return None if value == "agent-forwarding" else value  # Salt's word for: the agent's keys


def _options(value: object, place: Place) -> object:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InventoryError(Problem("ssh_options is not a list of texts", place, "write [Name=value]"))
    return " ".join(f"-o {shlex.quote(item)}" for item in value)


_CONVERT: Final[Mapping[str, Callable[[object, Place], object]]] = {
    "priv": _key_file,
    "ssh_options": _options,
}

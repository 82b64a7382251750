"""The hosts of an OpenSSH client configuration: `Host` entries without wildcards, `Include` followed.

Only the names are read here. What the file means for each (Match, tokens, first value wins) is asked of
ssh itself, `ssh -G` (ssh(1), ssh_config(5)): a second opinion on it could reach another host or user.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.inventory import files, names, script
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.text import visible

_FIRST: Final = re.compile(
    rb"(?:\s|#[^\n]*\n)*(?:Host|Match|Include)(?:[ \t]+|[ \t]*=[ \t]*)[^\s=]", re.IGNORECASE
)

_LINE: Final = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)\Z")
_MAX_DEPTH: Final = 16  # as in ssh: READCONF_MAX_DEPTH in readconf.c


def claims(source: str, text: bytes) -> bool:
    """A file that begins with Host, Match or Include."""
    return bool(source) and not source.endswith((".ini", ".yml", ".yaml")) and bool(_FIRST.match(text))


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add the file's hosts. Raises ConfigError, located."""
    for name, place in _hosts(text, file, 0):
        names.check(name, "host", place)
        tree.add_host(name, UNGROUPED, place)
        for key, value in _variables(_asked(name, file, place)).items():
            tree.set_host_variable(name, key, Variable(value, place))


def _hosts(text: bytes, file: str, depth: int) -> Iterator[tuple[str, Place]]:
    if depth > _MAX_DEPTH:
        problem = Problem(f"files include each other {_MAX_DEPTH} deep", Place(file), "is it a loop?")
        raise InventoryError(problem)
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        place = Place(file, number)
        found = _LINE.match(line)
        if not found or found[1].lower() not in ("host", "include"):
            continue
        try:
            words = shlex.split(found[2], comments=True)
        except ValueError:
            problem = Problem("the quotes of this line are not closed", place, "close them")
            raise InventoryError(problem) from None
        if found[1].lower() == "include":
            yield from _included(words, depth)
        else:
            yield from ((word, place) for word in words if not re.search(r"[*?!]", word))


def _included(words: list[str], depth: int) -> Iterator[tuple[str, Place]]:
    for word in words:
        path = Path(word).expanduser() if word.startswith("~") else Path.home() / ".ssh" / word
        for file in sorted(glob.glob(str(path))):  # noqa: PTH207  (the pattern may be absolute)
            yield from _hosts(files.read(file), file, depth + 1)


def _asked(name: str, file: str, place: Place) -> Mapping[str, list[str]]:
    """The options ssh would use, by lower-case name."""
    said = script.run(["ssh", "-G", "-F", file, "--", name], str(place))
    options: dict[str, list[str]] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key, []).append(value)
    if "hostname" not in options:
        message = f"ssh -G does not say where '{visible(name)}' is"
        raise InventoryError(Problem(message, place, "a newer OpenSSH client is needed"))
    return options


def _variables(options: Mapping[str, list[str]]) -> dict[str, object]:
    variables: dict[str, object] = {
        "ansible_host": options["hostname"][0],
        "ansible_port": options["port"][0],
        "ansible_user": options["user"][0],
    }
    # Without an IdentityFile ssh names its default files, several: then they are tried here as well.
    keys = options.get("identityfile", [])
    if len(keys) == 1 and keys[0] != "none":
        variables["ansible_ssh_private_key_file"] = keys[0]
    arguments = [
        f"-o {shlex.quote(f'{word}={options[word.lower()][0]}')}"
        for word in ("ProxyJump", "ProxyCommand")
        if options.get(word.lower(), ["none"])[0] != "none"
    ]
    if arguments:
        variables["ansible_ssh_common_args"] = " ".join(arguments)
    return variables

"""The hosts of an OpenSSH client configuration: `Host` entries without wildcards, `Include` followed.

Only the names are read here. What the file means for each (Match, tokens, first value wins) is asked of
ssh itself, `ssh -G` (ssh(1), ssh_config(5)): a second opinion on it could reach another host or user.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fleetaudit.errors import InventoryError, Place, Problem
from fleetaudit.inventory import files, names, script
from fleetaudit.inventory.tree import UNGROUPED, Tree, Variable
from fleetaudit.text import visible

# The first line is a keyword and its value, and some line begins with Host, Match or Include. A host of an
# INI inventory can be called so; then NAME=VALUE follows.
_FIRST: Final = re.compile(rb"(?:\s|#[^\n]*\n)*[A-Za-z]\w*(?:[ \t]+|[ \t]*=[ \t]*)[^\s=]", re.ASCII)
_HOST_LINE: Final = re.compile(
    rb"^[ \t]*(?:Host|Match|Include)(?:[ \t]+|[ \t]*=[ \t]*)[^\s=]+(?:\s|\Z)", re.IGNORECASE | re.MULTILINE
)

_LINE: Final = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)\Z")
# Of two values ssh takes the first (of IdentityFile: all): where these come out, the file stated nothing.
_MARK: Final = "nobody-stated-it"
_PORT: Final = "1"
_MARKS: Final = f"Match all\n  User {_MARK}\n  Port {_PORT}\n  IdentityFile {_MARK}\n"
_ONE_KEY: Final = "leave one, or name the hosts with -i HOST, and this file with --ssh-config"
_MAX_DEPTH: Final = 16  # as in ssh: READCONF_MAX_DEPTH in readconf.c


def claims(source: str, text: bytes) -> bool:
    """A file of keywords and values with a Host, Match or Include among them."""
    if not source or source.endswith((".ini", ".yml", ".yaml")):
        return False
    return bool(_FIRST.match(text)) and bool(_HOST_LINE.search(text))


def parse(text: bytes, file: str, tree: Tree) -> None:
    """Add the file's hosts. Raises ConfigError, located."""
    with tempfile.TemporaryDirectory() as folder:
        marked = Path(folder) / "config"
        marked.write_text(f"Include {_quoted(file)}\n{_MARKS}", "utf-8", "surrogateescape")
        for name, place in _hosts(text, file, 0):
            names.check(name, "host", place)
            tree.add_host(name, UNGROUPED, place)
            said, with_marks = _asked(name, file, place), _asked(name, str(marked), place)
            for key, value in _variables(name, said, with_marks, place).items():
                tree.set_host_variable(name, key, Variable(value, place))


def _quoted(file: str) -> str:
    """The file as an argument of Include, which takes patterns. Raises InventoryError for an odd name."""
    path = os.path.abspath(file)  # noqa: PTH100  (without resolving links, as ssh)
    if re.search(r"""["'\\%$\n\r]""", path):
        raise InventoryError(
            Problem("the name of this ssh_config holds a quote or the like", Place(file), "rename it")
        )
    return f'"{glob.escape(path)}"'


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
        try:
            path = Path(word).expanduser() if word.startswith("~") else Path.home() / ".ssh" / word
        except RuntimeError:  # no such user: ssh passes over it, too
            continue
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


def _variables(
    name: str, said: Mapping[str, list[str]], with_marks: Mapping[str, list[str]], place: Place
) -> dict[str, object]:
    """What the file states for the host; ssh's own defaults are left to options and to other sources."""
    variables: dict[str, object] = {}
    if said["hostname"][0] != name:
        variables["ansible_host"] = said["hostname"][0]
    if with_marks["port"] != [_PORT] or said["port"] != ["22"]:
        variables["ansible_port"] = said["port"][0]
    if with_marks["user"] != [_MARK] or said["user"] != [pwd.getpwuid(os.getuid()).pw_name]:
        variables["ansible_user"] = said["user"][0]
    keys = [key for key in with_marks.get("identityfile", []) if key not in (_MARK, "none")]
    if len(keys) > 1:
        message = f"'{visible(name)}' has {len(keys)} keys (IdentityFile)"
        raise InventoryError(Problem(message, place, _ONE_KEY))
    if keys and re.search(r"%|\$\{", keys[0]):
        message = f"the key of '{visible(name)}' is '{visible(keys[0])}'"
        raise InventoryError(Problem(message, place, "write it without % and ${…}"))
    if keys:
        variables["ansible_ssh_private_key_file"] = keys[0]
    arguments = [
        f"-o {shlex.quote(f'{word}={said[word.lower()][0]}')}"
        for word in ("ProxyJump", "ProxyCommand")
        if said.get(word.lower(), ["none"])[0] != "none"
    ]
    if arguments:
        variables["ansible_ssh_common_args"] = " ".join(arguments)
    return variables

"""The pinned agent: an executable that the host's own administrators install, and nothing else is ever run.

Controller side, pure: the file, what it is told, the lines that allow it, and whether an answer is from this
version's file. What it says of itself is the host's word; what enforces it is the digest in sudoers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from typing import Final

from fleetaudit import __version__
from fleetaudit.agent.becoming import check, program_of
from fleetaudit.agent.payload import MAIN, AgentConfig, agent_source, check_nonce
from fleetaudit.errors import BecomeError, OutputError
from fleetaudit.model import Host
from fleetaudit.text import plain_path, visible
from fleetaudit.wire import SNAPSHOT_SCHEMA

PINNED_PYTHON: Final = "/usr/bin/python3"
NO_AGENT: Final = "FLEETAUDIT-NO-AGENT"
PINNED_MARK: Final = "FLEETAUDIT-PINNED"

_UNTOLD: Final = ("name", "mode")  # a pinned agent walks
# useradd(8): names of users; with % of groups, as sudoers(5) has them.
_USER: Final = re.compile(r"%?[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")
_SHEBANG_BYTES: Final = 127  # BINPRM_BUF_SIZE before Linux 5.1


@cache
def executable(python: str = PINNED_PYTHON) -> bytes:
    """The file to install: agent.py as it is, what reads its configuration, and a #! line for `python`.

    Raises ValueError for an interpreter that a #! line cannot name.
    """
    shebang = f"#!{plain_path(python)} -IS\n".encode("ascii")
    if len(shebang) > _SHEBANG_BYTES:
        raise ValueError(f"the path of the interpreter is too long for a #! line: {python}")
    source = agent_source()
    if not source.endswith(MAIN):
        raise ValueError("agent.py does not end by calling main()")
    end = f'\n\nif __name__ == "__main__":\n    FLEETAUDIT = be_told({__version__!a})\n    main()\n'
    told = files("fleetaudit.agent").joinpath("told.py").read_bytes()
    return b"".join((shebang, source[: -len(MAIN)], b"\n\n", told.rstrip(), b"\n", end.encode("ascii")))


def executable_sha256(python: str = PINNED_PYTHON) -> str:
    """The digest that sudoers names, and that the installed file is to say of itself."""
    return hashlib.sha256(executable(python)).hexdigest()


def tell(config: AgentConfig) -> bytes:
    """What a pinned agent is told on its stdin: one line. Only what differs from its own defaults."""
    usual = AgentConfig(config.nonce)
    told = {item.name: getattr(config, item.name) for item in fields(config) if item.name not in _UNTOLD}
    values = {name: value for name, value in told.items() if value != getattr(usual, name)}
    return json.dumps({"nonce": config.nonce, **values}).encode("ascii") + b"\n"


def pinned_command(host: Host, nonce: str) -> str:
    """The command line that runs the host's pinned agent and nothing else; no password is ever used.

    Raises BecomeError for a method that cannot run it, ValueError for a path or a nonce that cannot stand.
    """
    check_nonce(nonce)
    path = plain_path(host.agent_path or "")
    run = f"exec {path}"
    if host.become is not None:
        check(replace(host.become, password=None))
        user, program = shlex.quote(host.become.user), program_of(host.become)
        methods = {
            "sudo": f"exec env LC_ALL=C {program} -n -u {user} -- {path}",
            "doas": f"exec env LC_ALL=C {program} -n -u {user} {path}",
        }
        if host.become.method not in methods:
            method = visible(host.become.method)[:80]
            raise BecomeError(
                f"{method} cannot run a pinned agent: use sudo or doas, or an authorized_keys line"
            )
        run = f'if test "$(id -un)" = {user}; then {run}; fi; {methods[host.become.method]}'
    missing = f"test -x {path} || {{ echo {NO_AGENT} {nonce} {path}; exit 127; }}"
    script = f"{missing}; echo {PINNED_MARK} {nonce} {path} >&2; {run}"
    return f"sh -c {shlex.quote(script)}"


def staleness(host: Host, document: Mapping[str, object]) -> str | None:
    """How the pinned agent that sent this differs from this version's; None: not, or none is pinned.

    Raises OutputError, with the remedy, for a schema that this version does not read.
    """
    if host.agent_path is None:
        return None
    schema = document.get("schema")
    if schema != SNAPSHOT_SCHEMA:
        raise OutputError(
            f"the pinned agent {host.agent_path} sends {visible(str(schema))[:80]!r} and this version reads "
            f"{SNAPSHOT_SCHEMA!r}: install the agent of fleetaudit {__version__} there"
        )
    agent = document.get("agent")
    said = agent if isinstance(agent, dict) else {}
    if said.get("version") != __version__:
        there = visible(str(said.get("version")))[:40]
        return f"the pinned agent is of version {there}, not {__version__}"
    expected = _expected_sha256(host.interpreter)
    if said.get("sha256") != expected:
        there = visible(str(said.get("sha256")))[:64]
        return f"the pinned agent says that its sha256 is {there}, and it ought to be {expected}"
    return None


def _expected_sha256(interpreter: str | None) -> str:
    """Of the file with that interpreter in its first line; one that is no path is not from a first line."""
    try:
        return executable_sha256(interpreter or PINNED_PYTHON)
    except ValueError:
        return executable_sha256()


def sudoers_line(user: str, path: str, digest: str) -> str:
    """The rule that lets `user`, or `%group`, run that very file as root, with no argument.

    Raises ValueError.
    """
    if not _USER.fullmatch(user):
        raise ValueError(f"'{visible(user)[:80]}' is no user name (%name for a group)")
    if user.lstrip("%").isupper():  # ALL is everybody, and other such names may be a User_Alias, sudoers(5)
        raise ValueError(f"'{user}' could stand for others than one user in sudoers")
    return f'{user} ALL=(root) NOPASSWD: sha256:{digest} {plain_path(path)} ""'


def authorized_keys_line(public: str, path: str, *, sudo: bool) -> str:
    """The line that lets a public key run the agent and nothing else.

    Raises ValueError for what is no public key.
    """
    kind, _, rest = public.strip().partition(" ")
    encoded, _, comment = rest.partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        blob = b""
    # RFC 4253, 6.6: a public key begins with its type, as a string with its length before it.
    name = kind.encode("ascii", "replace")
    if (
        not name
        or not blob.startswith(len(name).to_bytes(4, "big") + name)
        or not public.strip().isprintable()
    ):
        raise ValueError("it is not one public key (the .pub file, without options)")
    command = f"sudo -n -u root -- {plain_path(path)}" if sudo else plain_path(path)
    return f'restrict,command="{command}" {kind} {encoded} {comment}'.rstrip()

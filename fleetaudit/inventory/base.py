"""What the parts of the inventory agree on: a format's contract, variables with places, and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from fleetaudit.errors import Place
from fleetaudit.escalation import METHODS, PASSWORDLESS
from fleetaudit.inventory.tree import Tree
from fleetaudit.model import NO_MAPPING, Become, Boundary, Host, HostContext, Jump, Secret

BECOME_METHODS: Final = METHODS


class Mistake(ValueError):
    """A value of a variable that cannot stand: what is wrong, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class Format(Protocol):
    """One way to write an inventory. Each member is a module; `fleetaudit.inventory` holds the one table."""

    def claims(self, source: str, text: bytes) -> bool:
        """Whether the source, as given on the command line, is of this format; `text` if it is a file."""

    def parse(self, text: bytes, file: str, tree: Tree) -> None:
        """Add what the text says to the tree. Pure. Raises ConfigError with every mistake, located."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """How to reach hosts, as the command line says it. `become` False and None elsewhere: not given."""

    user: str | None = None
    private_key: str | None = None
    password: Secret | None = None
    become: bool = False
    become_user: str | None = None
    become_method: str | None = None
    become_password: Secret | None = None
    transport: str | None = None
    boundary: Boundary | None = None
    agent_path: str | None = None
    agent_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Stated:
    """What an inventory says about one host; None: it does not say. `groups` are sorted, without `all`."""

    name: str
    address: str | None = None
    port: int | None = None
    user: str | None = None
    password: Secret | None = None
    private_key: str | None = None
    transport: str | None = None
    become: bool | None = None
    become_method: str | None = None
    become_user: str | None = None
    become_password: Secret | None = None
    become_exe: str | None = None
    become_flags: tuple[str, ...] = ()
    interpreter: str | None = None
    boundary: Boundary | None = None
    jumps: tuple[Jump, ...] = ()
    proxy_command: str | None = None
    agent_path: str | None = None  # "": the agent is sent, whatever the command line says
    agent_mode: str | None = None
    groups: tuple[str, ...] = ()
    variables: Mapping[str, object] = field(default_factory=lambda: NO_MAPPING)
    place: Place | None = None


def apply(stated: Stated, overrides: Overrides) -> Host:
    """The host to audit: what the inventory says wins over the command line, as in Ansible.

    See https://docs.ansible.com/ansible/latest/reference_appendices/general_precedence.html: options such
    as -u and -b are the weakest, `ansible_become: false` therefore outdoes -b.
    """
    boundary = stated.boundary or overrides.boundary or Boundary.HOST
    return Host(
        name=stated.name,
        address=stated.address or stated.name,
        port=stated.port,
        user=stated.user or overrides.user,
        transport=stated.transport or overrides.transport or "ssh",
        password=stated.password or overrides.password,
        private_key=stated.private_key or overrides.private_key,
        become=_become(stated, overrides),
        interpreter=stated.interpreter,
        jumps=stated.jumps,
        proxy_command=stated.proxy_command,
        agent_path=(overrides.agent_path if stated.agent_path is None else stated.agent_path) or None,
        agent_mode=stated.agent_mode or overrides.agent_mode or "walk",
        context=HostContext(stated.groups, stated.variables, boundary),
    )


def _become(stated: Stated, overrides: Overrides) -> Become | None:
    wanted = overrides.become if stated.become is None else stated.become
    if not wanted:
        return None
    method = stated.become_method or overrides.become_method or "sudo"
    asked_for = None if method in PASSWORDLESS else overrides.become_password  # -K is for the others
    return Become(
        method=method,
        user=stated.become_user or overrides.become_user or "root",
        password=stated.become_password or asked_for,
        exe=stated.become_exe,
        flags=stated.become_flags,
    )

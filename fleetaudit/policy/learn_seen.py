"""What the hosts of one class were seen to listen on, and who held it. Accumulated host by host; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fleetaudit.model import Inherited, Listener, NetworkNamespace, Owner, Process, Snapshot
from fleetaudit.policy import learn_values as values
from fleetaudit.policy.fields import NETWORK_PROTOCOLS
from fleetaudit.policy.lint.entries import SHELLS

_SYSTEMD: Final = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
Key: TypeAlias = tuple[str, int]
"""Protocol and port."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Who holds a listener, as a policy would name it. `kind` is program, container, init or kernel."""

    kind: str
    exe: str = ""
    user: str = ""
    unit: str = ""
    shell: bool = False

    @property
    def words(self) -> str:
        """The holder for a person."""
        return f"{self.exe.rsplit('/', 1)[-1]} ({self.user})" if self.exe else "the kernel"

    @property
    def program(self) -> Program:
        """What it runs, whoever it is."""
        return (self.kind, self.exe)


Program: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Sight:
    """One listener as seen: its holders, those that no policy should name with the reason, its scope.

    `span` is the range of ephemeral ports if its port is one of them.
    """

    holders: frozenset[Identity]
    refused: frozenset[str]
    scope: str
    span: tuple[int, int] | None


@dataclass(slots=True)
class Seen:
    """All sights of a class of hosts; hosts are counted by name."""

    allow_shells: bool = False
    hosts: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)
    without: set[str] = field(default_factory=set)  # no snapshot
    sights: dict[Key, dict[Sight, set[str]]] = field(default_factory=dict)
    elsewhere: dict[str, set[str]] = field(default_factory=dict)  # not looked at, and on which hosts

    def add(self, host: str, snapshot: Snapshot) -> None:
        """Take in one derived host."""
        self.hosts.add(host)
        if not snapshot.coverage.complete:
            self.partial.add(host)
        for listener in snapshot.listeners:
            if listener.protocol not in NETWORK_PROTOCOLS:
                continue
            if listener.netns.host is not True:
                self.elsewhere.setdefault("in other network namespaces", set()).add(host)
            elif not isinstance(listener.port, int):
                self.elsewhere.setdefault("without a known port", set()).add(host)
            else:
                sights = self.sights.setdefault((listener.protocol, listener.port), {})
                sights.setdefault(self._sight(listener, listener.port), set()).add(host)

    def _sight(self, listener: Listener, port: int) -> Sight:
        holders: set[Identity] = set()
        refused: set[str] = set()
        for owner in (*listener.owners, *listener.held_by):
            found = self._identity(owner)
            if isinstance(found, str):
                refused.add(found)
            else:
                holders.add(found)
        if listener.owner_state == "kernel" and not listener.owners:
            holders.add(Identity("kernel"))
        if not holders and not refused:
            refused.add("an owner that was not seen")
        return Sight(
            frozenset(holders),
            frozenset(refused),
            listener.scope if isinstance(listener.scope, str) else "",
            _span(listener.netns, port),
        )

    def _identity(self, owner: Owner) -> Identity | str:
        """Who the owner is, or who it seems to be and why no policy should name it."""
        process = owner.process
        words = _words(process)
        shell = _is_shell(process)
        if shell and not self.allow_shells:
            return f"{words}, a shell"
        if owner.inherited in (Inherited.LEAK, Inherited.ORPHAN) and not shell:
            return f"{words}, which it leaked to ({owner.inherited.value})"
        user = values.account(_user(process))
        if not user:
            return f"{words}, whose user is not known"
        unit = values.unit(process.unit) if isinstance(process.unit, str) else ""
        if isinstance(process.container, str) and isinstance(process.exe_in_container, str):
            unfit = values.unfit_path(process.exe_in_container)
            if unfit:
                return f"{words}: {unfit}"
            return Identity("container", values.program(process.exe_in_container), user, "", shell)
        unfit = _unfit(process)
        if unfit or not isinstance(process.exe, str):
            return f"{words}: {unfit}"
        if process.exe in _SYSTEMD and process.pid == 1:
            return Identity("init", process.exe, user, "", shell)
        return Identity("program", values.program(process.exe), user, unit, shell)


def _unfit(process: Process) -> str:
    if not isinstance(process.exe, str):
        return "its program is not known"
    if process.exe_verified is False:
        return "its path is a claim that was not verified"
    if process.exe_deleted is True:
        return "its program was deleted or replaced since it started"
    return values.unfit_path(process.exe)


def _is_shell(process: Process) -> bool:
    names = [path.rsplit("/", 1)[-1] for path in _paths(process)]
    return process.shell is True or any(name in SHELLS for name in names)


def _paths(process: Process) -> Iterator[str]:
    for path in (process.exe, process.exe_in_container):
        if isinstance(path, str):
            yield path


def _user(process: Process) -> str:
    if isinstance(process.user, str) and process.user:
        return process.user
    return str(process.euid) if isinstance(process.euid, int) else ""


def _words(process: Process) -> str:
    paths = list(_paths(process))
    comm = process.comm if isinstance(process.comm, str) and process.comm else "an unknown program"
    return f"{paths[0].rsplit('/', 1)[-1] if paths else comm} ({_user(process) or 'unknown user'})"


def _span(netns: NetworkNamespace, port: int) -> tuple[int, int] | None:
    ports = netns.ephemeral_ports
    if not isinstance(ports, tuple) or not ports[0] <= port <= ports[1]:
        return None
    return ports

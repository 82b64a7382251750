"""The demo fleet: start it, audit it like any other, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TextIO

from fleetaudit.demo import plan
from fleetaudit.demo.host import RunningHost, find_sshd, login_name
from fleetaudit.demo.keys import KeyPair, known_hosts_line, write_private
from fleetaudit.demo.login import prove_login
from fleetaudit.demo.plan import DemoError, Isolation, PlannedHost, PlantedHost, Presence, Server

_READY_WITHIN = 60.0  # seconds for the whole fleet, on a loaded machine
_MARKER = ".fleetaudit-demo"
_UNISOLATED = "The demo hosts are fewer and not isolated: they show this machine's processes and sockets."
_FIRST_ADDRESS = 11  # 127.77.0.11 and up: loopback, and seldom used by anything else


class DemoFleet:
    """A running fleet. `inventory`, `known_hosts` and `policies` are what an audit of it needs.

    `isolation` and `server` say what this machine allowed, `notes` why it is not better.
    """

    def __init__(self, directory: Path, isolation: Isolation, server: Server, notes: Iterable[str]) -> None:
        self.directory = directory
        self.inventory = directory / "inventory.yaml"
        self.known_hosts = directory / "known_hosts"
        self.policies = directory / "policies"
        self.isolation, self.server, self.notes = isolation, server, tuple(notes)
        self._client_key = directory / "keys" / "client"
        self._addresses: dict[PlannedHost, tuple[str, int]] = {}
        self._running: dict[PlannedHost, RunningHost] = {}
        self._ending = ExitStack()

    @classmethod
    def start(
        cls, directory: Path, *, isolation: Isolation | None = None, server: Server | None = None
    ) -> DemoFleet:
        """Start a fleet with its files in `directory` (made if absent); end it with `close` or `with`.

        Takes the best isolation and server that work here; `isolation` and `server` narrow the choice.
        Raises DemoError when none does, naming what refused, and when the directory holds anything else.
        """
        directory = directory.absolute()
        _claim(directory).close()  # what is wrong with it is wrong for every choice
        notes: list[str] = []
        for kind, ssh in _choices(isolation, server):
            last_resort = (_UNISOLATED,) if kind is Isolation.NONE else ()
            fleet = cls(directory, kind, ssh, (*notes, *last_resort))
            with ExitStack() as attempt:
                attempt.callback(fleet.close)
                try:
                    fleet._open()
                except (DemoError, OSError) as error:
                    notes.append(f"Not with {ssh.value} in {kind.value}: {error}.")
                    continue
                attempt.pop_all()
                return fleet
        raise DemoError(" ".join(["No demo fleet can be started here.", *notes]))

    def __enter__(self) -> DemoFleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def describe(self) -> tuple[PlantedHost, ...]:
        """What to look for on each host."""
        return tuple(
            PlantedHost(
                name=host.name,
                address="{}:{}".format(*self._addresses[host]),
                planted=host.planted,
                expected=host.expected,
                status=host.status,
                failing=host.failing,
            )
            for host in plan.hosts(self.isolation)
        )

    def close(self) -> None:
        """End every host and remove the keys. The inventory, known_hosts and policies stay.

        May be called twice.
        """
        for running in self._running.values():
            running.let_go()
        # Every step is taken, though one is interrupted; and once, as the directory may be another's later.
        self._ending.close()

    def _open(self) -> None:
        self._ending.enter_context(_claim(self.directory))
        for name in ("keys", "hosts", "policies"):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.directory / name)
        for name in ("hosts", "keys"):
            self._ending.callback(shutil.rmtree, self.directory / name, ignore_errors=True)
        (self.directory / "hosts").mkdir(mode=0o700)
        (self.directory / "keys").mkdir(mode=0o700)
        client = KeyPair.generate()
        write_private(self._client_key, client.private)
        for number, host in enumerate(plan.hosts(self.isolation), _FIRST_ADDRESS):
            self._place(host, f"127.77.0.{number}")
        for running in self._running.values():
            running.start(client)
        deadline = time.monotonic() + _READY_WITHIN
        ports = {host: running.await_ports(deadline) for host, running in self._running.items()}
        first = next(iter(self._running.values()))
        prove_login(
            first.plan.name,
            (first.address, first.port),
            login_name(self.isolation),
            self._client_key,
            first.host_key.blob,
        )
        self.known_hosts.write_text("".join(self._known_hosts()), encoding="utf-8")
        self.inventory.write_text("".join(self._inventory()), encoding="utf-8")
        self._write_policies(ports)

    def _place(self, host: PlannedHost, address: str) -> None:
        if host.presence is Presence.DOWN:
            # Bound but not listening: connections are refused, and nobody else can take the port meanwhile.
            refusing = self._ending.enter_context(socket.socket())
            refusing.bind((address, 0))
            self._addresses[host] = (address, refusing.getsockname()[1])
            return
        files = self.directory / "hosts" / host.name
        running = RunningHost(host, address, files, self.isolation, self.server)
        self._ending.callback(running.end)
        self._running[host] = running
        self._addresses[host] = (address, running.port)

    def _known_hosts(self) -> Iterator[str]:
        for host, running in self._running.items():
            other = host.presence is Presence.WRONG_KEY
            key = KeyPair.generate() if other else running.host_key
            yield known_hosts_line(running.address, running.port, key.public)

    def _inventory(self) -> Iterator[str]:
        boundary = "host" if self.isolation is Isolation.NONE else "container"
        yield "# The demo fleet of one run of fleetaudit; it ended with that run.\nall:\n  vars:\n"
        for name, value in {
            "ansible_user": login_name(self.isolation),
            "ansible_ssh_private_key_file": str(self._client_key),
            "ansible_python_interpreter": os.path.realpath(sys.executable),
            "fleetaudit_boundary": boundary,
        }.items():
            # A string in JSON is one in YAML, once it does without surrogate pairs.
            yield f"    {name}: {json.dumps(value, ensure_ascii=False)}\n"
        yield "  children:\n"
        planned = plan.hosts(self.isolation)
        seen: set[PlannedHost] = set()
        for group in sorted({group for host in planned for group in host.groups}):
            yield f"    {group}:\n      hosts:\n"
            for host in planned:
                if group in host.groups:
                    address, port = self._addresses[host]
                    variables = f"{{ansible_host: {address}, ansible_port: {port}}}"
                    yield f"        {host.name}: {'{}' if host in seen else variables}\n"
                    seen.add(host)

    def _write_policies(self, ports: Mapping[PlannedHost, Mapping[str, int]]) -> None:
        self.policies.mkdir()
        actual: dict[int, list[int]] = {}
        for host, by_program in ports.items():
            for service in host.services:
                actual.setdefault(service.port, []).append(by_program[service.program])
        shipped = resources.files("fleetaudit.demo") / "fleet_policies"
        for name in plan.policy_names(self.isolation):
            text = (shipped / f"{name}.yaml").read_text(encoding="utf-8")
            (self.policies / f"{name}.yaml").write_text(_with_ports(text, actual), encoding="utf-8")


def _claim(directory: Path) -> TextIO:
    """Make the directory ours alone until the result is closed. Raises DemoError where it cannot be."""
    marker = directory / _MARKER
    with ExitStack() as undo:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not marker.exists() and any(directory.iterdir()):
                raise DemoError(f"{directory} is not empty, and no demo made it: name a new directory")
            claim = undo.enter_context(marker.open("a", encoding="ascii"))
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo runs in {directory}: name a new directory") from None
        except OSError as error:
            raise DemoError(f"{directory} cannot be used: {error.strerror}") from error
        undo.pop_all()
        return claim


def _with_ports(policy: str, actual: Mapping[int, list[int]]) -> str:
    """The policy for services that could not have their usual ports."""
    for usual, taken in actual.items():
        distinct = sorted(set(taken))
        if distinct != [usual]:
            policy = re.sub(rf"\bport: {usual}\b", f"port: {distinct}", policy)
    return policy


def _choices(isolation: Isolation | None, server: Server | None) -> Iterator[tuple[Isolation, Server]]:
    """What to try, best first. OpenSSH needs real root: it refuses a user namespace with one uid."""
    candidates = [
        (Isolation.USER_NAMESPACES, Server.EMBEDDED),
        (Isolation.NONE, Server.EMBEDDED),
    ]
    if os.geteuid() == 0:
        candidates.insert(0, (Isolation.NAMESPACES, Server.EMBEDDED))
        if find_sshd():
            candidates.insert(0, (Isolation.NAMESPACES, Server.OPENSSH))
    for kind, ssh in candidates:
        if isolation in (None, kind) and server in (None, ssh):
            yield kind, ssh

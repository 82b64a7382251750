"""From options to hosts being asked: the part that every command which asks, and the library, share."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build, build_sh
from fleetaudit.agent.pinned import staleness, tell
from fleetaudit.collection import Agent, Collection, CollectOptions
from fleetaudit.conversation import Conversation
from fleetaudit.errors import ConfigError, InventoryError, Problem
from fleetaudit.escalation import PASSWORDLESS
from fleetaudit.events import Observer
from fleetaudit.inputs import read_bytes
from fleetaudit.inventory import Branch, Inventory, Overrides, Variable, load
from fleetaudit.inventory.base import BECOME_METHODS
from fleetaudit.model import PINNED_AGENT, Boundary, Host, Secret, Source
from fleetaudit.pacing import Pace, parse_share
from fleetaudit.text import plain_path, visible
from fleetaudit.transport import (
    Ask,
    HostKeyChecking,
    SshOptions,
    Transport,
    Transports,
    usual_config,
    usual_known_hosts,
)

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
# What a number may be: from, to.
_RANGES: Mapping[str, tuple[float, float]] = {
    "forks": (1, 10_000),
    "timeout": (0.1, 1e6),
    "deadline": (0.1, 1e6),
    "retries": (0, 100),
    "throttle": (0.001, 1e6),
}


_WHOLE = frozenset({"forks", "retries"})


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How hosts are reached and asked, with the defaults of the command line; times in seconds.

    `user`, `password`, `private_key`, `become…` and `boundary` are for hosts whose inventory does not
    say, and leave `Host` objects as they are. `inventory_via` "ansible" has ansible-inventory read the
    sources. `forks` hosts at a time; `timeout` to connect, `deadline` for one host over all its attempts.
    With more than `max_fail` failures (a number or "20%") nothing new begins; hosts go in batches of
    `serial` (likewise); `throttle` is new connections a second. Empty `known_hosts` are the user's and
    the system's; `ssh_config` is a path or "none", by default ~/.ssh/config. `ask` gets a question, for
    the passphrase of a key file or from a host at login, and returns a Secret, or None for no answer;
    without it nobody is asked. `argv` is redacted, full or none: what of command lines leaves a host;
    `agent_seconds` of CPU and `agent_mib` of memory are what the agent may use there. `agent_path`,
    "pinned" or a path there, is an installed agent to run instead of sending one; `agent_mode` is walk (the
    default) or bpf, which a pinned agent takes no notice of.

    Raises ConfigError, with every mistake, for a value that cannot be used.
    """

    inventory_via: str | None = None
    user: str | None = None
    password: Secret | None = None
    private_key: str | os.PathLike[str] | None = None
    become: bool = False
    become_user: str | None = None
    become_method: str | None = None
    become_password: Secret | None = None
    forks: int = 50
    timeout: float = 10.0
    deadline: float = 60.0
    retries: int = 0
    max_fail: int | str | None = None
    serial: int | str | None = None
    throttle: float | None = None
    host_key_checking: HostKeyChecking | str = HostKeyChecking.STRICT
    known_hosts: Sequence[str | os.PathLike[str]] = ()
    send_passwords_unverified: bool = False
    ssh_config: str | os.PathLike[str] | None = None
    ask: Ask | None = None
    boundary: Boundary | str | None = None
    argv: str = "redacted"
    agent_seconds: float = 30
    agent_mib: int = 1024
    agent_path: str | None = None
    agent_mode: str | None = None

    def __post_init__(self) -> None:
        problems = [Problem(f"{name}: {what}") for name, what in self._mistakes()]
        if problems:
            raise ConfigError(problems)

    def recorded(self) -> dict[str, object]:
        """What a report says of how the run was made: no password, and nothing that names a key."""
        left_out = {"password", "become_password", "private_key", "known_hosts", "ssh_config", "ask"}
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}
        values["host_key_checking"] = HostKeyChecking(self.host_key_checking).value
        values["boundary"] = Boundary(self.boundary).value if self.boundary else None
        return values

    def overrides(self) -> Overrides:
        """What the inventory takes from these options."""
        key = None if self.private_key is None else str(Path(self.private_key).expanduser())
        return Overrides(
            user=self.user,
            private_key=key,
            password=self.password,
            become=self.become,
            become_user=self.become_user,
            become_method=self.become_method,
            become_password=self.become_password,
            boundary=Boundary(self.boundary) if self.boundary else None,
            agent_path=PINNED_AGENT if self.agent_path == "pinned" else self.agent_path,
            agent_mode=self.agent_mode,
        )

    def agent(self, nonce: str, name: str | None = None, mode: str = "walk") -> AgentConfig:
        """What the agent is told on one host."""
        return AgentConfig(nonce, name, self.argv, self.agent_seconds, self.agent_mib, mode=mode)

    def pace(self, targets: int) -> Pace:
        """How fast a run over so many targets goes on."""
        return Pace(
            max_failed=None if self.max_fail is None else parse_share(str(self.max_fail)).of(targets),
            batch=None if self.serial is None else max(parse_share(str(self.serial)).of(targets), 1),
            per_second=self.throttle,
        )

    def ssh(self) -> SshOptions:
        """What the SSH transports are told."""
        home = Path("~/.ssh").expanduser()
        config = os.fspath(self.ssh_config or (usual_config() if usual_config().exists() else "none"))
        return SshOptions(
            known_hosts=tuple(os.fspath(path) for path in self.known_hosts) or usual_known_hosts(),
            host_key_checking=HostKeyChecking(self.host_key_checking),
            keys=tuple(str(home / name) for name in _DEFAULT_KEYS),
            send_passwords_unverified=self.send_passwords_unverified,
            connect_timeout=self.timeout,
            ssh_config=None if config == "none" else config,
            ask=self.ask,
        )

    def _mistakes(self) -> Iterator[tuple[str, str]]:
        yield from self._wrong_numbers()
        yield from self._wrong_words()

    def _wrong_numbers(self) -> Iterator[tuple[str, str]]:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "throttle":
                continue
            if not is_number(value) or not least <= value <= most:
                yield name, f"{value!r} is not from {least:g} to {most:g}"
            elif name in _WHOLE and not isinstance(value, int):
                yield name, f"{value!r} is not a whole number"

    def _wrong_words(self) -> Iterator[tuple[str, str]]:
        for name in ("password", "become_password"):
            if not isinstance(getattr(self, name), Secret | None):
                yield name, "pass it as fleetaudit.model.Secret(…), which no log can show"
        if isinstance(self.known_hosts, str):
            yield "known_hosts", "pass a list of paths"
        if self.inventory_via not in (None, "ansible"):
            yield "inventory_via", "only ansible can read inventories in our place"
        if self.become_method not in (None, *BECOME_METHODS):
            yield "become_method", f"one of {', '.join(BECOME_METHODS)}"
        if self.become_method in PASSWORDLESS and self.become_password is not None:
            yield "become_password", f"{self.become_method} takes none from here: leave it out, or use sudo"
        checks: dict[str, Callable[[], object]] = {
            "host_key_checking": lambda: HostKeyChecking(self.host_key_checking),
            "boundary": lambda: Boundary(self.boundary) if self.boundary else None,
            "max_fail": lambda: self.max_fail is None or parse_share(str(self.max_fail)),
            "serial": lambda: self.serial is None or parse_share(str(self.serial)),
            "agent_path": lambda: self.agent_path in (None, "pinned") or plain_path(str(self.agent_path)),
            "argv, agent_seconds, agent_mib": lambda: self.agent("none"),
            "agent_mode": lambda: self.agent("none", mode=self.agent_mode or "walk"),
        }
        for name, check in checks.items():
            try:
                check()
            except (ValueError, TypeError) as error:
                yield name, str(error)


@dataclass(frozen=True, slots=True)
class Targets:
    """The hosts of a run, and the inventory files that named them."""

    hosts: tuple[Host, ...]
    sources: tuple[Source, ...] = ()
    branches: Mapping[str, Branch] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, Variable]] = field(default_factory=dict, repr=False)


def find(sources: Sequence[str], pattern: str, limit: str | None, options: Options) -> Targets:
    """The hosts of these inventory sources that pattern and limit both select. Raises InventoryError."""
    inventory = load(sources, home=str(Path.home()), overrides=options.overrides(), via=options.inventory_via)
    hosts = inventory.select(pattern, limit, read_bytes)
    return Targets(hosts, inventory.sources, inventory.branches, inventory.variables)


def listed(hosts: Iterable[Host], pattern: str, limit: str | None) -> Targets:
    """These hosts, as far as pattern and limit both select them. Raises InventoryError."""
    named: dict[str, Host] = {}
    groups: dict[str, list[str]] = {"all": []}
    for host in hosts:
        if host.name in named:
            raise InventoryError(
                Problem(f"two hosts are called '{visible(host.name)}'", hint="name each once")
            )
        named[host.name] = host
    for name, host in named.items():
        for group in ("all", *host.context.groups):
            groups.setdefault(group, []).append(name)
    if not named:
        raise InventoryError(Problem("no host was given", hint="pass at least one"))
    members = {group: tuple(sorted(names)) for group, names in groups.items()}
    branches = {group: Branch(tuple(names), ()) for group, names in groups.items()}
    hosts_by_name = tuple(named[name] for name in sorted(named))
    inventory = Inventory(hosts_by_name, members, branches, (), written=tuple(named))
    return Targets(inventory.select(pattern, limit, read_bytes))


@contextlib.contextmanager
def asking(
    hosts: Sequence[Host],
    options: Options,
    *,
    observer: Observer | None = None,
    transports: Mapping[str, Transport] | None = None,
    targets: int | None = None,
) -> Iterator[Collection]:
    """A collection over the hosts that has not begun: enter it. Its transports are closed at the end.

    `transports` are open ones by name, beside those of the table; `targets` is what percentages are of, if
    the run has more than these hosts.
    """
    pace = options.pace(len(hosts) if targets is None else targets)

    def conversation(host: Host, nonce: str) -> Conversation:
        config = options.agent(nonce, host.name, host.agent_mode)
        if host.agent_path is not None:
            return AgentConversation(host, nonce, tell(config))
        return AgentConversation(host, nonce, build(config), sh_payload=partial(build_sh, config))

    with Transports(options.ssh(), transports) as opened:
        yield Collection(
            hosts,
            opened,
            Agent(command, conversation, read_frame, staleness),
            new_nonce=lambda: secrets.token_hex(16),
            options=CollectOptions(options.forks, options.deadline, options.retries, pace),
            chance=secrets.SystemRandom().random,
            observer=observer,
        )

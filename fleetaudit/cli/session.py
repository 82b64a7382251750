"""From command-line options to hosts being asked: the part that audit, collect and listeners share."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import click

from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import build
from fleetaudit.cli.console import say
from fleetaudit.cli.files import read_bytes
from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.options import Connecting, Targeting, parse_budget
from fleetaudit.cli.progress import observer
from fleetaudit.cli.state import Recording
from fleetaudit.collect import Agent, Collection, CollectOptions
from fleetaudit.conversation import Conversation
from fleetaudit.errors import ConfigError, InventoryError, Place, Problem
from fleetaudit.inventory import Branch, Inventory, Overrides, Stated, apply, load
from fleetaudit.model import Boundary, Host, Secret, Source
from fleetaudit.pacing import Pace, parse_share
from fleetaudit.text import visible
from fleetaudit.transport import Transports
from fleetaudit.transport.options import HostKeyChecking, SshOptions

_TURN_SECONDS = 0.05
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Targets:
    """The hosts of a run, and the inventory files that named them."""

    hosts: tuple[Host, ...]
    sources: tuple[Source, ...] = ()
    branches: Mapping[str, Branch] = field(default_factory=dict)


def targets(targeting: Targeting, connecting: Connecting) -> Targets:
    """The hosts the options name. Raises ConfigError when there are none, or the options contradict."""
    overrides = _overrides(connecting)
    if targeting.local:
        if targeting.inventory or targeting.limit or targeting.pattern != "all":
            problem = Problem("--local audits this machine only", hint="leave out -i, -l and the pattern")
            raise ConfigError(problem)
        groups = tuple(sorted(set(targeting.local_group) - {"all"}))
        return Targets((apply(Stated(targeting.local_name, transport="local", groups=groups), overrides),))
    if not targeting.inventory:
        raise ConfigError(Problem("no inventory", hint="pass -i inventory.yaml, -i host1,host2, or --local"))
    inventory = load(targeting.inventory, home=str(Path.home()), overrides=overrides)
    for source in inventory.sources:
        _warn_of_vars_beside(Path(source.path))
    hosts = _select(inventory, targeting)
    return Targets(hosts, inventory.sources, inventory.branches)


def _select(inventory: Inventory, targeting: Targeting) -> tuple[Host, ...]:
    """`--limit @FILE` names hosts one a line, as a retry file does: names, not patterns."""
    if targeting.limit is None or not targeting.limit.startswith("@"):
        return inventory.select(targeting.pattern, targeting.limit)
    hosts = inventory.select(targeting.pattern)
    file = targeting.limit[1:]
    lines = read_bytes(file).decode("utf-8", "surrogateescape").splitlines()
    named = {line.strip(): number for number, line in enumerate(lines, 1) if line.strip()}
    if not named:
        raise InventoryError(
            Problem("no host is named in it", Place(visible(file)), "every host had answered")
        )
    unknown = sorted(named.keys() - {host.name for host in hosts}, key=lambda name: named[name])
    if unknown:
        message = f"'{targeting.pattern}' selects no host called "
        raise InventoryError(
            Problem(f"{message}'{visible(name)}'", Place(visible(file), named[name])) for name in unknown[:50]
        )
    return tuple(host for host in hosts if host.name in named)


def _warn_of_vars_beside(inventory: Path) -> None:
    """What Ansible would read and fleetaudit does not could make the user or key another than expected."""
    for name in ("group_vars", "host_vars"):
        folder = inventory.parent / name
        if inventory.is_file() and folder.is_dir():
            say(f"warning: {visible(str(folder))} is not read; move its variables into the inventory")


@contextlib.contextmanager
def collecting(
    hosts: Sequence[Host],
    connecting: Connecting,
    interrupt: Interrupt,
    *,
    targets: int | None = None,
    run_id: str = "",
    quiet: bool = False,
) -> Iterator[Collection]:
    """Ask the hosts; SIGINT ends the asking early and is remembered in `interrupt`.

    `targets` is what percentages are of, if the run has more than these hosts.
    """
    pace = _pace(connecting, len(hosts) if targets is None else targets)
    with Transports(_ssh_options(connecting)) as transports:
        collection = Collection(
            hosts,
            transports,
            Agent(command, partial(_conversation, connecting), read_frame),
            new_nonce=lambda: secrets.token_hex(16),
            options=CollectOptions(connecting.forks, connecting.deadline, connecting.retries, pace),
            chance=secrets.SystemRandom().random,
            observer=observer(connecting, run_id, quiet=quiet),
        )
        with _long_turns(), interrupt.guard(collection.stop), collection:
            yield collection


@contextlib.contextmanager
def _long_turns() -> Iterator[None]:
    """Let a thread of many work on for longer: handing over every 5 ms costs some 4 % CPU."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def gather(run: Recording, connecting: Connecting, interrupt: Interrupt, *, quiet: bool = False) -> bool:
    """Ask every target of the run that has not answered. Returns whether all of them were asked."""
    hosts = run.upcoming
    total = len(run.targets)
    with collecting(
        hosts, connecting, interrupt, targets=total, run_id=run.run_id, quiet=quiet
    ) as collection:
        for collected in collection:
            run.keep(collected)
    run.journal.sync()
    return not run.not_asked and not interrupt.happened


def _pace(options: Connecting, targets: int) -> Pace:
    return Pace(
        max_failed=None if options.max_fail is None else parse_share(options.max_fail).of(targets),
        batch=None if options.serial is None else max(parse_share(options.serial).of(targets), 1),
        per_second=options.throttle,
    )


def _conversation(options: Connecting, host: Host, nonce: str) -> Conversation:
    budget = parse_budget(options.agent_budget)
    config = replace(budget, nonce=nonce, name=host.name, argv=options.argv)
    return AgentConversation(host, nonce, build(config))


def _overrides(options: Connecting) -> Overrides:
    return Overrides(
        user=options.user,
        private_key=str(Path(options.private_key).expanduser()) if options.private_key else None,
        password=_ask("SSH password") if options.ask_pass else None,
        become=options.become,
        become_user=options.become_user,
        become_method=options.become_method,
        become_password=_ask("become password") if options.ask_become_pass else None,
        boundary=Boundary(options.boundary) if options.boundary else None,
    )


def _ask(what: str) -> Secret:
    if not sys.stdin.isatty():
        raise ConfigError(
            Problem(
                f"there is no terminal to ask for the {what} on", hint="use a key, or sudo without password"
            )
        )
    return Secret(click.prompt(what, hide_input=True, err=True))


def _ssh_options(options: Connecting) -> SshOptions:
    home = Path("~/.ssh").expanduser()
    return SshOptions(
        known_hosts=options.known_hosts or (str(home / "known_hosts"), "/etc/ssh/ssh_known_hosts"),
        host_key_checking=HostKeyChecking(options.host_key_checking),
        keys=tuple(str(home / name) for name in _DEFAULT_KEYS),
        send_passwords_unverified=options.send_passwords_unverified,
        connect_timeout=options.timeout,
    )

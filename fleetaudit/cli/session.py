"""From command-line options to hosts being asked: the part that audit, collect and listeners share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleetaudit.cli.interrupt import Interrupt
from fleetaudit.cli.options import Connecting, Targeting, parse_budget
from fleetaudit.cli.passwords import Wanted, passwords
from fleetaudit.cli.progress import observer
from fleetaudit.cli.state import Recording
from fleetaudit.cli.terminal import asking_at_terminal
from fleetaudit.collection import Collection
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.inventory import Stated, apply
from fleetaudit.model import Host
from fleetaudit.session import Options, Targets, asking, find
from fleetaudit.transport import SshOptions

__all__ = ["Targets", "collecting", "gather", "ssh_options", "targets"]

_TURN_SECONDS = 0.05


def targets(targeting: Targeting, connecting: Connecting) -> Targets:
    """The hosts the options name. Raises ConfigError when there are none, or the options contradict."""
    options = replace(_options(connecting, ask=True), inventory_via=targeting.inventory_via)
    if targeting.local:
        if targeting.inventory or targeting.limit or targeting.pattern != "all":
            problem = Problem("--local audits this machine only", hint="leave out -i, -l and the pattern")
            raise ConfigError(problem)
        groups = tuple(sorted(set(targeting.local_group) - {"all"}))
        stated = Stated(targeting.local_name, transport="local", groups=groups)
        return Targets((apply(stated, options.overrides()),))
    if not targeting.inventory:
        raise ConfigError(Problem("no inventory", hint="pass -i inventory.yaml, -i host1,host2, or --local"))
    return find(targeting.inventory, targeting.pattern, targeting.limit, options)


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
    watching = observer(connecting, run_id, quiet=quiet)
    options = replace(_options(connecting), ask=asking_at_terminal(interrupt, watching))
    with (
        asking(hosts, options, observer=watching, targets=targets) as collection,
        _long_turns(),
        interrupt.guard(collection.stop),
        collection,
    ):
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


def ssh_options(connecting: Connecting) -> SshOptions:
    """What the SSH transports are told, for a command that asks hosts for something else than listeners."""
    return _options(connecting).ssh()


def _options(given: Connecting, *, ask: bool = False) -> Options:
    """The library's options. With `ask`, passwords are asked for: hosts have them once they are found."""
    budget = parse_budget(given.agent_budget)
    for_ssh = Wanted(given.ask_pass, given.pass_command, given.pass_keyring)
    for_become = Wanted(given.ask_become_pass, given.become_pass_command, given.become_pass_keyring)
    password, become_password = passwords(for_ssh, for_become) if ask else (None, None)
    return Options(
        user=given.user,
        password=password,
        private_key=given.private_key or None,
        become=given.become,
        become_user=given.become_user,
        become_method=given.become_method,
        become_password=become_password,
        forks=given.forks,
        timeout=given.timeout,
        deadline=given.deadline,
        retries=given.retries,
        max_fail=given.max_fail,
        serial=given.serial,
        throttle=given.throttle,
        host_key_checking=given.host_key_checking,
        known_hosts=given.known_hosts,
        ssh_config=given.ssh_config or None,
        send_passwords_unverified=given.send_passwords_unverified,
        boundary=given.boundary,
        argv=given.argv,
        agent_seconds=budget.budget_seconds,
        agent_mib=budget.budget_mib,
        agent_path=given.agent_path,
        agent_mode=given.agent_mode,
    )

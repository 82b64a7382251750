"""From command-line options to hosts being asked: the part that audit, collect and listeners share."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import click

from fleetaudit import __version__
from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, agent_sha256, build
from fleetaudit.cli.files import read_bytes
from fleetaudit.cli.progress import observer
from fleetaudit.collect import Agent, Clock, Collected, Collection, CollectOptions
from fleetaudit.conversation import Conversation
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.events import Observer
from fleetaudit.inventory import Inventory, load
from fleetaudit.inventory.base import Overrides, apply
from fleetaudit.model import Become, Boundary, Host, HostContext, Secret, Source
from fleetaudit.transport import Transports
from fleetaudit.transport.options import HostKeyChecking, SshOptions

Options = Mapping[str, object]
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Targets:
    """The hosts of a run, and the inventory files that named them."""

    hosts: tuple[Host, ...]
    sources: tuple[Source, ...] = ()


@dataclass(slots=True)
class Interrupt:
    """Ctrl-C ends the collection, not the run: what has answered is still judged and written."""

    happened: bool = False
    _stop: list[Callable[[], None]] = field(default_factory=list)

    @contextlib.contextmanager
    def guard(self, stop: Callable[[], None]) -> Iterator[None]:
        """While inside, SIGINT and SIGTERM call `stop`; a second one is what it always was."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def handle(number: int, frame: FrameType | None) -> None:
            self.happened = True
            signal.signal(number, previous[signal.Signals(number)])
            click.echo("interrupted: writing what has answered", err=True)
            # Not in the handler: it may hold the very lock that stopping needs.
            threading.Thread(target=stop, daemon=True).start()

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in previous:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def targets(options: Options) -> Targets:
    """The hosts the options name. Raises ConfigError when there are none, or the options contradict."""
    if options["local"]:
        if options["inventory"] or options["limit"] or options["pattern"] != "all":
            raise ConfigError(Problem("--local audits this machine only", hint="leave out -i, -l and the pattern"))
        groups = tuple(sorted(set(_texts(options["local_group"]))))
        name = str(options["local_name"])
        host = Host(name, "", transport="local", context=HostContext(groups=groups))
        inventory = Inventory.of(host) if False else None
        hosts: tuple[Host, ...] = (host,) if inventory is None else ()
        return Targets(tuple(_with_overrides(item, options) for item in hosts))
    chosen = _texts(options["inventory"])
    if not chosen:
        raise ConfigError(Problem("no inventory", hint="pass -i inventory.yaml, -i host1,host2, or --local"))
    loaded = load(chosen, read_bytes)
    limit = options["limit"]
    hosts = loaded.select(str(options["pattern"]), limit if isinstance(limit, str) else None)
    return Targets(tuple(_with_overrides(host, options) for host in hosts), loaded.sources)

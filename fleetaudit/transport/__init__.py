"""Transports by name. A module is imported on first use: paramiko costs 0.2 s that --local need not pay.

Other distributions add names as entry points of the group `fleetaudit.transports`, each naming a function
`open_transport(options: SshOptions) -> Transport`; the names of the table stay what they are.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType, TracebackType
from typing import Final

from fleetaudit import plugins
from fleetaudit.errors import InventoryError
from fleetaudit.model import Host
from fleetaudit.transport.base import Preparing, Transport
from fleetaudit.transport.options import Ask, HostKeyChecking, SshOptions, usual_config, usual_known_hosts

__all__ = [
    "TRANSPORTS",
    "Ask",
    "HostKeyChecking",
    "SshOptions",
    "Transport",
    "Transports",
    "usual_config",
    "usual_known_hosts",
]

# Name in the inventory -> module with `open_transport(options: SshOptions) -> Transport`.
TRANSPORTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ssh": "fleetaudit.transport.ssh",
        "openssh": "fleetaudit.transport.openssh",
        "local": "fleetaudit.transport.local",
    }
)


class Transports:
    """One transport of each name in use, for one run; a context manager that closes them.

    `extra` adds transports that are already open, such as a `MemoryTransport`.
    """

    def __init__(self, options: SshOptions, extra: Mapping[str, Transport] | None = None) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._open: dict[str, Transport] = dict(extra or {})

    def prepare(self, hosts: Sequence[Host]) -> None:
        """Open the transports of these hosts now, so that what is wrong with the options is found before any.

        A transport may have a method of this name: it asks whoever runs this for what the hosts will need.
        """
        for name in sorted({host.transport for host in hosts}):
            transport = self.get(name)
            if isinstance(transport, Preparing):
                transport.prepare([host for host in hosts if host.transport == name])

    def get(self, name: str) -> Transport:
        """The transport of this name.

        Raises InventoryError for one that does not exist, ConfigError for a plugin that cannot be used.
        """
        with self._lock:
            if name not in self._open:
                self._open[name] = _open(name, self._options)
            return self._open[name]

    def cancel(self) -> None:
        """Cancel every run under way; later ones fail the same way."""
        for transport in tuple(self._open.values()):
            transport.cancel()

    def close(self) -> None:
        """Close every transport."""
        with ExitStack() as closing:  # one that fails leaves none open
            for transport in self._open.values():
                closing.callback(transport.close)

    def __enter__(self) -> Transports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(name: str, options: SshOptions) -> Transport:
    if name not in TRANSPORTS:
        return _open_plugin(name, options)
    factory: Callable[[SshOptions], Transport] = importlib.import_module(TRANSPORTS[name]).open_transport
    return factory(options)


def _open_plugin(name: str, options: SshOptions) -> Transport:
    plugin = plugins.find(plugins.TRANSPORTS, name)
    if plugin is None:
        known = ", ".join(sorted({*TRANSPORTS, *plugins.names(plugins.TRANSPORTS)}))
        raise InventoryError(f"unknown connection {name!r}; fleetaudit has: {known}")
    transport: Transport = plugin(options)
    if isinstance(transport, type):
        raise plugin.broken(f"it returned the class {transport.__name__}, not an object of it")
    missing = [part for part in ("run", "cancel", "close") if not callable(getattr(transport, part, None))]
    if missing:
        raise plugin.broken(f"what it opened has no {', '.join(missing)}()")
    return _Foreign(plugin, transport)


class _Foreign:
    """A transport of another distribution: what fails in it outside of any host's run names it."""

    def __init__(self, plugin: plugins.Plugin, transport: Transport) -> None:
        self._plugin = plugin
        self._transport = transport
        self.run = transport.run

    def prepare(self, hosts: Sequence[Host]) -> None:
        if isinstance(self._transport, Preparing):
            self._plugin.guarded("prepare()", self._transport.prepare, hosts)

    def cancel(self) -> None:
        self._plugin.guarded("cancel()", self._transport.cancel)

    def close(self) -> None:
        self._plugin.guarded("close()", self._transport.close)

"""Transports by name. A module is imported on first use: paramiko costs 0.2 s that --local need not pay."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Final

from fleetaudit.errors import InventoryError
from fleetaudit.transport.base import Transport
from fleetaudit.transport.options import HostKeyChecking, SshOptions

__all__ = ["TRANSPORTS", "HostKeyChecking", "SshOptions", "Transport", "Transports"]

# Name in the inventory -> module with `open_transport(options: SshOptions) -> Transport`.
TRANSPORTS: Final[Mapping[str, str]] = MappingProxyType(
    {"ssh": "fleetaudit.transport.ssh", "local": "fleetaudit.transport.local"}
)


class Transports:
    """One transport of each name in use, for one run; a context manager that closes them.

    `extra` adds transports that are already open, such as a `MemoryTransport`.
    """

    def __init__(self, options: SshOptions, extra: Mapping[str, Transport] | None = None) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._open: dict[str, Transport] = dict(extra or {})

    def prepare(self, names: Iterable[str]) -> None:
        """Open all of these now, so that what is wrong with the options is found before any host."""
        for name in sorted(set(names)):
            self.get(name)

    def get(self, name: str) -> Transport:
        """The transport of this name. Raises InventoryError for one that does not exist."""
        with self._lock:
            if name not in self._open:
                if name not in TRANSPORTS:
                    known = ", ".join(sorted(TRANSPORTS))
                    raise InventoryError(f"unknown connection {name!r}; fleetaudit has: {known}")
                factory: Callable[[SshOptions], Transport] = importlib.import_module(
                    TRANSPORTS[name]
                ).open_transport
                self._open[name] = factory(self._options)
            return self._open[name]

    def cancel(self) -> None:
        """Cancel every run under way; later ones fail the same way."""
        for transport in tuple(self._open.values()):
            transport.cancel()

    def close(self) -> None:
        """Close every transport."""
        for transport in tuple(self._open.values()):
            transport.close()

    def __enter__(self) -> Transports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Facts of a host, as its snapshot tells them, by the names that selections use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fleetaudit.model import Snapshot

FACTS: Final[Mapping[str, Callable[[Snapshot], str | None]]] = MappingProxyType(
    {
        "os.id": lambda snapshot: snapshot.os_id,
        "os.version_id": lambda snapshot: snapshot.os_version,
        "kernel": lambda snapshot: snapshot.kernel,
        "arch": lambda snapshot: snapshot.arch,
        "hostname": lambda snapshot: snapshot.hostname,
        "machine_id": lambda snapshot: snapshot.machine_id,
    }
)
"""What reads each fact; None is a fact that is not known."""

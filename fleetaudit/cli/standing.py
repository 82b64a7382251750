"""How far a run is: counts, rate and who is slow. Pure but for its lock; the clock is the caller's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from fleetaudit.model import HostStatus

# Hosts under way that a bar names: those that hold a run up.
_SLOWEST = 3
# A host is not called slow before it took this many seconds.
_SLOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Hosts of a run: `done` have an outcome, `failed` of these have no snapshot."""

    hosts: int
    done: int
    failed: int
    in_flight: int


class Standing:
    """Keeps account of a run from an observer's events, which come from several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._hosts = self._done = self._failed = 0
        self._began = monotonic()
        self._under_way: dict[str, float] = {}  # in the order they began: the slowest come first

    def begin(self, hosts: int) -> None:
        """The run begins over so many hosts."""
        with self._lock:
            self._hosts = hosts
            self._began = self._monotonic()

    def host_began(self, host: str) -> None:
        """A host is being asked."""
        with self._lock:
            self._under_way[host] = self._monotonic()

    def host_ended(self, host: str, status: HostStatus) -> None:
        """A host has its outcome, whether it was asked or not."""
        with self._lock:
            self._under_way.pop(host, None)
            self._done += 1
            self._failed += status not in (HostStatus.OK, HostStatus.PARTIAL)

    @property
    def counts(self) -> Counts:
        """Where the run is now."""
        with self._lock:
            return Counts(self._hosts, self._done, self._failed, len(self._under_way))

    @property
    def rate(self) -> float:
        """Hosts done per second since the run began."""
        with self._lock:
            return self._done / max(self._monotonic() - self._began, 1e-3)

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None while nothing is known of it."""
        rate, counts = self.rate, self.counts
        return (counts.hosts - counts.done) / rate if counts.done else None

    @property
    def slowest(self) -> tuple[tuple[str, float], ...]:
        """The hosts that have been under way longest, each with its seconds; none that just began."""
        now = self._monotonic()
        with self._lock:
            longest = sorted(self._under_way.items(), key=lambda item: item[1])[:_SLOWEST]
        return tuple((host, now - began) for host, began in longest if now - began >= _SLOW_SECONDS)

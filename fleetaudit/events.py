"""What a run tells whoever watches it: progress bars, logs, tests.

`run_finished` and `host_finished` are always called, on failure and interrupt too.
Host events come from worker threads; an observer locks what it shares.
"""

from __future__ import annotations

from fleetaudit.model import HostStatus


class Observer:
    """Told of every step of a run. A subclass overrides what it cares for."""

    def run_started(self, targets: int) -> None:
        """Collection begins over `targets` hosts."""

    def host_started(self, host: str) -> None:
        """A worker begins with this host."""

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        """This host has its outcome, `seconds` of wall time after it began."""

    def run_finished(self) -> None:
        """Nothing more follows."""


class Silent(Observer):
    """Watches and says nothing."""

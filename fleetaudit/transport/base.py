"""The contract of a transport: run one command on one host and hold a short conversation with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.model import Host


class Transport(Protocol):
    """Reaches hosts. One object serves every thread of a run; `run` is called once per attempt."""

    def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
        """Run the shell command line on the host; end by `deadline` (seconds on the monotonic clock).

        Raises a `HostError` subclass that names what failed. Leaves no process, thread or socket behind,
        whichever way it ends.
        """

    def cancel(self) -> None:
        """End every `run` under way at once (from another thread); later calls fail the same way."""

    def close(self) -> None:
        """Release what is shared between runs."""


@runtime_checkable
class Preparing(Protocol):
    """A transport that wants to know its hosts before the first of them is asked."""

    def prepare(self, hosts: Sequence[Host]) -> None:
        """Called once, before any `run`. Raises ConfigError for what keeps hosts from being reached."""

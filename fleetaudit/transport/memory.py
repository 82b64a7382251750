"""A transport without hosts, for tests and for users' own: a function answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.model import Host
from fleetaudit.transport.watchdog import cancelled

Handler: TypeAlias = Callable[[Host, str, Conversation], Reply]


class MemoryTransport:
    """Calls `handler(host, command, conversation)` for every run; what it raises is the run's failure."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._cancelled = threading.Event()

    def run(self, host: Host, command: str, conversation: Conversation, deadline: float) -> Reply:
        """See `Transport.run`. The deadline is the handler's own affair."""
        del deadline
        if self._cancelled.is_set():
            raise cancelled()
        return self._handler(host, command, conversation)

    def cancel(self) -> None:
        """See `Transport.cancel`; a handler under way is not interrupted."""
        self._cancelled.set()

    def close(self) -> None:
        """See `Transport.close`."""

"""A transport without hosts, for tests: fleetaudit's own and those of its users. Its names are stable.

docs/library.md has an example.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import ConnectError, HostError
from fleetaudit.model import Host
from fleetaudit.transport.watchdog import cancelled

Handler: TypeAlias = Callable[[Host, str, Conversation], Reply]

# The run's nonce, which an agent repeats so that its answer is known as one; the command line names it too.
_NONCE = re.compile(r"FLEETAUDIT-NO-INTERPRETER ([A-Za-z0-9_-]+)")


class MemoryTransport:
    """Calls `handler(host, command, conversation)` for every run; what it raises is the run's failure.

    A `HostError` gives the host the status of its class, anything else the status `error`. Hosts are asked by
    several threads at once. One object serves one run: it stays cancelled.
    """

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


def telling(answers: Mapping[str, Mapping[str, object] | HostError]) -> Handler:
    """A handler that answers as agents do: for each host by name, its snapshot or how it fails.

    A snapshot is a document of schema `fleetaudit.snapshot/1` (`fleetaudit schema snapshot`), as `collect`
    writes them. A host without an answer is unreachable.
    """

    def answer(host: Host, command: str, conversation: Conversation) -> Reply:
        del conversation
        told = answers.get(host.name, ConnectError("the test has no answer for this host"))
        if isinstance(told, HostError):
            raise told
        return Reply(0, _frame(command, json.dumps(told, default=dict).encode()), b"")

    return answer


def _frame(command: str, body: bytes) -> bytes:
    """What `agent.launch.read_frame` takes apart."""
    found = _NONCE.search(command)
    nonce = found[1].encode() if found else b""
    head = b"\nFLEETAUDIT-BEGIN %s %d %s\n" % (nonce, len(body), hashlib.sha256(body).hexdigest().encode())
    return head + body + b"\nFLEETAUDIT-END %s\n" % nonce

"""Conversations simple enough to reason about."""

from __future__ import annotations

from collections.abc import Callable

from fleetaudit.conversation import Say, Stream
from fleetaudit.errors import BecomeError, OutputError


class Send:
    """Sends this, closes stdin and listens."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def start(self) -> Say:
        return Say(self._data, eof=True)

    def heard(self, stream: Stream, data: bytes) -> Say:
        return Say()


class Silent(Send):
    """Says nothing and keeps stdin open; calls `on_output` when it first hears something."""

    def __init__(self, on_output: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_output = on_output

    def start(self) -> Say:
        return Say()

    def heard(self, stream: Stream, data: bytes) -> Say:
        self._on_output()
        return Say()


class Limited(Send):
    """Takes a thousand bytes and refuses more."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def heard(self, stream: Stream, data: bytes) -> Say:
        self.taken += len(data)
        if self.taken > 1000:
            raise OutputError("too much")
        return Say()


class Dialogue:
    """Answers `ask N` on stderr with N+1 until it has answered three times, then closes stdin."""

    def __init__(self) -> None:
        self._heard = b""

    def start(self) -> Say:
        return Say(b"0\n")

    def heard(self, stream: Stream, data: bytes) -> Say:
        if stream is Stream.STDOUT:
            return Say()
        self._heard += data
        if not self._heard.endswith(b"\n"):
            return Say()
        number = int(self._heard.split()[-1])
        if number > 3:
            raise BecomeError("asked too often")
        return Say(eof=True) if number == 3 else Say(b"%d\n" % (number + 1))


# Echoes every line on stdout and asks for the next on stderr.
ASKING = 'while read -r n; do echo "got $n"; echo "ask $n" >&2; done; exit 7'

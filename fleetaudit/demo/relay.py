"""Bytes between two sockets, both ways, without threads: an acceptor cannot start any (see `namespaces`)."""

from __future__ import annotations

import contextlib
import selectors
import socket

_ROOM = 65536  # bytes kept for a receiver that is slower than its sender


class Relay:
    """Copies between a client and a session until the session hangs up or either link breaks.

    The client's end of file is passed on; the session's closes both once its last bytes are delivered.
    """

    def __init__(
        self, selector: selectors.BaseSelector, client: socket.socket, session: socket.socket
    ) -> None:
        self._selector = selector
        self._client, self._session = client, session
        self._pending = {client: bytearray(), session: bytearray()}  # bytes to deliver, by receiver
        self._finished: set[socket.socket] = set()  # senders that have said end of file
        self.closed = False
        for end in (client, session):
            end.setblocking(False)
            selector.register(end, selectors.EVENT_READ, self)

    def move(self) -> None:
        """Take what can be taken and deliver what can be delivered."""
        if self.closed:
            return
        try:
            for sender, receiver in ((self._client, self._session), (self._session, self._client)):
                self._take(sender, receiver)
                self._deliver(sender, receiver)
        except OSError:
            self.close()
            return
        if self._session in self._finished and not self._pending[self._client]:
            self.close()
        else:
            self._watch()

    def close(self) -> None:
        """Hang up on both."""
        if self.closed:
            return
        self.closed = True
        for end in (self._client, self._session):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            end.close()

    def _take(self, sender: socket.socket, receiver: socket.socket) -> None:
        pending = self._pending[receiver]
        if sender in self._finished or len(pending) >= _ROOM:
            return
        with contextlib.suppress(BlockingIOError):
            data = sender.recv(_ROOM)
            pending += data
            if not data:
                self._finished.add(sender)

    def _deliver(self, sender: socket.socket, receiver: socket.socket) -> None:
        pending = self._pending[receiver]
        if pending:
            with contextlib.suppress(BlockingIOError):
                del pending[: receiver.send(pending)]
        if sender in self._finished and not pending:
            with contextlib.suppress(OSError):  # said before, or gone: the other direction will tell
                receiver.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        for sender, receiver in ((self._client, self._session), (self._session, self._client)):
            wants = 0
            if sender not in self._finished and len(self._pending[receiver]) < _ROOM:
                wants |= selectors.EVENT_READ
            if self._pending[sender]:
                wants |= selectors.EVENT_WRITE
            self._register(sender, wants)

    def _register(self, end: socket.socket, wants: int) -> None:
        known = end in self._selector.get_map()
        if not wants:
            if known:
                self._selector.unregister(end)
        elif known:
            self._selector.modify(end, wants, self)
        else:
            self._selector.register(end, wants, self)

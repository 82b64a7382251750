"""The relay alone, over socket pairs: every byte arrives, in order, and ends are passed on."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.demo.relay import Relay


class Wire:
    """A relay turned by a thread; `client` and `session` are the far ends."""

    def __init__(self) -> None:
        self.client, near_client = socket.socketpair()
        near_session, self.session = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self.relay = Relay(self._selector, near_client, near_session)
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()
        for end in (self.client, self.session):
            end.settimeout(10)

    def _turn(self) -> None:
        while not (self.relay.closed or self._stopping.is_set()):
            for key, _ in self._selector.select(0.05):
                key.data.move()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        self.relay.close()
        self._selector.close()
        self.client.close()
        self.session.close()


@contextlib.contextmanager
def _wire() -> Iterator[Wire]:
    wire = Wire()
    try:
        yield wire
    finally:
        wire.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with _wire() as it:
        yield it


def _send(end: socket.socket, chunks: list[bytes]) -> threading.Thread:
    def send() -> None:
        for chunk in chunks:
            end.sendall(chunk)
        end.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def _read_all(end: socket.socket) -> bytes:
    data = b""
    while chunk := end.recv(1 << 16):
        data += chunk
    return data


CHUNKS = st.lists(st.binary(min_size=1, max_size=200) | st.integers(1, 300_000).map(bytes), max_size=6)


@settings(max_examples=25, deadline=None)
@given(up=CHUNKS, down=CHUNKS)
def test_both_directions_at_once_whatever_the_sizes(up: list[bytes], down: list[bytes]) -> None:
    with _wire() as wire:
        sending = _send(wire.client, up)
        assert _read_all(wire.session) == b"".join(up)
        answering = _send(wire.session, down)
        assert _read_all(wire.client) == b"".join(down)
        sending.join(10)
        answering.join(10)


def test_the_session_may_still_answer_after_the_clients_end(wire: Wire) -> None:
    wire.client.sendall(b"question")
    wire.client.shutdown(socket.SHUT_WR)
    assert _read_all(wire.session) == b"question"
    wire.session.sendall(b"answer")
    wire.session.close()
    assert _read_all(wire.client) == b"answer"


def test_a_slow_reader_holds_up_the_sender_not_the_memory(wire: Wire) -> None:
    wire.session.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 26:
            sent += wire.session.send(bytes(1 << 16))
    assert sent < 1 << 26
    received = 0
    while received < sent:
        received += len(wire.client.recv(1 << 16))
    assert received == sent


def test_the_session_hanging_up_closes_both(wire: Wire) -> None:
    wire.session.close()
    assert wire.client.recv(1) == b""
    wire._thread.join(10)
    assert wire.relay.closed


def test_a_client_that_vanishes_ends_the_session(wire: Wire) -> None:
    wire.client.close()
    assert wire.session.recv(1) == b""

"""The TCP connection under an SSH session: reached within a deadline, bounded in what it takes in."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import math
import os
import queue
import socket
import threading
from typing import Any, TypeAlias

from fleetaudit.errors import ConnectError, OutputError
from fleetaudit.text import visible
from fleetaudit.transport.watchdog import Lease

# Enough for any greeting and key exchange; a host that sends more before it is trusted wants memory.
HANDSHAKE_BYTES = 256 * 1024
# Four times the agent's own output cap.
SESSION_BYTES = 64 * 1024 * 1024
CHUNK = 64 * 1024
# paramiko asks for 0.1 s to notice that it was closed. Here closing wakes the reader, so that a
# thousand waiting sessions cost no CPU.
_POLL_SECONDS = 5.0

# Family, type, protocol and socket address, as getaddrinfo gives them.
_Target: TypeAlias = tuple[int, int, int, tuple[object, ...]]


class Metered:
    """Counts what has been taken in from a host."""

    _allowed: float = HANDSHAKE_BYTES
    _shared = False
    flooded = False

    def trust(self) -> None:
        """The handshake is over: allow a whole session's worth of data."""
        self._allowed = SESSION_BYTES

    def share(self) -> None:
        """Many sessions go through this one from now on: each counts its own data."""
        self._allowed = math.inf
        self._shared = True

    def check(self) -> None:
        """Raise OutputError if the host sent more than it may."""
        if self.flooded:
            raise OutputError("the host sent more data than any answer has")

    def count(self, data: bytes) -> bytes:
        """The same data, counted. Raises EOFError when it is too much."""
        self._allowed -= len(data)
        if self._allowed < 0:
            self.flooded = True
            raise EOFError
        return data


class Link(Metered, socket.socket):
    """A socket that counts what it has taken in, paced for paramiko."""

    def reach(self, endpoint: tuple[object, ...], timeout: float, source: str | None = None) -> None:
        """Connect within `timeout` seconds, from the address `source` if given, or raise OSError."""
        super().settimeout(timeout)
        if source is not None:
            self.bind((source, 0))
        self.connect(endpoint)
        # Nagle and delayed acknowledgements together cost three round trips per host.
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As socket.recv, but never allocates what a packet header merely claims."""
        return self.count(super().recv(min(bufsize, CHUNK), flags))

    def send(self, data: Any, flags: int = 0) -> int:
        """As socket.send. A shared link that takes nothing for seconds is dead: others wait behind it."""
        try:
            return super().send(data, flags)
        except TimeoutError:
            if self._shared:
                self.hang_up()
                raise ConnectionAbortedError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            raise

    def settimeout(self, value: float | None) -> None:
        """Keeps a timeout of its own: paramiko's only paces its checks for being closed."""
        del value
        super().settimeout(_POLL_SECONDS)

    def close(self) -> None:
        """Close, waking whoever reads or writes."""
        self.hang_up()
        super().close()

    def hang_up(self) -> None:
        """Shut both directions down, from any thread, whatever state the socket is in."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


def connect(
    address: str,
    port: int,
    timeout: float,
    lease: Lease,
    *,
    family: int = socket.AF_UNSPEC,
    source: str | None = None,
) -> Link:
    """Connect to the first address that answers, each within `timeout` seconds. Raises ConnectError.

    Only addresses of `family` are tried, and those of the family of `source`, an address of this machine.
    """
    wanted = family
    if source is not None:
        wanted = socket.AF_INET6 if ":" in source else socket.AF_INET
    what = "IPv4 " if wanted == socket.AF_INET else "IPv6 " if wanted == socket.AF_INET6 else ""
    failure = ConnectError(f"no {what}address for {visible(address)}")
    for found, kind, protocol, endpoint in _resolve(address, port, lease):
        if wanted not in (socket.AF_UNSPEC, found):
            continue
        try:
            link = Link(found, kind, protocol)
        except OSError as error:  # no descriptors left, or a family this machine lacks
            failure = _unreachable(address, port, error)
            continue
        with contextlib.ExitStack() as unless_connected:
            unless_connected.callback(link.close)
            lease.attach(link.hang_up)
            try:
                link.reach(endpoint, min(timeout, lease.remaining()), source)
            except OSError as error:
                lease.check()
                failure = _unreachable(address, port, error)
                continue
            lease.check()
            unless_connected.pop_all()
            return link
    raise failure


def _unreachable(address: str, port: int, error: OSError) -> ConnectError:
    reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return ConnectError(f"cannot connect to {visible(address)} port {port}: {reason}")


def _resolve(address: str, port: int, lease: Lease) -> list[_Target]:
    """Addresses of a name. A resolver cannot be interrupted, so it is left behind when time is over."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _resolve_name(address, port, lease)
    return _targets(address, port, socket.AI_NUMERICHOST)


def _targets(address: str, port: int, flags: int = 0) -> list[_Target]:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, kind, protocol, endpoint) for family, kind, protocol, _, endpoint in found]


def _resolve_name(address: str, port: int, lease: Lease) -> list[_Target]:
    answers: queue.SimpleQueue[list[_Target] | OSError | UnicodeError | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_targets(address, port))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label no resolver can be asked for
            answers.put(error)

    lease.attach(lambda: answers.put(None))
    threading.Thread(target=ask, name="fleetaudit-resolver", daemon=True).start()
    answer = answers.get()
    lease.check()
    if isinstance(answer, list):
        return answer
    reason = answer.strerror if isinstance(answer, OSError) else "not a host name"
    raise ConnectError(f"cannot resolve {visible(address)}: {reason}") from answer

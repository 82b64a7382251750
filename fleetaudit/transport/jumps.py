"""Connections to jump hosts: one to each per run, through which every host behind it is reached.

To the jump host a host behind it is a channel of kind direct-tcpip (RFC 4254, section 7.2).
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import paramiko
from paramiko.transport import ChannelMap

from fleetaudit.errors import AuthError, ConnectError, HostError, HostKeyError
from fleetaudit.text import visible
from fleetaudit.transport.link import CHUNK, Link, Metered
from fleetaudit.transport.route import Hop
from fleetaudit.transport.watchdog import Lease, Watchdog, cancelled

# Hosts behind a jump host that are being connected to at one time. Each costs it a connection attempt,
# and a fleet's worth at once would look like an attack to what stands between.
OPENS_AT_ONCE = 20
# How long an unreachable jump host is not tried again; what it refused us for, it will refuse again.
_PAUSE_SECONDS = 2.0
# A blocked writer notices that it was given up this late at most; readers are woken at once.
_POLL_SECONDS = 0.5
# A jump host without room is asked again when somebody left, or after this; and it is given up when it has
# said so this often while nobody of ours was inside.
_ROOM_SECONDS = 0.5
_FULL_TIMES = 5
_RESOURCE_SHORTAGE = 4  # RFC 4254, section 5.1

Session: TypeAlias = tuple[paramiko.Transport, "Link | ChannelLink"]
# Logs in at the last of these hops; what it opened is closed by the stack.
Enter: TypeAlias = Callable[[tuple[Hop, ...], Lease, contextlib.ExitStack], Session]


class JumpError(ConnectError):
    """A jump host failed; the message names it."""


class ChannelLink(Metered):
    """A channel through a jump host in the place of a socket."""

    def __init__(self, channel: paramiko.Channel, jump: paramiko.Transport, label: str) -> None:
        self._channel = channel
        self._jump = jump
        self._label = label
        self._closed = False  # paramiko looks at this name when it ends a session
        channel.settimeout(_POLL_SECONDS)

    def recv(self, bufsize: int) -> bytes:
        """As socket.recv."""
        return self.count(self._channel.recv(min(bufsize, CHUNK)))

    def send(self, data: bytes) -> int:
        """As socket.send; the data is on its way before the channel can be closed by anybody."""
        with self._channel.lock:
            return self._channel.send(data)

    def settimeout(self, value: float | None) -> None:
        """Keeps a timeout of its own, as `Link` does."""

    def check(self) -> None:
        """Raise JumpError if the jump host went away, OutputError for a flood."""
        super().check()
        if not self._jump.is_active():
            raise JumpError(f"jump host {self._label}: the connection was lost")

    def hang_up(self) -> None:
        """Wake whoever reads, from any thread, without a word to the jump host: that could block."""
        self._channel.in_buffer.close()

    def close(self) -> None:
        """Have the jump host end the connection. A jump host that is gone has done so."""
        self._closed = True
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


class _Channels(ChannelMap):
    """paramiko's table of channels, made fit for many threads.

    A lock is held over a whole `send`: paramiko lets go of it between making a message and sending it. If
    the channel is closed in between, data arrives for one that no longer is, and OpenSSH ends the whole
    connection for that. And a refusal is kept by channel: paramiko has room for one, whoever asked.
    """

    def __init__(self, session: paramiko.Transport) -> None:
        super().__init__()
        self._session = session
        self._refused: dict[int, Exception | None] = {}

    def put(self, chanid: int, chan: paramiko.Channel) -> None:
        """Called before the channel is asked for, so that nobody holds the lock that is replaced."""
        lock = threading.RLock()
        chan.lock = lock  # type: ignore[assignment]  # released in full where a condition is waited for
        chan.out_buffer_cv = threading.Condition(lock)
        super().put(chanid, chan)

    def delete(self, chanid: int) -> None:
        """Called when a channel ended, and right after a refusal has been noted."""
        if chanid in self._session.channel_events:
            self._refused[chanid] = self._session.saved_exception
        super().delete(chanid)

    def get(self, chanid: int) -> paramiko.Channel:
        """The channel, or why it was refused."""
        refusal = self._refused.pop(chanid, None)
        if refusal is not None:
            raise refusal
        return super().get(chanid)


class Jumps:
    """Every jump host of a run. One object serves every thread."""

    def __init__(self, enter: Enter, watchdog: Watchdog) -> None:
        self._enter = enter
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._known: dict[tuple[Hop, ...], _Jump] = {}
        self._closed = False

    def reach(self, jumps: tuple[Hop, ...], target: Hop, lease: Lease, timeout: float) -> ChannelLink:
        """A connection to the target from the last of the jumps.

        Raises JumpError when one of them fails, ConnectError when the target does not answer there within
        `timeout` seconds.
        """
        with self._lock:
            if self._closed:
                raise cancelled()
            jump = self._known.setdefault(jumps, _Jump(jumps, self._enter, self._watchdog))
        return jump.reach(target, lease, timeout)

    def close(self) -> None:
        """End every connection, the farthest first: they go through each other."""
        with self._lock:
            self._closed = True
            known = sorted(self._known.items(), key=lambda item: -len(item[0]))
        for _, jump in known:
            jump.close()

    def cancel(self) -> None:
        """Hang up on every jump host."""
        with self._lock:
            self._closed = True
            known = tuple(self._known.values())
        for jump in known:
            jump.cancel()


class _Jump:
    """The connection to one jump host, made when it is first needed, and again when it was lost."""

    def __init__(self, hops: tuple[Hop, ...], enter: Enter, watchdog: Watchdog) -> None:
        self._hops = hops
        self._label = hops[-1].label
        self._enter = enter
        self._watchdog = watchdog
        self._changed = threading.Condition()
        self._session: Session | None = None
        self._stack = contextlib.ExitStack()
        self._connecting = False
        self._failure = ""
        self._failed_until = 0.0
        self._opening = 0
        self._inside = 0
        self._left = 0
        self._closed = False

    def reach(self, target: Hop, lease: Lease, timeout: float) -> ChannelLink:
        """See `Jumps.reach`."""
        lease.attach(self._wake)
        session, _ = self._connected(lease)
        alone = 0
        while True:
            with self._turn(lease):
                left = self._left
                try:
                    return self._open(session, target, lease, timeout)
                except paramiko.SSHException as error:
                    lease.check()
                    full = isinstance(error, paramiko.ChannelException) and error.code == _RESOURCE_SHORTAGE
                    if not session.is_active():
                        raise JumpError(f"jump host {self._label}: the connection was lost") from error
                    alone = 0 if self._inside else alone + 1
                    if not full or alone > _FULL_TIMES:
                        raise self._no_way(target, error) from error
            self._wait_for_room(left, lease)

    def close(self) -> None:
        """End the connection and its thread."""
        self.cancel()
        self._stack.close()

    def cancel(self) -> None:
        """Hang up; whoever waits is woken."""
        with self._changed:
            self._closed = True
            session = self._session
            self._changed.notify_all()
        if session is not None:
            session[1].hang_up()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _connected(self, lease: Lease) -> Session:
        with self._changed:
            while True:
                lease.check()
                if self._closed:
                    raise cancelled()
                if self._session is not None and self._session[0].is_active():
                    return self._session
                if time.monotonic() < self._failed_until:
                    raise JumpError(self._failure)
                if not self._connecting:
                    break
                self._changed.wait()
            self._connecting = True
            self._session = None
        session: Session | None = None
        try:
            session = self._connect(lease)
        finally:
            with self._changed:
                self._connecting = False
                self._session = session
                closed = self._closed
                self._changed.notify_all()
        if closed:  # while the last of it was being done
            self._stack.close()
            raise cancelled()
        return session

    def _connect(self, lease: Lease) -> Session:
        self._stack.close()  # of a connection that was lost
        with contextlib.ExitStack() as unless_connected:
            try:
                # A lease of its own: the connection outlives the run that happened to need it first.
                with self._watchdog.lease(lease.deadline) as opening:
                    session = self._enter(self._hops, opening, unless_connected)
            except JumpError as error:  # one before this one
                self._remember(str(error), 0.0)
                raise
            except HostError as error:
                lease.check()
                refused = isinstance(error, AuthError | HostKeyError)
                self._remember(f"jump host {self._label}: {error}", math.inf if refused else _PAUSE_SECONDS)
                raise JumpError(self._failure) from error
            vars(session[0])["_channels"] = _Channels(session[0])  # before any channel is asked for
            session[1].share()
            self._stack = unless_connected.pop_all()
        return session

    def _remember(self, failure: str, seconds: float) -> None:
        with self._changed:
            self._failure = failure
            self._failed_until = time.monotonic() + seconds

    @contextlib.contextmanager
    def _turn(self, lease: Lease) -> Iterator[None]:
        with self._changed:
            while self._opening >= OPENS_AT_ONCE:
                lease.check()
                self._changed.wait()
            lease.check()
            self._opening += 1
        try:
            yield
        finally:
            with self._changed:
                self._opening -= 1
                self._changed.notify_all()

    def _open(self, session: paramiko.Transport, target: Hop, lease: Lease, timeout: float) -> ChannelLink:
        channel = session.open_channel(
            "direct-tcpip",
            (target.address, target.port),
            ("127.0.0.1", 0),
            timeout=min(timeout, lease.remaining()),
        )
        link = _Passage(channel, session, self._label, self._leave)
        with self._changed:
            self._inside += 1
        lease.attach(link.hang_up)
        return link

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._left += 1
            self._changed.notify_all()

    def _wait_for_room(self, left: int, lease: Lease) -> None:
        """Wait until somebody else has left, or may have: the jump host has no room for another now."""
        with self._changed:
            if self._left == left:
                lease.check()
                self._changed.wait(_ROOM_SECONDS)

    def _no_way(self, target: Hop, error: paramiko.SSHException) -> ConnectError:
        reason = error.text if isinstance(error, paramiko.ChannelException) else str(error)
        reason = "no answer" if reason.startswith("Timeout") else visible(reason.rstrip("."))
        return ConnectError(f"cannot connect to {target.label} through jump host {self._label}: {reason}")


class _Passage(ChannelLink):
    """Tells when it ends, for those who wait for room."""

    def __init__(
        self, channel: paramiko.Channel, jump: paramiko.Transport, label: str, left: Callable[[], None]
    ) -> None:
        super().__init__(channel, jump, label)
        self._left = left

    def close(self) -> None:
        """As `ChannelLink.close`; only the first time counts."""
        first = not self._closed
        super().close()
        if first:
            self._left()

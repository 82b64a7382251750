"""One demo host's door: accepts outside, serves inside. Run as `python -m fleetaudit.demo.acceptor`.

The first line on stdin is the host's `Door` as JSON. The process then leaves this machine's namespaces,
starts the host's init (whose one line goes to the same stdout) and runs one session program per connection
inside: sshd -i, or `fleetaudit.demo.embedded`. End of file on stdin means that the fleet is gone: the host
ends.

A session never gets the accepted socket: that socket belongs to this machine's network namespace, which a
privileged agent inside could reach through it (SIOCGSKNS). It gets one end of a socket pair, relayed here.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from fleetaudit.demo import namespaces
from fleetaudit.demo.relay import Relay

MAX_SESSIONS = 64
GONE_WITHIN = 8.0  # seconds for init and sessions to end; init allows its own children less


@dataclass(frozen=True, slots=True)
class Door:
    """What an acceptor is told. `session` is the argv per connection, `init` that of the first process."""

    name: str
    listener: int  # descriptor number
    isolated: bool
    user_namespace: bool
    root: str  # empty directory on which the host's root is built
    home: str  # the host's files
    covered: tuple[str, ...]
    session: tuple[str, ...]
    init: tuple[str, ...]
    services: tuple[dict[str, object], ...]

    @classmethod
    def read(cls, stream: TextIO) -> Door:
        """The door on the stream's first line."""
        return cls(**json.loads(stream.readline()))


class Sessions:
    """The session programs under way, and the relays to them."""

    def __init__(self, argv: Sequence[str], selector: selectors.BaseSelector) -> None:
        self._argv = argv
        self._selector = selector
        self._running: dict[Relay, subprocess.Popen[bytes]] = {}

    def admit(self, client: socket.socket) -> None:
        """Start a session for this connection, unless there are too many."""
        self.forget_ended()
        if len(self._running) >= MAX_SESSIONS:
            client.close()
            return
        outer, inner = socket.socketpair()
        with inner:
            process = subprocess.Popen(
                self._argv, stdin=inner.fileno(), stdout=inner.fileno(), start_new_session=True, cwd="/"
            )
        self._running[Relay(self._selector, client, outer)] = process

    def forget_ended(self) -> None:
        """Reap the programs that have ended."""
        for relay, process in list(self._running.items()):
            if process.poll() is not None and relay.closed:
                del self._running[relay]

    def end(self, deadline: float) -> None:
        """Hang up on all of them, and kill those that are still there at the deadline (monotonic)."""
        for relay in self._running:
            relay.close()
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Init:
    """The host's first process. It ends when `let_go` is called, or when this process does."""

    def __init__(self, door: Door) -> None:
        theirs, self._lifeline = os.pipe()
        os.write(self._lifeline, json.dumps(door.services).encode() + b"\n")
        self._pid = os.fork()
        if self._pid == 0:
            enter(door, theirs)
        os.close(theirs)
        self.ended = False

    def let_go(self) -> None:
        """Have it end."""
        os.close(self._lifeline)

    def reap(self) -> bool:
        """Whether it has ended; in a pid namespace of its own, everything else there has then ended too."""
        if not self.ended:
            self.ended = os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return self.ended

    def end(self, deadline: float) -> None:
        """Wait for it until the deadline (monotonic), then kill it."""
        while not self.reap() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self.ended:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def enter(door: Door, lifeline: int) -> NoReturn:
    """In the first child: become the host, then its init."""
    try:
        if door.isolated:
            namespaces.become_host(door.name, Path(door.root), Path(door.home), door.covered)
        os.dup2(lifeline, 0)
        os.setsid()
        os.execv(door.init[0], door.init)  # noqa: S606  (a list, and no shell: on purpose)
    except OSError as error:
        complain(error)
    finally:
        os._exit(1)


def complain(error: OSError) -> None:
    """The one line on stdout, when there is no init to write it."""
    sys.stdout.write(json.dumps({"error": f"{error.filename or 'host'}: {error.strerror}"}) + "\n")
    sys.stdout.flush()


def serve(listener: socket.socket, init: Init, argv: Sequence[str]) -> None:
    """Accept and relay until the fleet closes stdin or the host's init ends."""
    with selectors.DefaultSelector() as selector:
        sessions = Sessions(argv, selector)
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        try:
            while not init.reap():
                for key, _ in selector.select(timeout=0.5):
                    if isinstance(key.data, Relay):
                        key.data.move()
                    elif key.fileobj is listener:
                        with contextlib.suppress(BlockingIOError, ConnectionError):
                            sessions.admit(listener.accept()[0])
                    else:
                        return
                sessions.forget_ended()
        finally:
            deadline = time.monotonic() + GONE_WITHIN
            listener.close()
            init.let_go()
            sessions.end(deadline)
            init.end(deadline)


def main() -> int:
    """Be one host's door until told to end."""
    door = Door.read(sys.stdin)
    listener = socket.socket(fileno=door.listener)
    listener.setblocking(False)
    listener.set_inheritable(False)
    os.chdir("/")  # pivot_root moves along those who stand in the old root, and only those
    try:
        if door.isolated:
            namespaces.leave_outside(user_namespace=door.user_namespace)
        init = Init(door)
    except OSError as error:
        complain(error)
        return 1
    serve(listener, init, door.session)
    return 0


if __name__ == "__main__":
    sys.exit(main())

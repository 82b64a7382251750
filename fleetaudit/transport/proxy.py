"""ProxyCommand: a program of this machine whose standard streams are the connection."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from typing import IO

from fleetaudit.errors import ConnectError
from fleetaudit.text import visible
from fleetaudit.transport.link import Link
from fleetaudit.transport.watchdog import Lease

_END_SECONDS = 1.0
_MOST_SHOWN = 300


class ProxyLink(Link):
    """Our end of a socket pair; the program has the other as its standard input and output."""

    def __init__(self, ours: socket.socket, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        super().__init__(ours.family, ours.type, ours.proto, ours.detach())
        self._process = process
        self._said = said
        self._lock = threading.Lock()
        self._ended = False
        self._failure = ""
        self._heard = b""
        self.settimeout(None)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As `Link.recv`."""
        try:
            data = super().recv(bufsize, flags)
        except ConnectionError:
            self._ended = True
            raise
        self._ended = not data
        return data

    def check(self) -> None:
        """Raise ConnectError if the program failed, OutputError for a flood."""
        super().check()
        with self._lock:
            self._look()
        if self._failure:
            raise ConnectError(f"the proxy command ended with {self._failure}")

    def close(self) -> None:
        """Close, and end the program with all it started. paramiko closes too, from a thread of its own."""
        with self._lock:
            self._look()
            super().close()
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                _await_end(self._process.pid, _END_SECONDS)
                self._signal(signal.SIGKILL)
                self._process.wait()
            self._said.close()

    def _look(self) -> None:
        """Note how the program ended, if it did. It is not reaped: its group is still to be ended."""
        if self._process.returncode is not None:
            return
        if self._ended:  # its streams close a moment before it is gone
            _await_end(self._process.pid, _END_SECONDS)
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is not None and ended.si_status != 0:
            how = "exit status" if ended.si_code == os.CLD_EXITED else "signal"
            said = self._last_line()
            self._failure = f"{how} {ended.si_status}{said and ': '}{said}"

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_line(self) -> str:
        with contextlib.suppress(OSError):
            self._heard += self._said.read() or b""
        lines = self._heard.decode("utf-8", "replace").strip().splitlines()
        return visible(lines[-1])[:_MOST_SHOWN] if lines else ""


def start(command: str, lease: Lease) -> ProxyLink:
    """Run the command line, as ssh does: `exec` by the user's shell. Raises ConnectError.

    It has no terminal: with many hosts at once nobody could tell whose question is being answered.
    """
    shell = os.environ.get("SHELL") or "/bin/sh"
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as unless_started:
        unless_started.callback(ours.close)
        try:
            process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ConnectError(f"cannot start {visible(shell)}: {error.strerror}") from error
        unless_started.pop_all()
    said = process.stderr
    if said is None:
        raise ValueError("the process has no standard error")
    os.set_blocking(said.fileno(), False)
    link = ProxyLink(ours, process, said)
    lease.attach(link.hang_up)
    return link


def _await_end(pid: int, seconds: float) -> None:
    """Wait without reaping, so that the number of the group stays taken."""
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > end:
            return
        time.sleep(0.005)

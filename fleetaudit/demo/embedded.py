"""An SSH server for one connection on stdin, as `sshd -i` is. `python -m fleetaudit.demo.embedded CONFIG`.

Where OpenSSH is absent or refuses (sshd cannot drop privileges in a user namespace with one uid). CONFIG is a
JSON file `{"user", "host_key", "authorized_key"}`: one user, a private key file, one public key in base64.
Only commands are run: no terminal, no shell, no forwarding.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

LOGIN_WITHIN = 30.0  # seconds from connection to authentication
_CHUNK = 32768


class Commands:
    """The commands under way, each in a process group of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, channel: paramiko.Channel, command: str) -> None:
        """Run the command line with the channel as its three streams; then send its exit status."""
        with self._lock:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
                env=self._environment,
            )
            self._running.add(process)
        if not process.stdin or not process.stdout or not process.stderr:
            raise RuntimeError("Popen made no pipes")
        threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
        errors = threading.Thread(target=_drain, args=(process.stderr, channel.sendall_stderr), daemon=True)
        errors.start()
        _drain(process.stdout, channel.sendall)
        errors.join()
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            # RFC 4254 6.10 has exit-signal for this; shells and sshd's peers expect 128 + N just as well.
            channel.send_exit_status(status if status >= 0 else 128 - status)
            channel.close()

    def end(self) -> None:
        """Kill all of them."""
        with self._lock:
            for process in self._running:
                if process.returncode is not None:  # collected: its number may be another's by now
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _feed(channel: paramiko.Channel, sink: IO[bytes]) -> None:
    with contextlib.suppress(OSError), sink:
        while data := channel.recv(_CHUNK):
            sink.write(data)
            sink.flush()


def _drain(source: IO[bytes], send: Callable[[bytes], None]) -> None:
    # A broken link closes the pipe, so that the command does not wait for a reader that is gone.
    with contextlib.suppress(OSError, EOFError), source:
        while data := os.read(source.fileno(), _CHUNK):
            send(data)


class Login(paramiko.ServerInterface):
    """Lets one user in with one key, and takes commands; everything else is refused by the base class."""

    def __init__(self, user: str, key: bytes) -> None:
        self._user, self._key = user, key
        self.requests: queue.SimpleQueue[tuple[paramiko.Channel, str]] = queue.SimpleQueue()

    def get_allowed_auths(self, username: str) -> str:
        """Keys only."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """The one key of the one user; paramiko has yet to check the signature."""
        return AUTH_SUCCESSFUL if username == self._user and key.asbytes() == self._key else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Sessions only."""
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Take the command; it is started once the client has been told so."""
        self.requests.put((channel, command.decode("utf-8", "surrogateescape")))
        return True


class Link(socket.socket):
    """The connection on stdin. Starts the commands that were asked for once their requests are answered.

    paramiko answers when the server interface returns, without a hook for what comes next; a command quicker
    than that would close its channel first, and the client would take the request for refused. But the thread
    that answers also reads, one packet at a time: when it reads again, it has answered.
    """

    def __init__(self, fileno: int, login: Login, commands: Commands) -> None:
        super().__init__(fileno=fileno)
        self._login, self._commands = login, commands

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As socket.recv."""
        while not self._login.requests.empty():
            request = self._login.requests.get()
            threading.Thread(target=self._commands.run, args=request, daemon=True).start()
        return super().recv(bufsize, flags)


def main() -> int:
    """Serve stdin until the connection ends."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    commands = Commands(
        {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/",
            "SHELL": "/bin/sh",
            "USER": config["user"],
            "LOGNAME": config["user"],
        }
    )
    login = Login(config["user"], base64.b64decode(config["authorized_key"]))
    with Link(0, login, commands) as link:
        transport = paramiko.Transport(link)
        transport.add_server_key(paramiko.Ed25519Key(filename=config["host_key"]))
        try:
            transport.start_server(event=threading.Event(), server=login)
            deadline = time.monotonic() + LOGIN_WITHIN
            channels = []  # paramiko closes a channel that nobody holds
            while transport.is_active() and (transport.is_authenticated() or time.monotonic() < deadline):
                channels.append(transport.accept(timeout=1.0))
        finally:
            commands.end()
            transport.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

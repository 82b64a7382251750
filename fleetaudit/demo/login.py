"""Proof that a demo host lets the orchestrator in: one login and one command, before anybody relies on it."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import paramiko

from fleetaudit.demo.plan import DemoError

_WITHIN = 20.0  # seconds for all of it


def prove_login(name: str, address: tuple[str, int], user: str, key: Path, host_key: str) -> None:
    """Log in to the host and run `true`. Raises DemoError when any of it fails or takes too long."""
    try:
        with socket.create_connection(address, timeout=_WITHIN) as sock:
            # paramiko has phases without a timeout; with its socket shut down every one of them ends.
            watchdog = threading.Timer(_WITHIN, _hang_up, [sock])
            watchdog.start()
            try:
                status = _run_true(sock, user, key, host_key)
            finally:
                watchdog.cancel()
                _hang_up(sock)
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise DemoError(f"{name}: its SSH server refused: {error}") from error
    if status != 0:
        raise DemoError(f"{name}: its SSH server let us in, but could not run a command ({status})")


def _run_true(sock: socket.socket, user: str, key: Path, host_key: str) -> int:
    transport = paramiko.Transport(sock)
    try:
        transport.start_client(timeout=_WITHIN)
        if transport.get_remote_server_key().get_base64() != host_key:
            raise paramiko.SSHException("its host key is not its own")
        transport.auth_publickey(user, paramiko.Ed25519Key(filename=str(key)))
        with transport.open_session(timeout=_WITHIN) as channel:
            channel.exec_command("true")
            return channel.recv_exit_status()
    finally:
        transport.close()


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

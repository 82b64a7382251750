"""The embedded server's parts within this process, for what a real command is too slow to show."""

from __future__ import annotations

import base64
import socket
import threading
from pathlib import Path

import paramiko

from fleetaudit.demo.embedded import Commands, Link, Login
from fleetaudit.demo.keys import KeyPair, write_private


class Instant(Commands):
    """Commands that have ended as soon as they begin."""

    def run(self, channel: paramiko.Channel, command: str) -> None:
        channel.send_exit_status(int(command))
        channel.close()


def _key(path: Path, pair: KeyPair) -> paramiko.Ed25519Key:
    write_private(path, pair.private)
    return paramiko.Ed25519Key(filename=str(path))


def test_a_command_that_ends_at_once_does_not_overtake_its_own_reply(tmp_path: Path) -> None:
    host, user = KeyPair.generate(), KeyPair.generate()
    ours, theirs = socket.socketpair()
    login = Login("root", base64.b64decode(user.blob))
    server = paramiko.Transport(Link(theirs.detach(), login, Instant({})))
    server.add_server_key(_key(tmp_path / "host", host))
    server.start_server(event=threading.Event(), server=login)
    client = paramiko.Transport(ours)
    held = []
    try:
        client.start_client(timeout=20)
        client.auth_publickey("root", _key(tmp_path / "user", user))
        for status in range(50):
            channel = client.open_session(timeout=20)
            held.append(server.accept(20))
            channel.exec_command(str(status))
            assert channel.recv_exit_status() == status
    finally:
        client.close()
        server.close()


def test_keys_are_shown_without_their_private_half() -> None:
    pair = KeyPair.generate()
    assert repr(pair) == f"KeyPair({pair.public})"
    assert pair.blob == pair.public.split()[1]

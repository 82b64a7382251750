"""Servers that stall: one for every phase in which paramiko alone waits long or for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import paramiko
from paramiko.packet import Packetizer

from tests.transport import embedded as ssh_server
from tests.transport.embedded import Login, serve, stalls_on

BANNER = b"SSH-2.0-stall\r\n"


class Stalls:
    """Ways to answer a connection that never come to an end."""

    def __init__(self, host_key: paramiko.PKey) -> None:
        self.host_key = host_key
        self.released = threading.Event()

    def repeat(self, connection: socket.socket, data: bytes, seconds: float) -> None:
        while not self.released.wait(seconds):
            connection.sendall(data)

    def say_once(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.released.wait(30)

    def speak(self, connection: socket.socket, login: Login, packets: type[Packetizer] = Packetizer) -> None:
        serve(connection, login, self.host_key, packets)

    def on(self, kind: int) -> Callable[[socket.socket], None]:
        return lambda connection: self.speak(connection, Login(), stalls_on(kind, self.released))


@dataclass
class Mute(Login):
    """Runs a command that is silent, trickles, reads nothing, or comes to no end of one kind or another."""

    stalls: Stalls
    how: str

    def __post_init__(self) -> None:
        Login.__init__(self)

    def execute(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if self.how == "eof":
                channel.sendall(b"all of it")
                channel.shutdown_write()
            elif self.how == "status":
                channel.sendall(b"all of it")
                channel.send_exit_status(0)
            while not self.stalls.released.wait(0.2):
                if self.how == "trickle":
                    channel.sendall(b".")


def ways(stalls: Stalls) -> dict[str, Callable[[socket.socket], None]]:
    """Every phase in which paramiko alone waits long or for ever."""
    return {
        "no banner": lambda connection: stalls.say_once(connection, b""),
        "endless lines before the banner": lambda connection: stalls.repeat(connection, b"hello\r\n", 0.3),
        "endless bytes before the banner": lambda connection: stalls.repeat(connection, b"x", 0.1),
        "no key exchange": lambda connection: stalls.say_once(connection, BANNER),
        "half a packet": lambda connection: stalls.say_once(connection, BANNER + b"\0\0\2\0\4\x14"),
        "mid key exchange": stalls.on(ssh_server.KEX_REPLY),
        "service": stalls.on(ssh_server.SERVICE_REQUEST),
        "login": stalls.on(ssh_server.AUTH_REQUEST),
        "channel": stalls.on(ssh_server.CHANNEL_OPEN),
        "command": stalls.on(ssh_server.CHANNEL_REQUEST),
        "no output": lambda connection: stalls.speak(connection, Mute(stalls, "silent")),
        "trickle": lambda connection: stalls.speak(connection, Mute(stalls, "trickle")),
        "no exit status": lambda connection: stalls.speak(connection, Mute(stalls, "eof")),
        "a status and no end": lambda connection: stalls.speak(connection, Mute(stalls, "status")),
    }

"""An SSH server inside the test process, for what OpenSSH cannot be made to do: stall, take passwords."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.packet import Packetizer

from tests.conftest import make_key

SERVICE_REQUEST, KEX_REPLY, AUTH_REQUEST, CHANNEL_OPEN, CHANNEL_REQUEST = 5, 30, 50, 90, 98


class EmbeddedServer:
    """Accepts on a free loopback port; `serve` handles each connection in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.stopping = threading.Event()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._handle, args=(connection,)))
            self._threads[-1].start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._serve(connection)

    def stop(self) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)


class Login(paramiko.ServerInterface):
    """Takes any key, or one password; remembers what it was sent. `answer` is any command's output."""

    def __init__(self, methods: str = "publickey", password: str = "", answer: bytes = b"done") -> None:
        self.methods = methods
        self.password = password
        self.answer = answer
        self.passwords: list[str] = []
        self.key_counted = False

    def get_allowed_auths(self, username: str) -> str:
        return self.methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if "publickey" not in self.methods:
            return AUTH_FAILED
        if "password" in self.methods:
            self.key_counted = True
            self.methods = "password"
            return AUTH_PARTIALLY_SUCCESSFUL
        return AUTH_SUCCESSFUL

    def check_auth_password(self, username: str, password: str) -> int:
        self.passwords.append(password)
        right = "password" in self.methods and password == self.password
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def check_auth_interactive(
        self, username: str, submethods: str
    ) -> int | paramiko.server.InteractiveQuery:
        if "keyboard-interactive" not in self.methods:
            return AUTH_FAILED
        return paramiko.server.InteractiveQuery("", "", ("Password: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.passwords += responses
        return AUTH_SUCCESSFUL if responses == [self.password] else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.execute, args=(channel,)).start()
        return True

    def execute(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError, EOFError):
            # Ends after the reply to `exec`, which must not come behind our answer: at the end of the agent.
            while (data := channel.recv(4096)) and not data.endswith(b"\n#\n"):
                pass
            channel.sendall(self.answer)
            channel.send_exit_status(0)
            channel.close()


def serve(
    connection: socket.socket, login: Login, host_key: paramiko.PKey, packets: type[Packetizer] = Packetizer
) -> None:
    """Speak SSH on the connection until it ends."""
    session = paramiko.Transport(connection, packetizer_class=packets)
    session.add_server_key(host_key)
    session.start_server(server=login)
    session.join()


def stalls_on(kind: int, released: threading.Event) -> type[Packetizer]:
    """Packets of a server that goes silent for good once it has read a message of this kind."""

    class Stalling(Packetizer):
        def read_message(self) -> tuple[int, paramiko.Message]:
            found, message = super().read_message()
            if found == kind:
                released.wait(30)
            return found, message

    return Stalling


@contextlib.contextmanager
def embedded(handle: Callable[[socket.socket], None]) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(handle)
    try:
        yield server
    finally:
        server.stop()


def new_host_key(directory: Path) -> paramiko.PKey:
    path = directory / "embedded_host_key"
    make_key(path)
    return paramiko.PKey.from_path(path)

"""The hosts that are measured: processes, descriptors and sockets, built inside fresh namespaces.

Runs as process 1 of its own pid, network and mount namespace: all of a load is gone when that process ends.
Imports little, because a measured program's peak memory is never below that of the process that forked it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

CONNECTIONS_A_PROCESS = 500
LISTENERS_A_NAMESPACE = 5
NEIGHBOURS = 39_000
_LIFETIME = "3600"  # seconds; what a load's processes do is sleep
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h


class Scene(NamedTuple):
    """One host. `owners` of the processes hold a listener each; a connection is two established sockets.

    `neighbours` are connections of another container on the same kernel: nobody here sees them, but ss walks
    over them, for the kernel has one table of connections.
    """

    processes: int
    fds: int
    listeners: int
    owners: int
    connections: int = 0
    namespaces: int = 0
    neighbours: int = NEIGHBOURS

    def holdings(self) -> int:
        """Pairs of a listening socket and a process that holds it."""
        return self.owners + LISTENERS_A_NAMESPACE * self.namespaces

    def shrunk(self) -> Scene:
        """A twentieth of it, to try the benchmark itself."""
        listeners = max(1, self.listeners // 20)
        return Scene(
            max(5, self.processes // 20),
            self.fds,
            listeners,
            max(listeners, self.owners // 20),
            self.connections // 20,
            min(2, self.namespaces),
            self.neighbours // 20,
        )

    def neighbour(self) -> Scene:
        """The other container."""
        return Scene(processes=4, fds=2, listeners=4, owners=4, connections=self.neighbours, neighbours=0)


SCENES = {
    "idle": Scene(processes=60, fds=10, listeners=12, owners=20, neighbours=0),
    "quiet": Scene(processes=60, fds=10, listeners=12, owners=20),
    "busy": Scene(processes=2000, fds=50, listeners=20, owners=100),
    "owners": Scene(processes=2000, fds=50, listeners=100, owners=1500),
    "established": Scene(processes=60, fds=10, listeners=2, owners=2, connections=25_000),
    "namespaces": Scene(processes=60, fds=10, listeners=12, owners=20, namespaces=20),
    "mixed": Scene(processes=1000, fds=50, listeners=20, owners=200, connections=13_000, namespaces=20),
}


def build(scene: Scene) -> list[int]:
    """Start the processes of a scene; returns one process of each further network namespace.

    Raises RuntimeError with the words of the process that failed.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, hard)))
    raise_loopback()
    listeners = [_listen("127.0.0.1") for _ in range(scene.listeners)]
    news, tell = os.pipe()  # closed by exec(3): its end says that all are what they will be
    for number in range(scene.processes):
        held = listeners[number % scene.listeners] if number < scene.owners else None
        _start(tell, partial(_occupy, scene.fds, held))
    for number in range(-(-scene.connections // CONNECTIONS_A_PROCESS)):
        count = min(CONNECTIONS_A_PROCESS, scene.connections - number * CONNECTIONS_A_PROCESS)
        server = listeners[number % scene.listeners]
        _start(tell, partial(_connect, server, count))
    spaces = [_start(tell, _live_apart) for _ in range(scene.namespaces)]
    os.close(tell)
    trouble = os.read(news, 1000)
    if trouble:
        raise RuntimeError(trouble.decode())
    os.close(news)
    for listener in listeners:
        listener.close()
    return spaces


def _start(tell: int, prepare: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        prepare()
        os.execvp("sleep", ["sleep", _LIFETIME])
    except BaseException as error:  # in a fork nothing may unwind into the parent's code
        os.write(tell, f"{type(error).__name__}: {error}\n".encode())
    os._exit(1)


def _occupy(fds: int, held: socket.socket | None) -> None:
    """Two fifths of the descriptors are sockets, the others pipes; `held` comes on top."""
    for place in range(fds // 2):
        pair = socket.socketpair() if place % 5 < 2 else None
        for fd in [end.detach() for end in pair] if pair else os.pipe():
            os.set_inheritable(fd, True)
    if held:
        held.set_inheritable(True)


def _connect(server: socket.socket, count: int) -> None:
    """Both ends of `count` connections. Others accept from the same queue, which comes out even."""
    for _ in range(count):
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        for end in (near, far):
            os.set_inheritable(end.detach(), True)


def _live_apart() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    for _ in range(LISTENERS_A_NAMESPACE):
        os.set_inheritable(_listen("0.0.0.0").detach(), True)


def _listen(address: str) -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen(1024)
    return listener


def raise_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))

"""Hosts that stall, flood or break off, as a whole collection meets them: real sockets, one slot."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from fleetaudit.agent.launch import AgentConversation, read_frame
from fleetaudit.collection import Agent, Collected, Collection, CollectOptions
from fleetaudit.events import Observer
from fleetaudit.model import Host, HostStatus
from fleetaudit.transport import HostKeyChecking, SshOptions, Transports
from tests import running
from tests.conftest import make_key
from tests.transport.embedded import Login, embedded, new_host_key, serve
from tests.transport.stalling import Stalls, ways

DEADLINE = 2.5
SNAPSHOT = {
    "schema": "fleetaudit.snapshot/1",
    "host": {"name": "x"},
    "coverage": {"complete": True, "gaps": []},
    "network_namespaces": [],
    "sockets": [],
    "processes": {},
}
# The nonce is the command, so that a server of ours can frame its answer.
AGENT = Agent(
    lambda host, nonce: nonce,
    lambda host, nonce: AgentConversation(host, nonce, b"agent" * 1000, max_output=200_000),
    read_frame,
)


def frame(nonce: str) -> bytes:
    body = json.dumps(SNAPSHOT).encode()
    head = f"\nFLEETAUDIT-BEGIN {nonce} {len(body)} {hashlib.sha256(body).hexdigest()}\n"
    return head.encode() + body + f"\nFLEETAUDIT-END {nonce}\n".encode()


class Framing(Login):
    """Answers as the agent would; `then` ends the command, or does not."""

    def __init__(self, then: Callable[[paramiko.Channel, bytes], None]) -> None:
        super().__init__()
        self._then = then
        self._nonce = ""

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._nonce = command.decode()
        return super().check_channel_exec_request(channel, command)

    def execute(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while channel.recv(4096):
                pass
            self._then(channel, frame(self._nonce))


def ends_well(channel: paramiko.Channel, answer: bytes) -> None:
    channel.sendall(answer)
    channel.send_exit_status(0)
    channel.close()


def never_closes(channel: paramiko.Channel, answer: bytes) -> None:
    channel.sendall(answer)
    channel.send_exit_status(0)
    channel.shutdown_write()


def breaks_off_midway(channel: paramiko.Channel, answer: bytes) -> None:
    channel.sendall(answer[: len(answer) // 2])
    channel.get_transport().sock.shutdown(socket.SHUT_RDWR)


def breaks_off_before_the_status(channel: paramiko.Channel, answer: bytes) -> None:
    channel.sendall(answer)
    channel.get_transport().sock.shutdown(socket.SHUT_RDWR)


def closes_without_status(channel: paramiko.Channel, answer: bytes) -> None:
    channel.sendall(answer)
    channel.close()


def floods(channel: paramiko.Channel, answer: bytes) -> None:
    for _ in range(1000):
        channel.sendall(b"x" * 10_000)


def floods_stderr(channel: paramiko.Channel, answer: bytes) -> None:
    for _ in range(1000):
        channel.sendall_stderr(b"x" * 10_000)


class Seconds(Observer):
    """How long each host took, by the collection's own clock."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    def host_finished(self, host: str, status: HostStatus, detail: str, seconds: float) -> None:
        self.taken[host] = seconds


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    threads = running.threads()
    descriptors = set(Path("/proc/self/fd").iterdir())
    yield
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


@pytest.fixture
def host_key(tmp_path: Path) -> paramiko.PKey:
    make_key(tmp_path / "login")
    return new_host_key(tmp_path)


def collect(tmp_path: Path, ports: dict[str, int]) -> tuple[dict[str, Collected], dict[str, float]]:
    """Ask the hosts one at a time, in this order."""
    ssh = SshOptions(host_key_checking=HostKeyChecking.OFF, keys=(str(tmp_path / "login"),), use_agent=False)
    seconds = Seconds()
    targets = [Host(name, "127.0.0.1", port, user="u") for name, port in ports.items()]
    with (
        Transports(ssh) as transports,
        Collection(
            targets,
            transports,
            AGENT,
            new_nonce=lambda: "0123456789abcdef",
            options=CollectOptions(forks=1, deadline=DEADLINE, retries=1),
            observer=seconds,
        ) as running,
    ):
        found = {item.outcome.host: item for item in running}
    return found, seconds.taken


def test_a_host_that_stalls_is_a_timeout_and_its_slot_is_free_again(
    tmp_path: Path, host_key: paramiko.PKey
) -> None:
    stalls = Stalls(host_key)
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(embedded(lambda link: serve(link, Framing(ends_well), host_key)))
        servers = {name: stack.enter_context(embedded(handle)) for name, handle in ways(stalls).items()}
        stack.callback(stalls.released.set)
        pool = stack.enter_context(ThreadPoolExecutor(len(servers)))
        runs = {
            name: pool.submit(collect, tmp_path, {"stalls": server.port, "next": good.port})
            for name, server in servers.items()
        }
        results = {name: run.result(timeout=60) for name, run in runs.items()}
    found = {
        name: [(item.outcome.status.value, item.outcome.detail) for item in items.values()]
        for name, (items, _) in results.items()
    }
    late = ("timeout", "no complete answer within the deadline")
    assert found == {name: [late, ("ok", "")] for name in servers}
    assert {name: taken for name, (_, taken) in results.items() if taken["stalls"] > DEADLINE + 1} == {}


@pytest.mark.parametrize("then", [ends_well, never_closes])
def test_an_answer_with_its_end_is_an_answer_whoever_closes(
    tmp_path: Path, host_key: paramiko.PKey, then: Callable[[paramiko.Channel, bytes], None]
) -> None:
    with embedded(lambda link: serve(link, Framing(then), host_key)) as server:
        found, _ = collect(tmp_path, {"h": server.port})
    assert (found["h"].outcome.status, found["h"].outcome.detail) == (HostStatus.OK, "")


@pytest.mark.parametrize("then", [breaks_off_midway, breaks_off_before_the_status, closes_without_status])
def test_a_link_lost_midway_is_a_failure_and_never_a_short_result(
    tmp_path: Path, host_key: paramiko.PKey, then: Callable[[paramiko.Channel, bytes], None]
) -> None:
    connections: list[socket.socket] = []

    def handle(link: socket.socket) -> None:
        connections.append(link)
        serve(link, Framing(then), host_key)

    with embedded(handle) as server:
        found, _ = collect(tmp_path, {"h": server.port})
    assert found["h"].outcome.status is HostStatus.UNREACHABLE
    assert found["h"].outcome.snapshot is None
    assert "lost" in found["h"].outcome.detail or "closed" in found["h"].outcome.detail
    assert len(connections) == 2  # a lost link is tried again


@pytest.mark.parametrize("then", [floods, floods_stderr])
def test_output_above_the_cap_is_bad_output(
    tmp_path: Path, host_key: paramiko.PKey, then: Callable[[paramiko.Channel, bytes], None]
) -> None:
    with embedded(lambda link: serve(link, Framing(then), host_key)) as server:
        found, taken = collect(tmp_path, {"h": server.port})
    assert found["h"].outcome.status is HostStatus.BAD_OUTPUT
    assert found["h"].outcome.detail.startswith("more than ")
    assert taken["h"] < DEADLINE

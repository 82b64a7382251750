"""A host may stall in any phase: the deadline ends it, and nothing is left behind."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paramiko.buffered_pipe import BufferedPipe

from fleetaudit.errors import ConnectError, DeadlineError, HostError
from fleetaudit.model import Host
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.ssh import SshTransport, _Bell
from fleetaudit.transport.watchdog import Watchdog
from tests import running
from tests.conftest import make_key
from tests.transport.conversations import Send
from tests.transport.embedded import embedded, new_host_key
from tests.transport.stalling import BANNER, Stalls, ways


def transport_without_checks(directory: Path, timeout: float = 10.0) -> SshTransport:
    make_key(directory / "login")
    return SshTransport(
        SshOptions(
            host_key_checking=HostKeyChecking.OFF,
            keys=(str(directory / "login"),),
            use_agent=False,
            connect_timeout=timeout,
        )
    )


def attempt(ssh: SshTransport, port: int, deadline: float) -> tuple[HostError | None, float]:
    try:
        # More than a window: what reads nothing must not hold us while we send, either.
        ssh.run(Host("h", "127.0.0.1", port, user="u"), "x", Send(b"x" * 3_000_000), deadline)
    except HostError as error:
        return error, time.monotonic()
    return None, time.monotonic()


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_every_phase_ends_in_time_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    threads = running.threads()
    descriptors = set(Path("/proc/self/fd").iterdir())
    stalls = Stalls(new_host_key(tmp_path))
    ssh = transport_without_checks(tmp_path)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(embedded(handle)) for name, handle in ways(stalls).items()}
        stack.callback(stalls.released.set)
        pool = stack.enter_context(ThreadPoolExecutor(len(servers)))
        end = time.monotonic() + 2
        deadline = end if how == "deadline" else end + 30
        attempts = {
            name: pool.submit(attempt, ssh, server.port, deadline) for name, server in servers.items()
        }
        if how == "cancel":
            time.sleep(end - time.monotonic())  # the moment matters, not what has happened by then
            ssh.cancel()
        outcomes = {name: future.result(timeout=20) for name, future in attempts.items()}
        ssh.close()
    expected = "DeadlineError: no complete answer within the deadline"
    if how == "cancel":
        expected = "ConnectError: cancelled"
    errors = {name: f"{type(error).__name__}: {error}" for name, (error, _) in outcomes.items()}
    assert errors == dict.fromkeys(servers, expected)
    assert {name: ended - end for name, (_, ended) in outcomes.items() if not 0 <= ended - end < 1} == {}
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


@pytest.mark.parametrize(("timeout", "kind"), [(10.0, DeadlineError), (0.5, ConnectError)])
def test_an_address_that_swallows_connections(tmp_path: Path, timeout: float, kind: type[HostError]) -> None:
    """A full backlog on loopback behaves like a packet filter that drops."""
    transport = transport_without_checks(tmp_path, timeout)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        began = time.monotonic()
        error, ended = attempt(transport, listener.getsockname()[1], began + 1)
        transport.close()
    assert isinstance(error, kind)
    assert ended - began < 2


def test_a_stuck_resolver_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stuck(*_: object, **__: object) -> list[object]:
        released.wait(20)
        return []

    # The one thing a test cannot make hang for real: the C library's resolver.
    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    transport = transport_without_checks(tmp_path)
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        transport.run(Host("h", "name.invalid", user="u"), "x", Send(), began + 0.5)
    assert time.monotonic() - began < 1.5
    transport.close()
    released.set()


@pytest.mark.parametrize(("how", "kind"), [("deadline", DeadlineError), ("cancel", ConnectError)])
def test_a_stuck_ssh_agent_does_not_hold_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, kind: type[HostError]
) -> None:
    path = str(tmp_path / "agent")
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(4)
        transport = SshTransport(SshOptions())
        began = time.monotonic()
        timer = threading.Timer(0.5, transport.cancel)
        if how == "cancel":
            timer.start()
        error, ended = attempt(transport, 9, began + (0.5 if how == "deadline" else 20))
        transport.close()
        timer.cancel()
    assert isinstance(error, kind)
    assert ended - began < 1.5


def test_emptying_one_output_does_not_silence_the_other() -> None:
    bell = _Bell()
    stdout: BufferedPipe[bytes] = BufferedPipe()
    stderr: BufferedPipe[bytes] = BufferedPipe()
    stdout.set_event(bell)
    stderr.set_event(bell)
    stdout.feed(b"a")
    stderr.feed(b"b")
    assert stdout.read(10) == b"a"
    assert bell.is_set()
    bell.answer()
    assert not bell.is_set()
    stderr.close()
    assert bell.is_set()


def test_every_lease_ends_at_its_deadline_whatever_the_order_they_were_made_in() -> None:
    watchdog = Watchdog()
    ended: dict[int, float] = {}
    everything = threading.Event()
    began = time.monotonic()

    def note(number: int) -> Callable[[], None]:
        def ring() -> None:
            ended[number] = time.monotonic() - began
            if len(ended) == 4:
                everything.set()

        return ring

    with contextlib.ExitStack() as stack:
        for number in (3, 1, 4, 2):
            stack.enter_context(watchdog.lease(began + number / 2)).attach(note(number))
            time.sleep(0.05)  # lets the thread fall asleep until the deadline it knows
        with watchdog.lease(began + 0.4) as released:
            released.attach(note(0))
        assert everything.wait(10)
    watchdog.close()
    assert sorted(ended) == [1, 2, 3, 4]
    assert {number: at for number, at in ended.items() if not 0 <= at - number / 2 < 0.4} == {}


def test_what_is_attached_to_an_ended_lease_is_hung_up_on_at_once() -> None:
    watchdog = Watchdog()
    hung_up: list[str] = []
    with watchdog.lease(time.monotonic() + 20) as lease:
        lease.attach(lambda: hung_up.append("early"))
        watchdog.cancel()
        watchdog.cancel()
        lease.attach(lambda: hung_up.append("late"))
        with pytest.raises(ConnectError):
            lease.remaining()
    watchdog.close()
    assert hung_up == ["early", "late"]
    with pytest.raises(ConnectError), watchdog.lease(time.monotonic() + 20):
        pass


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.booleans())
def test_no_garbage_is_more_than_a_failed_host(tmp_path: Path, garbage: bytes, framed: bool) -> None:
    """Whatever a host sends before it has proved itself, it is a HostError and it ends in time."""
    if framed:  # a packet of plausible size, so that the message parsers are reached
        padding = 8 - (len(garbage) + 5) % 8 + 8
        size = struct.pack(">IB", len(garbage) + 1 + padding, padding)
        garbage = size + garbage + bytes(padding)
    key = tmp_path / "login"
    if not key.exists():
        make_key(key)
    ssh = SshTransport(SshOptions(keys=(str(key),), use_agent=False, host_key_checking=HostKeyChecking.OFF))

    def handle(connection: socket.socket) -> None:
        connection.sendall(BANNER + garbage)
        connection.close()

    with embedded(handle) as server:
        error, _ = attempt(ssh, server.port, time.monotonic() + 5)
    ssh.close()
    assert isinstance(error, ConnectError)

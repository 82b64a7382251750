"""Jump hosts and proxy commands, through real OpenSSH servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import AuthError, ConnectError, DeadlineError, HostError, HostKeyError
from fleetaudit.model import Become, Host, Jump, Secret
from fleetaudit.transport import jumps as jumps_module
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests import running
from tests.conftest import Sshd, free_port, make_key, processes, running_sshd
from tests.transport.conversations import ASKING, Dialogue, Send, Silent
from tests.transport.embedded import Login, embedded, new_host_key, serve

WaitUntil = Callable[[Callable[[], bool], str], None]


@dataclass
class Way:
    """A target and jump hosts in front of it, which one key opens and whose keys are on record."""

    target: Sshd
    before: list[Sshd]
    known_hosts: str

    def host(self, hops: int = 1, **changes: Any) -> Host:
        jumps = tuple(Jump(sshd.address, sshd.port) for sshd in self.before[:hops])
        return replace(self.target.host(), jumps=jumps, **changes)

    def logins(self, number: int = 0) -> int:
        return (self.before[number].directory / "log").read_text().count("Accepted publickey")


@contextlib.contextmanager
def way_of(directory: Path, hops: int, *settings: str) -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        sshds = []
        for number in range(hops + 1):
            (directory / str(number)).mkdir()
            extra = settings if number else ()
            sshds.append(
                stack.enter_context(running_sshd(directory / str(number), "LogLevel VERBOSE", *extra))
            )
        target, *before = sshds
        for sshd in before:
            (sshd.directory / "authorized").write_text((target.directory / "authorized").read_text())
        known_hosts = directory / "known_hosts"
        known_hosts.write_text("".join(Path(sshd.known_hosts).read_text() for sshd in sshds))
        yield Way(target, before, str(known_hosts))


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    with way_of(tmp_path, 1) as it:
        yield it


@contextlib.contextmanager
def transport(known_hosts: str, **options: Any) -> Iterator[SshTransport]:
    ssh = SshTransport(SshOptions(known_hosts=(known_hosts,), use_agent=False, **options))
    try:
        yield ssh
    finally:
        ssh.close()


def run(
    way: Way, host: Host, command: str = "true", talk: Conversation | None = None, **options: Any
) -> Reply:
    with transport(options.pop("known_hosts", way.known_hosts), **options) as ssh:
        return ssh.run(host, command, talk or Send(), time.monotonic() + 20)


def children() -> set[str]:
    """Processes that this one started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test did: no thread, descriptor or child process is left behind."""
    threads, descriptors = running.threads(), set(Path("/proc/self/fd").iterdir())
    before = children()
    yield
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors
    if not {"way", "sshd"} & set(request.fixturenames):
        assert children() <= before


# ---------------------------------------------------------------- through jump hosts


def test_a_chain_of_three(tmp_path: Path) -> None:
    with way_of(tmp_path, 3) as way:
        for hops in (1, 2, 3):
            reply = run(way, way.host(hops), ASKING, Dialogue())
            assert reply == Reply(7, b"got 0\ngot 1\ngot 2\ngot 3\n", b"ask 0\nask 1\nask 2\nask 3\n")
        seen = run(way, way.host(3), "echo $SSH_CONNECTION").stdout.split()
        assert seen[3] == str(way.target.port).encode()


def test_large_data_both_ways(way: Way) -> None:
    data = os.urandom(6 << 20)
    reply = run(way, way.host(), "tee /dev/stderr", Send(data))
    assert reply == Reply(0, data, data)


def test_many_hosts_share_one_connection_whatever_the_limits_of_the_jump_host(tmp_path: Path) -> None:
    with way_of(tmp_path, 1, "MaxSessions 1", "MaxStartups 1") as way, transport(way.known_hosts) as ssh:

        def ask(number: int) -> Reply:
            return ssh.run(way.host(name=f"h{number}"), f"echo {number}", Send(), time.monotonic() + 30)

        with ThreadPoolExecutor(30) as pool:
            replies = list(pool.map(ask, range(60)))
        assert replies == [Reply(0, b"%d\n" % number, b"") for number in range(60)]
        assert way.logins() == 1


class FewChannels(Login):
    """A jump host with room for two connections at a time, which forwards to `port`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.inside = 0
        self.most = 0
        self.refusals = 0
        self.lock = threading.Lock()
        self.sessions: list[paramiko.Transport] = []
        self.forwarders: list[threading.Thread] = []

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        with self.lock:
            if self.inside >= 2:
                self.refusals += 1
                return paramiko.common.OPEN_FAILED_RESOURCE_SHORTAGE
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.forwarders.append(threading.Thread(target=self.forward))
        self.forwarders[-1].start()
        return paramiko.common.OPEN_SUCCEEDED

    def forward(self) -> None:
        # Two that wait at once can take each other's turn: one of them then gets None.
        channel = next(filter(None, (self.sessions[0].accept(0.2) for _ in range(50))))
        with socket.create_connection(("127.0.0.1", self.port)) as onward:

            def back() -> None:
                with contextlib.suppress(OSError, EOFError):
                    while data := onward.recv(65536):
                        channel.sendall(data)

            other = threading.Thread(target=back)
            other.start()
            with contextlib.suppress(OSError, EOFError):
                while data := channel.recv(65536):
                    onward.sendall(data)
            with contextlib.suppress(OSError):
                onward.shutdown(socket.SHUT_RDWR)
            other.join()
        with self.lock:
            self.inside -= 1
        with contextlib.suppress(EOFError):  # the connection below it may be gone already
            channel.close()


def test_a_jump_host_without_room_is_waited_for(sshd: Sshd, tmp_path: Path) -> None:
    jump = FewChannels(sshd.port)
    host_key = new_host_key(tmp_path)

    def handle(connection: socket.socket) -> None:
        session = paramiko.Transport(connection)
        jump.sessions.append(session)
        session.add_server_key(host_key)
        session.start_server(server=jump)
        session.join()

    with embedded(handle) as server:
        known_hosts = tmp_path / "known"
        line = f"[127.0.0.1]:{server.port} {host_key.get_name()} {host_key.get_base64()}\n"
        known_hosts.write_text(line + Path(sshd.known_hosts).read_text())
        host = replace(sshd.host(), jumps=(Jump("127.0.0.1", server.port),))
        with transport(str(known_hosts)) as ssh, ThreadPoolExecutor(8) as pool:
            work = [
                pool.submit(ssh.run, host, "sleep 0.1; echo x", Send(), time.monotonic() + 30)
                for _ in range(8)
            ]
            assert [one.result().stdout for one in work] == [b"x\n"] * 8
    for forwarder in jump.forwarders:
        forwarder.join(10)
    assert jump.most == 2
    assert jump.refusals > 0


# ---------------------------------------------------------------- jump hosts that fail


def test_a_jump_host_that_is_down_is_named_and_tried_once_for_many(way: Way) -> None:
    port = free_port()
    host = replace(way.target.host(), jumps=(Jump("127.0.0.1", port),))
    message = rf"jump host 127.0.0.1 port {port}: cannot connect to .*refused"
    with transport(way.known_hosts) as ssh:
        for _ in range(3):
            with pytest.raises(ConnectError, match=message) as caught:
                ssh.run(host, "true", Send(), time.monotonic() + 5)
            assert caught.value.status == "unreachable"


def test_the_far_jump_host_of_two_is_the_one_named(tmp_path: Path) -> None:
    with way_of(tmp_path, 2) as way:
        port = free_port()
        host = way.host(1)
        host = replace(host, jumps=(*host.jumps, Jump("127.0.0.1", port)))
        message = f"^jump host 127.0.0.1 port {port}: cannot connect .* through jump host .*: Connect failed"
        with pytest.raises(ConnectError, match=message):
            run(way, host)
        host = replace(host, jumps=(Jump("127.0.0.1", port), way.host(1).jumps[0]))
        with pytest.raises(ConnectError, match=f"^jump host 127.0.0.1 port {port}: cannot connect"):
            run(way, host)


def test_a_target_that_is_down_is_no_fault_of_the_jump_host(way: Way) -> None:
    port = free_port()
    with transport(way.known_hosts) as ssh:
        with pytest.raises(ConnectError, match=rf"cannot connect to 127.0.0.1 port {port} through jump host"):
            ssh.run(way.host(port=port), "true", Send(), time.monotonic() + 5)
        assert ssh.run(way.host(), "echo x", Send(), time.monotonic() + 5).stdout == b"x\n"
    assert way.logins() == 1


def test_a_jump_host_that_does_not_forward(tmp_path: Path) -> None:
    with way_of(tmp_path, 1, "AllowTcpForwarding no") as way, pytest.raises(ConnectError, match="prohibited"):
        run(way, way.host())


@pytest.mark.parametrize("checking", [HostKeyChecking.STRICT, HostKeyChecking.ACCEPT_NEW])
def test_the_key_of_a_jump_host_counts_as_much_as_a_target_s(
    way: Way, tmp_path: Path, checking: HostKeyChecking
) -> None:
    other = make_key(tmp_path / "other").split()
    known_hosts = tmp_path / "changed"
    line = f"[127.0.0.1]:{way.before[0].port} {other[0]} {other[1]}\n"
    known_hosts.write_text(line + Path(way.target.known_hosts).read_text())
    with pytest.raises(ConnectError, match=r"^jump host .*has changed"):
        run(way, way.host(), known_hosts=str(known_hosts), host_key_checking=checking)
    assert way.logins() == 0


def test_an_unknown_key_of_the_target_is_found_behind_a_jump_host(way: Way) -> None:
    with pytest.raises(HostKeyError, match="not on record"):
        run(way, way.host(), known_hosts=way.before[0].known_hosts)


def test_a_jump_host_that_refuses_us_is_asked_once(way: Way) -> None:
    (way.before[0].directory / "authorized").write_text("")
    with transport(way.known_hosts) as ssh:
        for _ in range(3):
            with pytest.raises(ConnectError, match=r"^jump host .*: user .* was refused, tried"):
                ssh.run(way.host(), "true", Send(), time.monotonic() + 5)
    assert (way.before[0].directory / "log").read_text().count("Connection from") <= 2  # one is the fixture's


def test_no_password_is_ever_sent_to_a_jump_host(way: Way, tmp_path: Path) -> None:
    login = Login("password", "right")
    host_key = new_host_key(tmp_path)
    with embedded(lambda connection: serve(connection, login, host_key)) as server:
        known_hosts = tmp_path / "known"
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {host_key.get_name()} {host_key.get_base64()}\n")
        secret = Secret("right")
        host = way.host(password=secret, become=Become(password=secret))
        host = replace(host, jumps=(Jump("127.0.0.1", server.port),))
        with pytest.raises(ConnectError, match=r"^jump host"):
            run(way, host, known_hosts=str(known_hosts))
    assert login.passwords == []


def test_a_circle_is_one_clear_error(way: Way) -> None:
    jump = way.host().jumps[0]
    with pytest.raises(ConnectError, match=r"go in a circle: .* → .* → "):
        run(way, replace(way.host(), jumps=(jump, jump)))
    itself = Jump(way.target.address, way.target.port)
    with pytest.raises(ConnectError, match="go in a circle"):
        run(way, replace(way.host(), jumps=(itself,)))


def test_a_jump_host_that_dies_is_named_and_reached_again(tmp_path: Path, wait_until: WaitUntil) -> None:
    heard = threading.Event()
    with way_of(tmp_path, 1) as way, transport(way.known_hosts) as ssh, ThreadPoolExecutor(1) as pool:
        work = pool.submit(ssh.run, way.host(), "echo started; cat", Silent(heard.set), time.monotonic() + 20)
        assert heard.wait(10)
        log = (way.before[0].directory / "log").read_text()
        assert "Accepted publickey" in log
        for pid in sessions_of(way.before[0]):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectError, match=r"jump host .*: the connection was lost"):
            work.result(10)
        assert ssh.run(way.host(), "echo x", Send(), time.monotonic() + 10).stdout == b"x\n"
        assert way.logins() == 2


def sessions_of(sshd: Sshd) -> list[int]:
    """The processes that sshd serves its connections with."""
    (listening,) = [
        pid for pid in processes(str(sshd.directory / "config")) if f"{os.getpid()}" == parent_of(pid)
    ]
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(listening)], check=True, capture_output=True, text=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def parent_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]


# ---------------------------------------------------------------- cut off


@pytest.mark.parametrize("how", ["deadline", "cancel", "close"])
def test_a_run_through_a_jump_host_is_cut_off(way: Way, wait_until: WaitUntil, how: str) -> None:
    marker = f"jumped-{how}-{os.getpid()}"
    heard = threading.Event()
    failures: list[HostError] = []
    with transport(way.known_hosts) as ssh:

        def work() -> None:
            try:
                deadline = time.monotonic() + (1.5 if how == "deadline" else 20)
                ssh.run(way.host(), f"echo started; cat; : {marker}", Silent(heard.set), deadline)
            except HostError as error:
                failures.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        assert heard.wait(10)
        began = time.monotonic()
        if how != "deadline":
            getattr(ssh, how)()
        worker.join(10)
        assert time.monotonic() - began < 2.5
        assert not worker.is_alive()
        if how == "deadline":  # that of one host is not the others'
            assert ssh.run(way.host(), "echo x", Send(), time.monotonic() + 10).stdout == b"x\n"
            assert way.logins() == 1
    assert isinstance(failures[0], DeadlineError if how == "deadline" else ConnectError)
    wait_until(lambda: not processes(marker), "the remote command goes on")


def test_a_jump_host_that_says_nothing_costs_each_host_its_own_deadline_only(way: Way) -> None:
    stopped = threading.Event()

    def handle(connection: socket.socket) -> None:
        stopped.wait(20)

    with embedded(handle) as server, transport(way.known_hosts) as ssh, ThreadPoolExecutor(4) as pool:
        host = replace(way.target.host(), jumps=(Jump("127.0.0.1", server.port),))
        began = time.monotonic()
        work = [pool.submit(ssh.run, host, "x", Send(), began + 1 + number / 5) for number in range(4)]
        for number, one in enumerate(work):
            assert isinstance(one.exception(10), DeadlineError)
            assert time.monotonic() - began < 1.5 + number / 5
        stopped.set()


# ---------------------------------------------------------------- proxy commands


def forward(extra: str = "") -> str:
    """A proxy command that does what a jump host does."""
    return f"{extra}busybox nc %h %p"


def test_a_proxy_command_is_the_connection(sshd: Sshd) -> None:
    data = os.urandom(3 << 20)
    with transport(sshd.known_hosts) as ssh:
        host = replace(sshd.host(), proxy_command=forward())
        before = children()
        assert ssh.run(host, "cat", Send(data), time.monotonic() + 20) == Reply(0, data, b"")
        assert children() == before


def test_what_a_proxy_command_is_given(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    command = f"sh -c 'echo \"%n %h %p %r 100%%\" > {seen}; exec busybox nc %h %p'"
    for shell in ("/bin/bash", "/bin/sh"):
        monkeypatch.setenv("SHELL", shell)
        with transport(sshd.known_hosts) as ssh:
            host = replace(sshd.host(), proxy_command=command)
            assert ssh.run(host, "true", Send(), time.monotonic() + 20).exit_status == 0
        assert seen.read_text() == f"127.0.0.1 127.0.0.1 {sshd.port} {host.user} 100%\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proxy_command": "nc %h %x"}, "unknown token %x"),
        ({"proxy_command": "nc %h %"}, "unknown token %"),
        ({"address": "a;touch x", "proxy_command": "nc %h"}, "%h is 'a;touch x', which a shell may not be"),
        ({"address": "-oProxyCommand=x", "proxy_command": "ssh %h"}, "may not be given"),
        ({"user": "$(id)", "proxy_command": "ssh %r@%h"}, "%r is"),
        ({"proxy_command": "sh -c 'echo no such way >&2; exit 3'"}, "ended with exit status 3: no such way"),
        ({"proxy_command": "/no/such/program"}, "ended with exit status 127: .*/no/such/program"),
        ({"proxy_command": "sh -c 'kill -9 $$'"}, "ended with signal 9"),
        ({"proxy_command": "true"}, "the host closed the connection|SSH failed"),
    ],
)
def test_a_proxy_command_that_fails(sshd: Sshd, changes: dict[str, str], message: str) -> None:
    before = children()
    with transport(sshd.known_hosts) as ssh, pytest.raises(ConnectError, match=message):
        ssh.run(replace(sshd.host(), **changes), "true", Send(), time.monotonic() + 10)  # type: ignore[arg-type]
    assert children() == before


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_no_proxy_command_is_left_behind(sshd: Sshd, wait_until: WaitUntil, how: str) -> None:
    marker = f"proxy-{how}-{os.getpid()}"
    before = children()
    # It ignores what asks it to end, and has a child.
    command = f"sh -c 'trap \"\" TERM HUP; sleep 61 & sleep 62; : {marker}'"
    with transport(sshd.known_hosts) as ssh, ThreadPoolExecutor(1) as pool:
        deadline = time.monotonic() + (1 if how == "deadline" else 20)
        work = pool.submit(ssh.run, replace(sshd.host(), proxy_command=command), "x", Send(), deadline)
        wait_until(lambda: bool(processes(marker)), "the proxy command does not start")
        if how == "cancel":
            ssh.cancel()
        assert isinstance(work.exception(10), DeadlineError if how == "deadline" else ConnectError)
    assert children() == before
    assert not processes(marker)


def test_the_number_of_opens_at_once_is_bounded(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumps_module, "OPENS_AT_ONCE", 1)
    with transport(way.known_hosts) as ssh, ThreadPoolExecutor(10) as pool:
        work = [pool.submit(ssh.run, way.host(), "echo x", Send(), time.monotonic() + 20) for _ in range(10)]
        assert [one.result().stdout for one in work] == [b"x\n"] * 10


def test_who_jumps(way: Way, tmp_path: Path) -> None:
    host = replace(way.host(), jumps=(replace(way.host().jumps[0], user="no-such-user"),))
    with pytest.raises(ConnectError, match="user no-such-user was refused"):
        run(way, host)
    with pytest.raises(AuthError, match=r"private key .* does not exist"):
        run(way, way.host(private_key=str(tmp_path / "missing")))

"""The system's own ssh against real OpenSSH servers."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    DeadlineError,
    HostError,
    HostKeyError,
    OutputError,
    Place,
)
from fleetaudit.model import Become, Host, Jump, Secret
from fleetaudit.transport.openssh import OpenSshTransport, open_transport
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from tests import running
from tests.conftest import Sshd, free_port, make_key, processes, running_sshd
from tests.transport.conversations import ASKING, Dialogue, Limited, Send, Silent
from tests.transport.embedded import Login, embedded, new_host_key, serve
from tests.transport.stalling import Stalls, ways

WaitUntil = Callable[[Callable[[], bool], str], None]


@contextlib.contextmanager
def transport(known_hosts: str, **options: Any) -> Iterator[OpenSshTransport]:
    ssh = open_transport(SshOptions(known_hosts=(known_hosts,), **options))
    try:
        yield ssh
    finally:
        ssh.close()


def run(
    sshd: Sshd,
    host: Host,
    command: str = "true",
    conversation: Conversation | None = None,
    **options: Any,
) -> Reply:
    known_hosts = options.pop("known_hosts", sshd.known_hosts)
    with transport(known_hosts, **options) as ssh:
        return ssh.run(host, command, conversation or Send(), time.monotonic() + 20)


def children() -> set[str]:
    return {
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    }


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test did: no thread, process, descriptor or file is left behind."""
    spare = tmp_path / "temporary"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    before = running.threads(), set(Path("/proc/self/fd").iterdir()), children()
    yield
    assert running.threads() <= before[0]
    assert set(Path("/proc/self/fd").iterdir()) <= before[1]
    assert children() <= before[2]
    assert list(spare.iterdir()) == []


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """Writes an ssh_config and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "ssh_config"
        path.write_text(text)
        return str(path)

    return write


# ---------------------------------------------------------------- talking


def test_both_streams_and_the_exit_status(sshd: Sshd) -> None:
    reply = run(sshd, sshd.host(), "cat; echo oops >&2; exit 3", Send(b"hello"))
    assert reply == Reply(3, b"hello", b"oops\n")


def test_large_data_both_ways_at_once(sshd: Sshd) -> None:
    data = os.urandom(6 << 20)
    reply = run(sshd, sshd.host(), "tee /dev/stderr", Send(data))
    assert reply.exit_status == 0
    assert reply.stdout == reply.stderr == data


def test_a_dialogue_answers_what_it_hears(sshd: Sshd) -> None:
    reply = run(sshd, sshd.host(), ASKING, Dialogue())
    assert reply == Reply(7, b"got 0\ngot 1\ngot 2\ngot 3\n", b"ask 0\nask 1\nask 2\nask 3\n")


def test_an_error_of_the_conversation_ends_the_command(sshd: Sshd, wait_until: WaitUntil) -> None:
    marker = "limited-marker-2"
    with pytest.raises(OutputError, match="too much"):
        run(sshd, sshd.host(), f"while :; do echo {marker}; done", Limited())
    wait_until(lambda: not processes(marker), "the remote command goes on")


def test_a_killed_connection_is_never_a_whole_reply(sshd: Sshd) -> None:
    assert run(sshd, sshd.host(), "echo partial; sleep 0.2; kill -9 $PPID").exit_status == -1


def test_a_command_may_end_with_the_status_of_ssh_itself(sshd: Sshd) -> None:
    said = "echo 'Permission denied (publickey).' >&2; exit 255"
    assert run(sshd, sshd.host(), said) == Reply(255, b"", b"Permission denied (publickey).\n")


def test_an_ssh_that_is_killed_is_a_lost_link(sshd: Sshd, tmp_path: Path) -> None:
    def kill() -> None:
        for child in children():
            with contextlib.suppress(OSError):
                if b"echo-and-wait" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), 9)

    reply = run(sshd, sshd.host(), "echo part; : echo-and-wait; sleep 20", Silent(kill))
    assert reply == Reply(-1, b"part\n", b"")


# ---------------------------------------------------------------- what a configuration may and may not


def test_the_users_configuration_says_how_to_get_there(sshd: Sshd, config: Callable[[str], str]) -> None:
    file = config(f"""
Host web1
  HostName 127.0.0.1
  Port {sshd.port}
  IdentityFile {sshd.key}
  UserKnownHostsFile /nonexistent
""")
    host = Host("web1", "web1", user=getpass.getuser(), transport="openssh")
    assert run(sshd, host, "echo there", ssh_config=file).stdout == b"there\n"
    for elsewhere, configuration in ((host, None), (replace(host, port=22), file)):
        with pytest.raises(HostError):
            run(sshd, elsewhere, ssh_config=configuration)


def test_nothing_that_weakens_is_taken_from_a_configuration(
    sshd: Sshd, config: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    file = config(f"""
Host *
  ForwardAgent yes
  ForwardX11 yes
  RequestTTY force
  PermitLocalCommand yes
  LocalCommand touch {tmp_path}/local
  RemoteCommand touch {tmp_path}/remote
  LocalForward {free_port()} 127.0.0.1:1
  ControlMaster auto
  ControlPath {tmp_path}/master
  ControlPersist yes
  LogLevel QUIET
  StrictHostKeyChecking no
  NoHostAuthenticationForLocalhost yes
""")
    command = 'echo "${SSH_AUTH_SOCK-none} ${DISPLAY-none}"; test -t 1 || echo no terminal'
    assert run(sshd, sshd.host(), command, ssh_config=file).stdout == b"none none\nno terminal\n"
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(HostKeyError, match="verification failed"):
        run(sshd, sshd.host(), ssh_config=file, known_hosts=str(empty))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "ssh_config", "temporary"]
    assert empty.read_bytes() == b""


@pytest.fixture
def shared(start_sshd: Callable[..., Sshd], tmp_path: Path) -> Iterator[tuple[Sshd, Path, int]]:
    """A server, and the socket and process of a connection to it that is open already."""
    sshd = start_sshd("LogLevel VERBOSE")
    socket = tmp_path / "shared" / "master"
    socket.parent.mkdir(mode=0o755)
    arguments = ["-F", "none", "-S", str(socket), "-i", sshd.key, "-p", str(sshd.port)]
    arguments += ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "127.0.0.1"]
    master = subprocess.Popen(["ssh", "-M", "-N", *arguments], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        yield sshd, socket, master.pid
    finally:
        master.terminate()
        master.wait(10)


def logins(sshd: Sshd) -> int:
    return (sshd.directory / "log").read_text().count("Accepted publickey")


def test_a_connection_that_the_user_has_open_is_used_and_stays(
    shared: tuple[Sshd, Path, int], config: Callable[[str], str], tmp_path: Path
) -> None:
    sshd, socket, master = shared
    (tmp_path / "more").write_text(f"controlpath {socket}\n")
    file = config(f"Match host 127.0.0.1\n  Include {tmp_path}/more\n")
    command = "cat; echo oops >&2; exit 3"
    for _ in range(2):
        assert run(sshd, sshd.host(), command, Send(b"in"), ssh_config=file) == Reply(3, b"in", b"oops\n")
    assert logins(sshd) == 1
    assert Path(f"/proc/{master}/status").read_text().split("State:")[1].split()[0] == "S"


def test_a_shared_connection_that_is_lost_gives_no_whole_reply(
    shared: tuple[Sshd, Path, int], config: Callable[[str], str]
) -> None:
    sshd, socket, master = shared
    file = config(f"ControlPath {socket}\n")
    lose = Silent(lambda: os.kill(master, 9))
    reply = run(sshd, sshd.host(), "echo part; sleep 20", lose, ssh_config=file)
    assert (reply.exit_status, reply.stdout) == (-1, b"part\n")


@pytest.mark.parametrize("how", ["another user's", "where others write", "opened unchecked", "a link"])
def test_a_connection_that_others_can_have_opened_is_not_used(
    shared: tuple[Sshd, Path, int], config: Callable[[str], str], how: str
) -> None:
    sshd, socket, _ = shared
    file = config(
        f"ControlPath {socket}\nStrictHostKeyChecking {'no' if how == 'opened unchecked' else 'yes'}\n"
    )
    if how == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can make a socket another user's")
        os.chown(socket, 65534, 65534)
    elif how == "where others write":
        socket.parent.chmod(0o777)
    elif how == "a link":
        socket.rename(socket.with_name("real"))
        socket.symlink_to("real")
    assert run(sshd, sshd.host(), "echo alone", ssh_config=file).stdout == b"alone\n"
    assert logins(sshd) == 2
    if how == "opened unchecked":
        off = HostKeyChecking.OFF
        assert run(sshd, sshd.host(), ssh_config=file, host_key_checking=off).exit_status == 0
        assert logins(sshd) == 2


def test_a_configuration_that_ssh_cannot_read_is_said_before_any_host(
    sshd: Sshd, config: Callable[[str], str]
) -> None:
    file = config("Host other\n  NoSuchThing yes\n  Port many\n")
    with pytest.raises(ConfigError) as caught:
        run(sshd, sshd.host(), ssh_config=file)
    assert [problem.place for problem in caught.value.problems] == [Place(file, 2), Place(file, 3)]
    assert "nosuchthing" in str(caught.value)


def test_what_is_not_openssh_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho Dropbear v2022.83 >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ConfigError, match=r"is not OpenSSH: Dropbear.*ansible_connection: ssh"):
        open_transport(SshOptions())


@pytest.mark.parametrize("setting", ["StdinNull yes", "SessionType none", "ForkAfterAuthentication yes"])
def test_the_command_is_run_and_heard_to_its_end(
    sshd: Sshd, config: Callable[[str], str], setting: str
) -> None:
    file = config(f"Host *\n  {setting}\n")
    assert run(sshd, sshd.host(), "cat; exit 3", Send(b"in"), ssh_config=file) == Reply(3, b"in", b"")


def test_credentials_are_not_handed_on(sshd: Sshd, config: Callable[[str], str], tmp_path: Path) -> None:
    """What ssh makes of the command line, as it says itself: no Kerberos is needed to see it."""
    file = config("Host *\n  GSSAPIDelegateCredentials yes\n  AddKeysToAgent yes\n")
    seen = tmp_path / "seen"
    real = shutil.which("ssh")
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\ncase $1 in -V|-G) ;; *) {real} -G "$@" >{seen} ;; esac\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    with transport(sshd.known_hosts, ssh_config=file) as ssh:
        ssh._ssh = replace(ssh._ssh, program=str(wrapper))
        ssh.run(sshd.host(), "true", Send(), time.monotonic() + 20)
    settings = seen.read_text().splitlines()
    assert {"gssapidelegatecredentials no", "addkeystoagent false"} <= set(settings)


# ---------------------------------------------------------------- who we are, who they are


def test_a_wrong_key_is_auth_failed(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    host = replace(sshd.host(), private_key=str(tmp_path / "wrong"))
    with pytest.raises(AuthError, match=r"Permission denied \(publickey"):
        run(sshd, host)
    with pytest.raises(AuthError, match="`ansible_connection: ssh` can send one"):
        run(sshd, replace(host, password=Secret("hunter2")))


def test_host_keys_are_checked_as_asked(sshd: Sshd, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", tmp_path / "known_hosts"
    empty.touch()
    kind, key, *_ = make_key(tmp_path / "other").split()
    other.write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    for checking in (HostKeyChecking.STRICT, HostKeyChecking.ACCEPT_NEW):
        with pytest.raises(HostKeyError):
            run(sshd, sshd.host(), known_hosts=str(other), host_key_checking=checking)
    with pytest.raises(HostKeyError):
        run(sshd, sshd.host(), known_hosts=str(empty))
    for file in (empty, other):
        before = file.read_bytes()
        off = HostKeyChecking.OFF
        assert run(sshd, sshd.host(), known_hosts=str(file), host_key_checking=off).exit_status == 0
        assert file.read_bytes() == before
    accept_new = HostKeyChecking.ACCEPT_NEW
    assert run(sshd, sshd.host(), known_hosts=str(empty), host_key_checking=accept_new).exit_status == 0
    assert run(sshd, sshd.host(), known_hosts=str(empty)).exit_status == 0


def test_accept_new_takes_no_key_that_it_cannot_record(sshd: Sshd, tmp_path: Path) -> None:
    accept_new = HostKeyChecking.ACCEPT_NEW
    with pytest.raises(HostKeyError, match="cannot record keys in"):
        run(sshd, sshd.host(), known_hosts="/proc/none/known_hosts", host_key_checking=accept_new)
    with pytest.raises(ConfigError, match="cannot read known hosts"):
        run(sshd, sshd.host(), known_hosts=str(tmp_path), host_key_checking=accept_new)
    made = tmp_path / "made" / "known_hosts"
    assert run(sshd, sshd.host(), known_hosts=str(made), host_key_checking=accept_new).exit_status == 0
    assert made.stat().st_mode & 0o777 == 0o600
    assert run(sshd, sshd.host(), known_hosts=str(made)).exit_status == 0


def test_keys_on_record_are_those_of_the_files_that_were_named(
    sshd: Sshd, config: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    file = config(f"KnownHostsCommand /bin/cat {sshd.known_hosts}\n")
    with pytest.raises(HostKeyError):
        run(sshd, sshd.host(), ssh_config=file, known_hosts=str(tmp_path / "empty"))


def test_a_revoked_host_key_is_refused_even_with_checks_off(sshd: Sshd, tmp_path: Path) -> None:
    recorded = Path(sshd.known_hosts).read_text()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(recorded + "@revoked * " + recorded.split(" ", 1)[1])
    for checking in HostKeyChecking:
        with pytest.raises(HostKeyError):
            run(sshd, sshd.host(), known_hosts=str(known_hosts), host_key_checking=checking)


def test_a_become_password_is_for_hosts_on_record(sshd: Sshd, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    host = replace(sshd.host(), become=Become(password=Secret("hunter2")))
    for checking in (HostKeyChecking.ACCEPT_NEW, HostKeyChecking.OFF):
        with pytest.raises(HostKeyError):
            run(sshd, host, known_hosts=str(empty), host_key_checking=checking)
        assert empty.read_bytes() == b""
        unsafe = run(
            sshd, host, known_hosts=str(empty), host_key_checking=checking, send_passwords_unverified=True
        )
        assert unsafe.exit_status == 0
        empty.write_bytes(b"")


# ---------------------------------------------------------------- ways


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Sshd, Sshd, str]]:
    """A target, a jump host that takes the same key, and a known_hosts file that has both."""
    with contextlib.ExitStack() as stack:
        sshds = []
        for name in ("target", "jump"):
            (tmp_path / name).mkdir()
            sshds.append(stack.enter_context(running_sshd(tmp_path / name, "LogLevel VERBOSE")))
        target, jump = sshds
        (jump.directory / "authorized").write_text((target.directory / "authorized").read_text())
        known_hosts = tmp_path / "both"
        known_hosts.write_text("".join(Path(sshd.known_hosts).read_text() for sshd in sshds))
        yield target, jump, str(known_hosts)


def test_through_jump_hosts_in_their_order(two: tuple[Sshd, Sshd, str]) -> None:
    target, jump, known_hosts = two
    through = Jump("127.0.0.1", jump.port)
    for jumps in ((through,), (through, Jump("127.0.0.1", target.port), through)):
        host = replace(target.host(), jumps=jumps)
        assert run(target, host, "echo behind", known_hosts=known_hosts).stdout == b"behind\n"
    assert (jump.directory / "log").read_text().count("Accepted publickey") == 3


def test_ssh_config_says_where_names_are_behind_jump_hosts_and_who_logs_in_there(
    two: tuple[Sshd, Sshd, str], config: Callable[[str], str]
) -> None:
    target, jump, known_hosts = two
    me = getpass.getuser()
    file = config(
        f"Host web1\n  HostName 127.0.0.1\n  Port {target.port}\n"
        f"Host bastion\n  HostName 127.0.0.1\n  Port {jump.port}\n  User ops\n"
        f"Host mine\n  HostName 127.0.0.1\n  Port {jump.port}\n  User {me}\n"
        f"Host again\n  HostName 127.0.0.1\n  Port {jump.port}\n"
    )
    options: dict[str, Any] = {"known_hosts": known_hosts, "ssh_config": file}
    host = Host("web1", "web1", user=me, private_key=target.key)
    for names in (["again"], ["again", "again", "again"]):
        jumps = tuple(Jump(name) for name in names)
        assert run(target, replace(host, jumps=jumps), "echo there", **options).stdout == b"there\n"
    with pytest.raises(ConnectError, match=r"jump host bastion: ops@"):
        run(target, replace(host, jumps=(Jump("bastion"),)), **options)
    stated = replace(host, jumps=(Jump("bastion", user=me),))
    assert run(target, stated, "echo there", **options).stdout == b"there\n"
    with pytest.raises(ConnectError, match=r"jump host again: nobody@"):
        run(target, replace(host, user="nobody", jumps=(Jump("again"),)), **options)
    with pytest.raises(AuthError, match="nobody@"):  # at the target, so past the jump host
        run(target, replace(host, user="nobody", jumps=(Jump("mine"),)), **options)


def test_a_jump_host_is_checked_as_a_target_is(
    two: tuple[Sshd, Sshd, str], config: Callable[[str], str]
) -> None:
    target, jump, known_hosts = two
    host = replace(target.host(), jumps=(Jump("127.0.0.1", jump.port),))
    weak = config("Host *\n  StrictHostKeyChecking no\n")
    with pytest.raises(ConnectError, match=r"jump host 127\.0\.0\.1: Host key verification failed"):
        run(target, host, known_hosts=target.known_hosts, ssh_config=weak)
    gone = replace(host, jumps=(Jump("127.0.0.1", free_port()),))
    with pytest.raises(ConnectError, match=r"jump host 127\.0\.0\.1: .*Connection refused"):
        run(target, gone, known_hosts=known_hosts)


def test_a_proxy_command_is_the_connection(sshd: Sshd, tmp_path: Path) -> None:
    program = tmp_path / "relay.py"
    program.write_text("""\
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        s.sendall(data)
    s.shutdown(1)
threading.Thread(target=up, daemon=True).start()
while data := s.recv(65536):
    os.write(1, data)
""")
    host = replace(sshd.host(), proxy_command=f"python3 {program} %h %p")
    assert run(sshd, host, "echo proxied").stdout == b"proxied\n"
    with pytest.raises(ConnectError, match=r"\(no way through\)"):
        run(sshd, replace(host, proxy_command="sh -c 'echo no way through >&2; exit 1'"))


def test_who_holds_the_outputs_of_a_proxy_command_is_not_waited_for(
    sshd: Sshd, tmp_path: Path, wait_until: WaitUntil
) -> None:
    relay = "import os,socket,sys,threading as t;s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))"
    relay += ";t.Thread(target=lambda:[s.sendall(d) for d in iter(lambda:os.read(0,65536),b'')],daemon=True)"
    relay += ".start();[os.write(1,d) for d in iter(lambda:s.recv(65536),b'')]"
    program = tmp_path / "proxy"
    program.write_text(f'sleep 77.5 <&- >&- &\nexec python3 -c "{relay}" "$1"\n')
    host = replace(sshd.host(), proxy_command=f"sh {program} %p")
    began = time.monotonic()
    assert run(sshd, host, "echo proxied").stdout == b"proxied\n"
    assert time.monotonic() - began < 10
    wait_until(lambda: not processes("77.5"), "what the proxy command started is left")


# ---------------------------------------------------------------- names that are none


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "-oProxyCommand=touch evil"},
        {"address": "root@127.0.0.1"},
        {"address": "ssh://127.0.0.1"},
        {"address": "127.0.0.1 -v"},
        {"address": "a\nb"},
        {"user": "-oProxyCommand=touch evil"},
        {"user": "$(touch evil)"},
        {"jumps": (Jump("-oProxyCommand=touch evil"),)},
        {"jumps": (Jump("127.0.0.1", user="`touch evil`"),)},
    ],
)
def test_what_is_no_name_is_not_given_to_ssh(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectError, match="ssh may not be given"):
        run(sshd, replace(sshd.host(), **changes))
    assert not (tmp_path / "evil").exists()


def test_without_ssh_there_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="install the OpenSSH client"):
        open_transport(SshOptions())


# ---------------------------------------------------------------- hosts that mean no good


class Knocking(Login):
    """Opens X11 channels without end: each makes ssh complain, whatever its LogLevel is."""

    def execute(self, channel: paramiko.Channel) -> None:
        session = channel.get_transport()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while True:
                with contextlib.suppress(paramiko.ChannelException):  # what ssh answers to each
                    session.open_x11_channel(("127.0.0.1", 6000))


def test_a_host_that_makes_ssh_complain_without_end_is_cut_off(tmp_path: Path) -> None:
    host_key = new_host_key(tmp_path)
    make_key(tmp_path / "login")
    with embedded(lambda connection: serve(connection, Knocking(), host_key)) as server:
        host = Host("h", "127.0.0.1", server.port, user="u", private_key=str(tmp_path / "login"))
        with (
            transport("/dev/null", host_key_checking=HostKeyChecking.OFF) as ssh,
            pytest.raises(OutputError, match="complains without end"),
        ):
            ssh.run(host, "true", Send(), time.monotonic() + 20)


# ---------------------------------------------------------------- in time


def attempt(ssh: OpenSshTransport, port: int, deadline: float) -> tuple[HostError | None, float]:
    try:
        ssh.run(Host("h", "127.0.0.1", port, user="u"), "x", Send(b"x" * 3_000_000), deadline)
    except HostError as error:
        return error, time.monotonic()
    return None, time.monotonic()


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_every_phase_ends_in_time_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    stalls = Stalls(new_host_key(tmp_path))
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(embedded(handle)) for name, handle in ways(stalls).items()}
        stack.callback(stalls.released.set)
        ssh = stack.enter_context(
            transport("/dev/null", host_key_checking=HostKeyChecking.OFF, connect_timeout=60.0)
        )
        pool = stack.enter_context(ThreadPoolExecutor(len(servers)))
        end = time.monotonic() + 3
        deadline = end if how == "deadline" else end + 30
        attempts = {
            name: pool.submit(attempt, ssh, server.port, deadline) for name, server in servers.items()
        }
        if how == "cancel":
            time.sleep(end - time.monotonic())  # the moment matters, not what has happened by then
            ssh.cancel()
        outcomes = {name: future.result(timeout=20) for name, future in attempts.items()}
    assert [name for name, (error, _) in outcomes.items() if error is None] == []
    assert {name: ended - end for name, (_, ended) in outcomes.items() if ended - end >= 1} == {}
    expected = DeadlineError if how == "deadline" else ConnectError
    assert sum(isinstance(error, expected) for error, _ in outcomes.values()) >= len(outcomes) // 2


def test_many_at_once_share_one_transport(sshd: Sshd) -> None:
    replies: dict[int, Reply] = {}
    with transport(sshd.known_hosts) as ssh:

        def ask(number: int) -> None:
            replies[number] = ssh.run(sshd.host(), f"echo {number}", Send(), time.monotonic() + 20)

        workers = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert replies == {number: Reply(0, b"%d\n" % number, b"") for number in range(8)}


def test_a_known_hosts_line_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    """ssh passes over such lines: what was meant to revoke a key would revoke nothing."""
    file = tmp_path / "known_hosts"
    file.write_text("@revokd * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA\n")
    with pytest.raises(ConfigError, match=r"known_hosts:1: cannot read this line"):
        open_transport(SshOptions(known_hosts=(str(file),)))

"""SSH against a real OpenSSH server, and against an embedded one where OpenSSH would not do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import (
    AuthError,
    BecomeError,
    ConfigError,
    ConnectError,
    DeadlineError,
    HostError,
    HostKeyError,
    OutputError,
)
from fleetaudit.model import Become, Host, Secret
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests import running
from tests.conftest import Sshd, free_port, make_key, processes
from tests.transport.conversations import ASKING, Dialogue, Limited, Send, Silent
from tests.transport.embedded import Login, embedded, new_host_key, serve

WaitUntil = Callable[[Callable[[], bool], str], None]


@contextlib.contextmanager
def transport(known_hosts: str, **options: Any) -> Iterator[SshTransport]:
    options = {"use_agent": False, **options}
    ssh = SshTransport(SshOptions(known_hosts=(known_hosts,), **options))
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


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test did: no thread, and no socket or other descriptor, is left behind."""
    threads, descriptors = running.threads(), set(Path("/proc/self/fd").iterdir())
    yield
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


# ---------------------------------------------------------------- talking


def test_both_streams_and_the_exit_status(sshd: Sshd) -> None:
    reply = run(sshd, sshd.host(), "cat; echo oops >&2; exit 3", Send(b"hello"))
    assert reply == Reply(3, b"hello", b"oops\n")


def test_large_data_both_ways_at_once_does_not_deadlock(sshd: Sshd) -> None:
    data = os.urandom(6 << 20)  # three times the window of either side
    reply = run(sshd, sshd.host(), "tee /dev/stderr", Send(data))
    assert reply.exit_status == 0
    assert reply.stdout == reply.stderr == data


def test_a_dialogue_answers_what_it_hears(sshd: Sshd) -> None:
    reply = run(sshd, sshd.host(), ASKING, Dialogue())
    assert reply == Reply(7, b"got 0\ngot 1\ngot 2\ngot 3\n", b"ask 0\nask 1\nask 2\nask 3\n")


def test_a_command_that_reads_nothing_may_end_first(sshd: Sshd) -> None:
    reply = run(sshd, sshd.host(), "echo done", Send(bytes(8 << 20)))
    assert reply == Reply(0, b"done\n", b"")


def test_an_error_of_the_conversation_comes_through_and_ends_the_command(
    sshd: Sshd, wait_until: WaitUntil
) -> None:
    marker = "limited-marker-1"
    conversation = Limited()
    with pytest.raises(OutputError, match="too much"):
        run(sshd, sshd.host(), f"while :; do echo {marker}; done", conversation)
    assert conversation.taken < 1 << 20
    wait_until(lambda: not processes(marker), "the remote command goes on")


def test_a_dialogue_may_give_up(sshd: Sshd) -> None:
    with pytest.raises(BecomeError, match="asked too often"):
        run(sshd, sshd.host(), "echo ask 9 >&2; cat", Dialogue())


def test_a_killed_connection_is_never_a_whole_reply(sshd: Sshd) -> None:
    # The command kills its own sshd session: the output up to then arrives, the exit status does not.
    reply = run(sshd, sshd.host(), "echo partial; sleep 0.2; kill -9 $PPID")
    assert reply == Reply(-1, b"partial\n", b"")


def test_no_forwarding_and_no_environment_is_asked_for(sshd: Sshd) -> None:
    command = 'echo "${SSH_AUTH_SOCK-none} ${DISPLAY-none} ${LC_FLEETAUDIT-none}"'
    assert run(sshd, sshd.host(), command).stdout == b"none none none\n"


def test_parallel_runs_share_one_transport(sshd: Sshd) -> None:
    replies: dict[int, Reply] = {}
    with transport(sshd.known_hosts) as ssh:

        def ask(number: int) -> None:
            replies[number] = ssh.run(sshd.host(), f"echo {number}", Send(), time.monotonic() + 20)

        workers = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert replies == {number: Reply(0, b"%d\n" % number, b"") for number in range(12)}


# ---------------------------------------------------------------- who we are


def test_default_keys_are_tried_in_turn_and_missing_ones_passed_over(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "wrong")
    host = replace(sshd.host(), private_key=None)
    keys = (str(tmp_path / "missing"), str(tmp_path / "wrong"), sshd.key)
    assert run(sshd, host, keys=keys).exit_status == 0


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_key_types(start_sshd: Callable[..., Sshd], tmp_path: Path, kind: str) -> None:
    sshd = start_sshd()
    (tmp_path / "authorized").write_text(make_key(tmp_path / "typed", kind))
    assert run(sshd, replace(sshd.host(), private_key=str(tmp_path / "typed"))).exit_status == 0


def test_a_wrong_key_is_auth_failed_and_says_what_was_tried(sshd: Sshd, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    make_key(wrong)
    with pytest.raises(AuthError, match=rf"was refused, tried: {wrong}") as caught:
        run(sshd, replace(sshd.host(), private_key=str(wrong)))
    assert caught.value.status == "auth_failed"


def test_too_many_keys(sshd: Sshd, tmp_path: Path) -> None:
    keys = tuple(str(tmp_path / f"key{number}") for number in range(8))
    for file in keys:
        make_key(Path(file))
    with pytest.raises(AuthError, match=r"ended the connection at user .*key5"):
        run(sshd, replace(sshd.host(), private_key=None), keys=keys)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda file: make_key(file, passphrase="secret"), "is encrypted: load it into ssh-agent"),
        (lambda file: file.write_text("no key at all"), "is not a private key"),
        (lambda file: file.mkdir(), "cannot read private key .*Is a directory"),
        (lambda file: None, "does not exist"),
    ],
    ids=["encrypted", "garbage", "directory", "missing"],
)
def test_an_unusable_key_file_is_named(
    sshd: Sshd, tmp_path: Path, prepare: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "unusable"
    prepare(file)
    with pytest.raises(AuthError, match=message) as caught:
        run(sshd, replace(sshd.host(), private_key=str(file)))
    assert str(file) in str(caught.value)


def test_nothing_to_log_in_with(sshd: Sshd) -> None:
    with pytest.raises(AuthError, match="no key and no password"):
        run(sshd, replace(sshd.host(), private_key=None))


@pytest.fixture
def agent_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real ssh-agent, empty."""
    path = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    yield path
    agent.terminate()
    agent.wait(10)


def add_to_agent(file: Path) -> None:
    subprocess.run(["ssh-add", "-q", str(file)], check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_ssh_agent_signs(
    start_sshd: Callable[..., Sshd], tmp_path: Path, agent_socket: str, kind: str
) -> None:
    sshd = start_sshd()
    held = tmp_path / "held"
    (tmp_path / "authorized").write_text(make_key(held, kind))
    add_to_agent(held)
    held.unlink()
    host = replace(sshd.host(), private_key=None)
    assert run(sshd, host, use_agent=True).exit_status == 0
    with pytest.raises(AuthError):
        run(sshd, host, use_agent=False)


def test_the_agent_stands_in_for_an_encrypted_file_that_it_holds(
    start_sshd: Callable[..., Sshd], tmp_path: Path, agent_socket: str
) -> None:
    sshd = start_sshd("MaxAuthTries 2")
    for number in range(4):  # more than the server lets us try: the right one must come first
        make_key(tmp_path / f"other{number}")
        add_to_agent(tmp_path / f"other{number}")
    locked = tmp_path / "locked"
    (tmp_path / "authorized").write_text(make_key(locked))
    add_to_agent(locked)
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(locked)], check=True, capture_output=True
    )
    assert run(sshd, replace(sshd.host(), private_key=str(locked)), use_agent=True).exit_status == 0


def test_an_agent_that_does_not_answer_is_said(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with pytest.raises(AuthError, match=f"ssh-agent at {tmp_path}/gone does not answer"):
        run(sshd, replace(sshd.host(), private_key=None), use_agent=True)
    assert run(sshd, sshd.host(), use_agent=True).exit_status == 0


# ---------------------------------------------------------------- who they are


def test_an_unknown_host_key_is_refused_before_any_login(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError, match=r"not on record.*ssh-keyscan -p \d+ 127.0.0.1") as caught:
        run(
            sshd,
            replace(sshd.host(), private_key=None, password=Secret("x")),
            known_hosts=str(tmp_path / "empty"),
        )
    shown = subprocess.run(
        ["ssh-keygen", "-lf", f"{sshd.directory}/host_ed25519"], check=True, capture_output=True, text=True
    )
    assert shown.stdout.split()[1] in str(caught.value)


def test_a_changed_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other").split()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    for checking in (HostKeyChecking.STRICT, HostKeyChecking.ACCEPT_NEW):
        with pytest.raises(HostKeyError, match="has changed"):
            run(sshd, sshd.host(), known_hosts=str(known_hosts), host_key_checking=checking)


def test_a_revoked_host_key_is_refused_even_with_checks_off(sshd: Sshd, tmp_path: Path) -> None:
    recorded = Path(sshd.known_hosts).read_text()
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(recorded + "@revoked * " + recorded.split(" ", 1)[1])
    with pytest.raises(HostKeyError, match="revoked"):
        run(sshd, sshd.host(), known_hosts=str(known_hosts), host_key_checking=HostKeyChecking.OFF)


def test_accept_new_records_and_then_knows(sshd: Sshd, tmp_path: Path) -> None:
    known_hosts = str(tmp_path / "dir" / "known_hosts")
    accept_new = HostKeyChecking.ACCEPT_NEW
    assert run(sshd, sshd.host(), known_hosts=known_hosts, host_key_checking=accept_new).exit_status == 0
    assert run(sshd, sshd.host(), known_hosts=known_hosts).exit_status == 0
    assert Path(known_hosts).read_text() == Path(sshd.known_hosts).read_text()


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_the_key_type_on_record_is_the_one_asked_for(
    start_sshd: Callable[..., Sshd], tmp_path: Path, kind: str
) -> None:
    keys = {other: make_key(tmp_path / f"other_{other}", other) for other in ("ecdsa", "rsa")}
    sshd = start_sshd(*(f"HostKey {tmp_path}/other_{other}" for other in keys))
    if kind in keys:
        known, encoded, *_ = keys[kind].split()
        Path(sshd.known_hosts).write_text(f"[127.0.0.1]:{sshd.port} {known} {encoded}\n")
    assert run(sshd, sshd.host()).exit_status == 0


# ---------------------------------------------------------------- passwords


@pytest.fixture
def password_server(tmp_path: Path) -> Iterator[tuple[Login, Host, str]]:
    """An embedded server that takes passwords, a host to reach it, and a known_hosts file that has it."""
    login = Login("password", "right")
    host_key = new_host_key(tmp_path)
    with embedded(lambda connection: serve(connection, login, host_key)) as server:
        known_hosts = tmp_path / "known"
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {host_key.get_name()} {host_key.get_base64()}\n")
        host = Host("web1", "127.0.0.1", server.port, user="u", password=Secret("right"))
        yield login, host, str(known_hosts)


def ask(host: Host, known_hosts: str, **options: Any) -> Reply:
    with transport(known_hosts, **options) as ssh:
        return ssh.run(host, "x", Send(), time.monotonic() + 20)


def test_a_password_logs_in(password_server: tuple[Login, Host, str]) -> None:
    _, host, known_hosts = password_server
    assert ask(host, known_hosts) == Reply(0, b"done", b"")


def test_keyboard_interactive_takes_the_password_too(password_server: tuple[Login, Host, str]) -> None:
    login, host, known_hosts = password_server
    login.methods = "keyboard-interactive"
    assert ask(host, known_hosts) == Reply(0, b"done", b"")


def test_a_key_and_a_password_both_wanted(password_server: tuple[Login, Host, str], tmp_path: Path) -> None:
    login, host, known_hosts = password_server
    login.methods = "publickey,password"
    make_key(tmp_path / "login")
    host = replace(host, private_key=str(tmp_path / "login"))
    assert ask(host, known_hosts) == Reply(0, b"done", b"")
    assert login.key_counted


def test_a_wrong_password_is_not_quoted(password_server: tuple[Login, Host, str]) -> None:
    login, host, known_hosts = password_server
    with pytest.raises(AuthError, match="user u was refused, tried: password") as caught:
        ask(replace(host, password=Secret("wrong-secret")), known_hosts)
    assert "wrong-secret" not in str(caught.value)
    assert login.passwords == ["wrong-secret"]


@pytest.mark.parametrize("checking", [HostKeyChecking.ACCEPT_NEW, HostKeyChecking.OFF])
def test_no_password_goes_to_an_unverified_host(
    password_server: tuple[Login, Host, str], tmp_path: Path, checking: HostKeyChecking
) -> None:
    login, host, _ = password_server
    empty = str(tmp_path / "empty")
    with pytest.raises(AuthError, match="the password was not sent because the host key is unverified"):
        ask(host, empty, host_key_checking=checking)
    assert login.passwords == []
    Path(empty).unlink(missing_ok=True)
    reply = ask(host, empty, host_key_checking=checking, send_passwords_unverified=True)
    assert reply.exit_status == 0
    assert login.passwords == ["right"]


@pytest.mark.parametrize("checking", [HostKeyChecking.ACCEPT_NEW, HostKeyChecking.OFF])
def test_no_become_password_goes_to_an_unverified_host(
    sshd: Sshd, tmp_path: Path, checking: HostKeyChecking
) -> None:
    host = replace(sshd.host(), become=Become(password=Secret("sudo-secret")))
    empty = str(tmp_path / "empty")
    with pytest.raises(HostKeyError, match="the become password is not sent") as caught:
        run(sshd, host, known_hosts=empty, host_key_checking=checking)
    assert "sudo-secret" not in str(caught.value)
    Path(empty).unlink(missing_ok=True)
    with transport(empty, host_key_checking=checking, send_passwords_unverified=True) as ssh:
        assert ssh.run(host, "true", Send(), time.monotonic() + 20).exit_status == 0
    assert run(sshd, host).exit_status == 0


# ---------------------------------------------------------------- no connection


def test_a_closed_port(sshd: Sshd) -> None:
    with pytest.raises(ConnectError, match=r"cannot connect to 127.0.0.1 port \d+: Connection refused"):
        run(sshd, replace(sshd.host(), port=free_port()))


@pytest.mark.parametrize("address", ["no-such-host.invalid", "a" * 64 + ".invalid", "bad\nname"])
def test_an_address_that_does_not_resolve(sshd: Sshd, address: str) -> None:
    with pytest.raises(ConnectError, match="cannot resolve") as caught:
        run(sshd, replace(sshd.host(), address=address))
    assert "\n" not in str(caught.value)


def test_a_service_that_does_not_speak_ssh(sshd: Sshd) -> None:
    def handle(connection: Any) -> None:
        connection.sendall(b"HTTP/1.0 400 Bad\x1b[31m\r\n\r\n")
        connection.close()

    with embedded(handle) as server, pytest.raises(ConnectError) as caught:
        run(sshd, replace(sshd.host(), port=server.port))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "flood", [b"x" * 4096, b"line\n" * 1000, b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xff" + bytes(4096)]
)
def test_a_host_that_floods_is_cut_off(sshd: Sshd, flood: bytes) -> None:
    def handle(connection: Any) -> None:
        while True:
            connection.sendall(flood)
            if flood.startswith(b"SSH"):
                while True:
                    connection.sendall(bytes(4096))

    began = time.monotonic()
    with embedded(handle) as server, pytest.raises(HostError):
        run(sshd, replace(sshd.host(), port=server.port))
    assert time.monotonic() - began < 10


def test_a_known_hosts_file_that_cannot_be_read_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read known hosts"):
        SshTransport(SshOptions(known_hosts=(str(tmp_path),)))


# ---------------------------------------------------------------- cut off


@pytest.mark.parametrize("how", ["deadline", "cancel", "close"])
@pytest.mark.parametrize("command", ["cat; : {}", "while :; do echo {}; done"], ids=["reads", "writes"])
def test_a_run_that_is_cut_off_leaves_no_remote_process(
    sshd: Sshd, wait_until: WaitUntil, how: str, command: str
) -> None:
    marker = f"cut-{how}-{len(command)}-{os.getpid()}"
    heard = threading.Event()
    failures: list[HostError] = []
    remote = "echo started; " + command.format(marker)
    with transport(sshd.known_hosts) as ssh:

        def work() -> None:
            deadline = time.monotonic() + (1.5 if how == "deadline" else 20)
            try:
                ssh.run(sshd.host(), remote, Silent(heard.set), deadline)
            except HostError as error:
                failures.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        assert heard.wait(10)
        assert processes(marker)
        began = time.monotonic()
        if how != "deadline":
            getattr(ssh, how)()
        worker.join(10)
        assert not worker.is_alive()
        assert time.monotonic() - began < 2.5
        if how != "deadline":
            with pytest.raises(ConnectError, match="cancelled"):
                ssh.run(sshd.host(), "true", Send(), time.monotonic() + 5)
    assert isinstance(failures[0], DeadlineError if how == "deadline" else ConnectError)
    wait_until(lambda: not processes(marker), "the remote command goes on")


def test_a_deadline_in_the_past(sshd: Sshd) -> None:
    with transport(sshd.known_hosts) as ssh, pytest.raises(DeadlineError):
        ssh.run(sshd.host(), "true", Send(), time.monotonic() - 1)

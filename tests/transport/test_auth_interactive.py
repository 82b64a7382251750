"""keyboard-interactive: what a host asks at login, and who answers it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL
from paramiko.server import InteractiveQuery

from fleetaudit.conversation import Reply
from fleetaudit.errors import AuthError, ConnectError, HostError
from fleetaudit.model import Host, Secret
from fleetaudit.transport.options import HostKeyChecking, SshOptions
from fleetaudit.transport.ssh import SshTransport
from tests import running
from tests.conftest import make_key
from tests.transport.conversations import Send
from tests.transport.embedded import Login, embedded, new_host_key, serve

PASSWORD, CODE = ("(u@host) Password: ", False), ("Verification code: ", False)


class Pam(Login):
    """Asks its rounds of prompts one after another, and takes `right` answers only."""

    def __init__(self, *rounds: list[tuple[str, bool]], right: list[list[str]], methods: str) -> None:
        super().__init__(methods)
        self.rounds = list(rounds)
        self.right = right
        self.answers: list[list[str]] = []

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        if "keyboard-interactive" not in self.methods:
            return AUTH_FAILED
        self.answers = []
        return InteractiveQuery("", "Two\x1b[31m steps.", *self.rounds[0])

    def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:  # type: ignore[override]
        self.answers.append(responses)
        if self.answers != self.right[: len(self.answers)]:
            return AUTH_FAILED
        if len(self.answers) < len(self.rounds):
            return InteractiveQuery("", "", *self.rounds[len(self.answers)])
        if "publickey" in self.methods:
            self.methods = "publickey"
            return AUTH_PARTIALLY_SUCCESSFUL
        return AUTH_SUCCESSFUL


class Person:
    """Answers in turn, and remembers what was asked, and how many asked at once."""

    def __init__(self, *answers: str | None, seconds: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.seconds = seconds
        self.now = self.most = 0

    def ask(self, text: str) -> Secret | None:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        self.asked.append(text)
        answer = self.answers.pop(0)
        self.now -= 1
        return None if answer is None else Secret(answer)


@dataclass
class Server:
    """An embedded server, a host to reach it, and a known_hosts file that has it."""

    pam: Pam
    host: Host
    known_hosts: str

    def run(self, person: Person | None = None, password: str | None = None, **options: Any) -> Reply:
        secret = None if password is None else Secret(password)
        given = {"known_hosts": (self.known_hosts,), "use_agent": False, **options}
        ssh = SshTransport(SshOptions(ask=person.ask if person else None, **given))
        try:
            return ssh.run(replace(self.host, password=secret), "x", Send(), time.monotonic() + 20)
        finally:
            ssh.close()


@contextmanager
def asking(
    directory: Path, *rounds: list[tuple[str, bool]], right: list[list[str]], methods: str
) -> Iterator[Server]:
    host_key = new_host_key(directory)

    def handle(connection: Any) -> None:
        pam = Pam(*rounds, right=right, methods=methods)
        server.pam = pam
        serve(connection, pam, host_key)

    with embedded(handle) as listening:
        known_hosts = directory / "known"
        line = f"[127.0.0.1]:{listening.port} {host_key.get_name()} {host_key.get_base64()}\n"
        known_hosts.write_text(line)
        host = Host("web1", "127.0.0.1", listening.port, user="u")
        server = Server(Pam(*rounds, right=right, methods=methods), host, str(known_hosts))
        yield server


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test did: no thread, and no socket or other descriptor, is left behind."""
    threads, descriptors = running.threads(), set(Path("/proc/self/fd").iterdir())
    yield
    assert running.threads() <= threads
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


@pytest.mark.parametrize("rounds", [[[PASSWORD, CODE]], [[PASSWORD], [CODE]], [[PASSWORD], [], [CODE]]])
def test_the_password_and_a_code_in_one_or_two_rounds(
    tmp_path: Path, rounds: list[list[tuple[str, bool]]]
) -> None:
    right = [["geheim" if one is PASSWORD else "123456" for one in prompts] for prompts in rounds]
    person = Person("123456")
    with asking(tmp_path, *rounds, right=right, methods="keyboard-interactive") as server:
        assert server.run(person, "geheim") == Reply(0, b"done", b"")
    assert len(person.asked) == 1
    assert person.asked[0].startswith("web1 asks: ")
    assert person.asked[0].endswith("Verification code:")
    assert "\x1b" not in person.asked[0]


def test_the_password_never_answers_a_question_for_a_code(tmp_path: Path) -> None:
    with asking(tmp_path, [CODE], right=[["1"]], methods="keyboard-interactive") as server:
        with pytest.raises(AuthError, match=r"the host asks '.*Verification code:', and nobody answered"):
            server.run(None, "geheim")
        assert server.pam.answers == []


def test_what_is_shown_while_it_is_typed_is_no_password(tmp_path: Path) -> None:
    person = Person("u2")
    prompts = [("Second user: ", True), PASSWORD]
    with asking(tmp_path, prompts, right=[["u2", "geheim"]], methods="keyboard-interactive") as server:
        assert server.run(person, "geheim").exit_status == 0
    assert len(person.asked) == 1


@pytest.mark.parametrize("methods", ["publickey,keyboard-interactive", "keyboard-interactive"])
def test_a_key_before_or_after_the_code(tmp_path: Path, methods: str) -> None:
    make_key(tmp_path / "mine")
    person = Person("123456")
    with asking(tmp_path, [CODE], right=[["123456"]], methods=methods) as server:
        server.host = replace(server.host, private_key=str(tmp_path / "mine"))
        assert server.run(person).exit_status == 0


@pytest.mark.parametrize(
    ("rounds", "right", "message"),
    [
        ([[CODE]], [["123456"]], "user u was refused, tried: keyboard-interactive"),
        ([[CODE], [CODE]], [["000000"]], r"did not take the answer to '.*Verification code:'"),
    ],
)
def test_a_wrong_code_is_not_asked_for_twice(
    tmp_path: Path, rounds: list[list[tuple[str, bool]]], right: list[list[str]], message: str
) -> None:
    person = Person("000000")
    with (
        asking(tmp_path, *rounds, right=right, methods="keyboard-interactive") as server,
        pytest.raises(AuthError, match=message) as caught,
    ):
        server.run(person)
    assert "000000" not in str(caught.value)
    assert len(person.asked) == 1


def test_a_host_that_asks_without_end_is_cut_off(tmp_path: Path) -> None:
    prompts = [(f"Colour {number}? " + "x" * 500, True) for number in range(20)]
    person = Person()
    with (
        asking(tmp_path, prompts, right=[[]], methods="keyboard-interactive") as server,
        pytest.raises(AuthError, match="asks without end"),
    ):
        server.run(person)


def test_nobody_is_asked_for_an_unverified_host(tmp_path: Path) -> None:
    with (
        asking(tmp_path, [CODE], right=[["1"]], methods="keyboard-interactive") as server,
        pytest.raises(AuthError, match="its host key is unverified"),
    ):
        server.run(Person(), host_key_checking=HostKeyChecking.OFF)


def test_hosts_ask_one_at_a_time_and_their_deadlines_stand_still(tmp_path: Path) -> None:
    hosts, seconds = 5, 0.5
    person = Person(*["123456"] * hosts, seconds=seconds)
    failures: list[HostError] = []
    with asking(tmp_path, [CODE], right=[["123456"]], methods="keyboard-interactive") as server:
        ssh = SshTransport(SshOptions((server.known_hosts,), use_agent=False, ask=person.ask))
        deadline = time.monotonic() + 1.5  # less than it takes until the last has been asked

        def reach(number: int) -> None:
            try:
                ssh.run(replace(server.host, name=f"web{number}"), "x", Send(), deadline)
            except HostError as error:
                failures.append(error)

        workers = [threading.Thread(target=reach, args=(number,)) for number in range(hosts)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        ssh.close()
    assert failures == []
    assert person.most == 1
    assert len({text.split()[0] for text in person.asked}) == hosts


def test_after_a_question_the_deadline_holds_again(tmp_path: Path) -> None:
    """The host takes the answer and then says nothing."""
    silent = threading.Event()

    class Stuck(Pam):
        def check_auth_interactive_response(self, responses: list[str]) -> int | InteractiveQuery:  # type: ignore[override]
            silent.wait(20)
            return AUTH_FAILED

    host_key = new_host_key(tmp_path)
    pam = Stuck([CODE], right=[], methods="keyboard-interactive")
    with embedded(lambda connection: serve(connection, pam, host_key)) as listening:
        server = Server(pam, Host("web1", "127.0.0.1", listening.port, user="u"), str(tmp_path / "known"))
        known = f"[127.0.0.1]:{listening.port} {host_key.get_name()} {host_key.get_base64()}\n"
        Path(server.known_hosts).write_text(known)
        ssh = SshTransport(
            SshOptions((server.known_hosts,), use_agent=False, ask=Person("1", seconds=0.5).ask)
        )
        began = time.monotonic()
        with pytest.raises(HostError, match="within the deadline"):
            ssh.run(server.host, "x", Send(), began + 1)
        assert 1.3 < time.monotonic() - began < 5
        silent.set()
        ssh.close()


def test_cancelling_while_a_person_is_asked(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()
    failures: list[HostError] = []

    def ask(text: str) -> Secret | None:
        asked.set()
        answer.wait(10)
        return None

    with asking(tmp_path, [CODE], right=[["1"]], methods="keyboard-interactive") as server:
        ssh = SshTransport(SshOptions((server.known_hosts,), use_agent=False, ask=ask))

        def reach() -> None:
            try:
                ssh.run(server.host, "x", Send(), time.monotonic() + 20)
            except HostError as error:
                failures.append(error)

        worker = threading.Thread(target=reach)
        worker.start()
        assert asked.wait(10)
        ssh.cancel()
        answer.set()
        worker.join(10)
        ssh.close()
    assert isinstance(failures[0], ConnectError)
    assert "cancelled" in str(failures[0])

"""Questions at a terminal: a whole collection under a pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paramiko.server import InteractiveQuery

from tests.conftest import Sshd, make_key
from tests.transport.embedded import Login, embedded, new_host_key, serve

# A shell of its own session takes the terminal as its controlling one when it opens it.
IN_A_TERMINAL = (
    "import os,sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"
)


class Terminal:
    """A program at a pseudo-terminal, which types and reads."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.ours, theirs = pty.openpty()
        whole = [sys.executable, "-c", IN_A_TERMINAL, os.ttyname(theirs), *command]
        self.process = subprocess.Popen(
            whole, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
        )
        os.close(theirs)
        self.seen = ""

    def until(self, text: str, times: int = 1) -> None:
        """Read until the text was seen so often."""
        end = time.monotonic() + 30
        while self.seen.count(text) < times:
            if time.monotonic() > end or not self._read():
                self.process.kill()
                self.process.wait(10)
                os.close(self.ours)
                pytest.fail(f"never seen: {text!r} in {self.seen!r}")

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self.ours)
        return self.process.wait(30)

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 30)[0]:
            return False
        try:
            data = os.read(self.ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def command(start_sshd: Callable[..., Sshd], tmp_path: Path) -> list[str]:
    """Collects from a host that takes an encrypted key only, called `locked`."""
    sshd = start_sshd()
    (tmp_path / "authorized").write_text(make_key(tmp_path / "locked", passphrase="geheim"))
    host = sshd.host()
    said = {
        "ansible_host": host.address,
        "ansible_port": sshd.port,
        "ansible_user": host.user,
        "ansible_ssh_private_key_file": str(tmp_path / "locked"),
    }
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(json.dumps({"all": {"hosts": {"web1": said, "web2": said}}}))
    line = [sys.executable, "-m", "fleetaudit", "collect", "-i", str(inventory), "--output"]
    line += [str(tmp_path / "out.jsonl"), "--known-hosts", sshd.known_hosts, "--ssh-config", "none"]
    return line


@pytest.fixture
def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"} | {"TERM": "xterm"}


def test_the_passphrase_is_typed_once_and_unseen(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    terminal = Terminal(command, environment)
    terminal.until(f"Passphrase of {tmp_path}/locked: ")
    terminal.type("falsch\n")
    terminal.until("That was wrong.")
    terminal.type("geheim\n")
    assert terminal.end() == 0, terminal.seen
    assert terminal.seen.count("Passphrase") == 2
    assert "geheim" not in terminal.seen
    assert "falsch" not in terminal.seen
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["host"]["name"] for line in lines] == ["web1", "web2"]


def test_a_wrong_passphrase_ends_the_run_before_it_begins(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    terminal = Terminal(command, environment)
    for number in range(3):
        terminal.until("Passphrase of", number + 1)
        terminal.type("falsch\n")
    assert terminal.end() == 2
    assert f"{tmp_path}/locked: the passphrase is wrong" in terminal.seen
    assert not (tmp_path / "out.jsonl").exists()


def test_an_interrupt_ends_the_question(command: list[str], environment: dict[str, str]) -> None:
    terminal = Terminal(command, environment)
    terminal.until("Passphrase of")
    terminal.type("\x03")
    assert terminal.end() in (3, 130), terminal.seen
    assert "Traceback" not in terminal.seen


class Coded(Login):
    """Asks for a code."""

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:
        return InteractiveQuery("", "", ("Verification code: ", False))


def test_a_code_is_typed_where_no_bar_is_drawn(environment: dict[str, str], tmp_path: Path) -> None:
    login, host_key = Coded("keyboard-interactive", "246810"), new_host_key(tmp_path)
    with embedded(lambda connection: serve(connection, login, host_key)) as server:
        known_hosts, inventory = tmp_path / "known_hosts", tmp_path / "inventory.yaml"
        known_hosts.write_text(f"[127.0.0.1]:{server.port} {host_key.get_name()} {host_key.get_base64()}\n")
        said = {"ansible_host": "127.0.0.1", "ansible_port": server.port, "ansible_user": "u"}
        inventory.write_text(json.dumps({"all": {"hosts": {"web1": said}}}))
        command = [sys.executable, "-m", "fleetaudit", "collect", "-i", str(inventory), "--output"]
        command += [str(tmp_path / "out.jsonl"), "--known-hosts", str(known_hosts), "--ssh-config", "none"]
        terminal = Terminal([*command, "--progress", "bar"], environment)
        terminal.until("web1 asks: Verification code: ")
        before = len(terminal.seen)
        time.sleep(1)  # ten times what the bar waits between two drawings
        terminal.type("246810\n")
        terminal.until("asking hosts", terminal.seen.count("asking hosts") + 1)
        assert terminal.seen[before:].startswith("\r\n")
        assert terminal.end() == 3  # what it answers is no snapshot
    assert login.passwords == ["246810"]
    assert "246810" not in terminal.seen
    assert json.loads((tmp_path / "out.jsonl").read_text())["status"] == "bad_output"


def test_without_a_terminal_nobody_is_asked(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.returncode == 3, done.stderr.decode()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {line["status"] for line in lines} == {"auth_failed"}
    assert all("is encrypted: load it into ssh-agent" in line["detail"] for line in lines)

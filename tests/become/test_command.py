"""What the command lines of become hold, and how a host is heard before the user has changed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import escalation
from fleetaudit.agent.becoming import Asked, refused
from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.agent.pinned import pinned_command
from fleetaudit.errors import BecomeError, ConfigError
from fleetaudit.model import PINNED_AGENT, Become, Host, Secret
from fleetaudit.session import Options
from tests.agent.test_launch import hold

NONCE = "n0nce-1"
HOST = Host("web1", "127.0.0.1")
ASKING = f"FLEETAUDIT-ASKING {NONCE}\n".encode()
MARK = f"FLEETAUDIT-PASSWORD {NONCE}:".encode()
RUN0 = """#!/bin/sh
test "$1 $2 $3 $4" = "--nice=5 --no-ask-password --user=nobody --" || { echo "$@" >&2; exit 9; }
shift 4
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


def becoming(
    method: str, password: str | None = None, *, exe: str | None = None, flags: tuple[str, ...] = ()
) -> Host:
    secret = None if password is None else Secret(password)
    return replace(HOST, become=Become(method, "nobody", secret, exe, flags))


# ---------------------------------------------------------------- run0


def test_a_stand_in_for_run0_is_given_what_its_manual_says(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can stand in for run0")
    program = tmp_path / "run0"
    program.write_text(RUN0)
    program.chmod(0o755)
    host = becoming("run0", exe=str(program), flags=("--nice=5", "--no-ask-password"))
    host = replace(host, interpreter="/usr/bin/python3")
    reply = hold(command(host, NONCE), AgentConversation(host, NONCE, build(AgentConfig(nonce=NONCE))))
    assert json.loads(read_frame(NONCE, reply))["coverage"]["euid"] == 65534


@pytest.mark.parametrize(
    "words",
    [
        "Failed to start transient service unit: Interactive authentication required.",
        "Failed to start transient service unit: Access denied",
    ],
)
def test_what_polkit_says_is_told(words: str) -> None:
    assert "polkit" in (refused(NONCE, words.encode()) or "")


def test_a_password_for_run0_is_refused_before_any_host_is_asked() -> None:
    with pytest.raises(BecomeError, match="run0 takes no password"):
        command(becoming("run0", "hunter2"), NONCE)
    with pytest.raises(ConfigError, match="become_password: run0 takes none"):
        Options(become=True, become_method="run0", become_password=Secret("hunter2"))
    assert Options(become_method="run0").become_password is None


# ---------------------------------------------------------------- secrets and what shells read


@pytest.mark.parametrize("method", ["sudo", "doas", "su"])
def test_no_password_is_in_a_command_line(method: str) -> None:
    line = command(becoming(method, "Zq7secret"), NONCE)
    assert "Zq7secret" not in line
    assert len(line) < 4096


@pytest.mark.parametrize("method", ["doas", "su"])
@pytest.mark.parametrize("password", ["a\x03b", "a\x04", "\x7fa", "x" * 1025])
def test_what_a_terminal_would_not_pass_on_is_refused(method: str, password: str) -> None:
    with pytest.raises(BecomeError, match="no control character") as caught:
        command(becoming(method, password), NONCE)
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    ("exe", "flags"),
    [
        ("sudo;reboot", ()),
        ("-x", ()),
        ("a b", ()),
        (None, ("-i",)),
        (None, ("-u", "x")),
        (None, ("-g", "$(x)")),
    ],
)
def test_a_program_or_flags_that_cannot_stand_are_refused(exe: str | None, flags: tuple[str, ...]) -> None:
    with pytest.raises(BecomeError, match=r"^sudo: "):
        command(becoming("sudo", exe=exe, flags=flags), NONCE)


def test_a_pinned_agent_is_started_by_the_program_of_the_inventory() -> None:
    host = replace(becoming("sudo", "unused", exe="/opt/sudo", flags=("-H",)), agent_path=PINNED_AGENT)
    assert f"/opt/sudo -H -n -u nobody -- {PINNED_AGENT}" in pinned_command(host, NONCE)


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("method", "text", "kept"),
    [
        ("sudo", "-H -S -n", ("-H",)),
        (
            "sudo",
            "-HSnE --preserve-env=A,B -gwheel -g 'adm'",
            ("-H", "-E", "--preserve-env=A,B", "-g", "wheel"),
        ),
        ("sudo", "--non-interactive --stdin", ()),
        ("su", "-", ("-l",)),
        ("su", "-lm --login", ("-l", "-m", "--login")),
        ("doas", "-n", ()),
        ("run0", "--slice=audit.slice --no-ask-password", ("--slice=audit.slice",)),
        ("run0", "", ()),
    ],
)
def test_flags_that_change_nothing_of_ours_are_kept(method: str, text: str, kept: tuple[str, ...]) -> None:
    found = escalation.flags(method, text)
    assert found[: len(kept)] == kept
    assert escalation.flags(method, shlex.join(found)) == found


@pytest.mark.parametrize(
    ("method", "text"),
    [
        *(
            ("sudo", flag)
            for flag in ("-i", "-s", "-b", "-k -u x", "-A", "-l", "-p x", "--login", "-Hi", "--")
        ),
        *(("sudo", text) for text in ("-g", "x", "-", "-g 'a b'", "--group=!", "'", "--user=x", "--group=")),
        *(("su", flag) for flag in ("-c x", "-P", "--pty", "-s /bin/sh", "--command=x")),
        *(("doas", flag) for flag in ("-s", "-L", "-C x", "-u x", "--x")),
        *(("run0", flag) for flag in ("--pty", "--user=x", "-M x", "--machine=x", "--nice")),
    ],
)
def test_flags_that_change_what_is_run_are_refused(method: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        escalation.flags(method, text)


@settings(max_examples=200)
@given(st.sampled_from(escalation.METHODS), st.text(alphabet="-HSngEilu =/;$!'\\\"\n é", max_size=12))
def test_whatever_is_kept_is_a_plain_word(method: str, text: str) -> None:
    try:
        kept = escalation.flags(method, text)
    except ValueError:
        return
    assert all(word and shlex.quote(word) in (word, f"'{word}'") for word in kept)
    assert not set("".join(kept)) & set(" ;$!'\\\"\n")


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    "prompt",
    [
        MARK,
        b"[sudo: " + MARK,
        ASKING + b"lecture\n" + MARK,
        ASKING + b"(corporate) LDAP Password: ",
        ASKING + b"Enter passphrase> ",
    ],
)
def test_the_password_is_given_once(prompt: bytes) -> None:
    asked = Asked("sudo", NONCE)
    assert asked.wants_password(prompt)
    assert not asked.wants_password(prompt)
    assert not asked.wants_password(prompt + b"] Password: "[:1])


def test_the_end_of_the_prompt_of_sudo_rs_is_no_second_prompt() -> None:
    asked = Asked("sudo", NONCE)
    begun = ASKING + b"[sudo: " + MARK
    assert asked.wants_password(begun)
    assert not asked.wants_password(begun + b"] Password: ")
    with pytest.raises(BecomeError, match="wrong password"):
        asked.wants_password(begun + b"] Password: \n" + MARK)


@pytest.mark.parametrize(
    "said",
    [
        b"Loading modules: ",
        b"Password: ",
        ASKING + b"sudo: ",
        ASKING + b"sudo: unable to resolve host web1: ",
        ASKING + b"We trust you have received the usual lecture:\n",
        ASKING,
    ],
)
def test_what_is_no_prompt_of_sudo_is_left_alone(said: bytes) -> None:
    assert not Asked("sudo", NONCE).wants_password(said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (ASKING + b"Verification code: ", "something else than a password: Verification code"),
        (ASKING + b"One-time password (OATH) for `x': ", "something else than a password: One-time"),
        (ASKING + b"Kennwort: ", "do not speak of a password: Kennwort"),
        (b"Password: " + MARK + b"\nVerification code: " + MARK, "something else than a password"),
        (MARK + b"\n" + MARK, "sudo: wrong password"),
        (b"Favourite colour: \nFLEETAUDIT-STUCK n0nce-1\n", "neither asked .* nor began: Favourite colour:"),
    ],
)
def test_what_waiting_on_would_not_help_is_said(said: bytes, message: str) -> None:
    with pytest.raises(BecomeError, match=message):
        Asked("sudo", NONCE).wants_password(said)


def test_a_second_prompt_of_its_own_words_means_that_the_first_answer_was_wrong() -> None:
    asked = Asked("sudo", NONCE)
    assert asked.wants_password(ASKING + b"LDAP Password: ")
    with pytest.raises(BecomeError, match="wrong password"):
        asked.wants_password(ASKING + b"LDAP Password: Sorry, try again.\nLDAP Password: ")


# ---------------------------------------------------------------- the relay


TOOL = """
import os, sys, termios, time
terminal = os.open("/dev/tty", os.O_RDWR)
mode = termios.tcgetattr(terminal)
mode[3] &= ~termios.ECHO
termios.tcsetattr(terminal, termios.TCSAFLUSH, mode)
os.write(terminal, b"Kennwort: ")
word = b""
while not word.endswith(b"\\n"):
    word += os.read(terminal, 99)
mode[3] |= termios.ECHO
termios.tcsetattr(terminal, termios.TCSAFLUSH, mode)
os.write(2, b"FLEETAUDIT-READY n0nce-1\\n")
os.write(1, b"\\nFLEETAUDIT-READY n0nce-1\\n" if word == b"p\\xc3\\xa4ss 1\\n" else b"no")
data = sys.stdin.buffer.read()
os.write(1, data[::-1])
sys.exit(7)
"""
INTERPRETERS = sorted(
    (Path.home() / ".pyenv" / "versions").glob("3.*/bin/python3"),
    key=lambda path: [*map(int, path.parts[-3].split("."))],
) or [Path(sys.executable)]


@pytest.mark.parametrize("python", [INTERPRETERS[0], INTERPRETERS[-1]], ids=["oldest", "newest"])
def test_all_that_follows_the_password_is_the_agents_byte_for_byte(tmp_path: Path, python: Path) -> None:
    tool = tmp_path / "doas"
    tool.write_text(f"#!{sys.executable}\n{TOOL}")
    tool.chmod(0o755)
    host = replace(becoming("doas", "p\u00e4ss 1", exe=str(tool)), interpreter=str(python))
    payload = bytes(range(256)) * 300
    reply = hold(command(host, NONCE), AgentConversation(host, NONCE, payload))
    assert reply.exit_status == 7
    sent = b"%d\n%b\n#\n" % (len(payload), payload)
    assert reply.stdout == b"\nFLEETAUDIT-READY n0nce-1\n" + sent[::-1]
    assert "p\u00e4ss".encode() not in reply.stderr


def test_the_password_of_a_host_that_hangs_up_is_not_waited_for(tmp_path: Path) -> None:
    tool = tmp_path / "doas"
    tool.write_text(f"#!{sys.executable}\n{TOOL}")
    tool.chmod(0o755)
    line = command(becoming("doas", "x", exe=str(tool)), NONCE)
    done = subprocess.run(
        ["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
    assert done.returncode == 1
    assert MARK in done.stderr

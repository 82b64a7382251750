"""Starting the agent through real shells and sudo, and judging what comes back."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetaudit.agent import launch
from fleetaudit.agent.launch import AgentConversation, command, read_frame
from fleetaudit.agent.payload import AgentConfig, build
from fleetaudit.conversation import Conversation, Reply, Say, Stream
from fleetaudit.errors import BecomeError, ConnectError, HostError, InterpreterError, OutputError
from fleetaudit.model import Become, Host, Secret
from tests.agent.looking import Document, codes

NONCE = "n0nce-1"
HOST = Host("web1", "127.0.0.1")
PAYLOAD = build(AgentConfig(nonce=NONCE))
SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh") if shutil.which(name)]


def hold(line: str, conversation: Conversation, shell: str = "sh", path: str | None = None) -> Reply:
    """A transport in a few lines: the login shell runs the line, as sshd has it."""
    environment = {"PATH": path or os.environ["PATH"], "LC_ALL": "C"}
    pipe = subprocess.PIPE
    process = subprocess.Popen([shell, "-c", line], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        streams = {process.stdout: Stream.STDOUT, process.stderr: Stream.STDERR}
        heard = {Stream.STDOUT: b"", Stream.STDERR: b""}
        try:
            say(process, conversation.start())
            limit = time.monotonic() + 30
            while streams and time.monotonic() < limit:
                for pipe_ in select.select(list(streams), [], [], 1)[0]:
                    data = os.read(pipe_.fileno(), 65536)
                    if not data:
                        del streams[pipe_]
                        continue
                    heard[streams[pipe_]] += data
                    say(process, conversation.heard(streams[pipe_], data))
        finally:
            if streams:
                process.kill()
    return Reply(process.returncode, heard[Stream.STDOUT], heard[Stream.STDERR])


def say(process: subprocess.Popen[bytes], words: Say) -> None:
    assert process.stdin is not None
    try:
        if words.data:
            process.stdin.write(words.data)
            process.stdin.flush()
        if words.eof:
            process.stdin.close()
    except BrokenPipeError:
        pass


def census(host: Host, shell: str = "sh", path: str | None = None) -> Document:
    reply = hold(command(host, NONCE), AgentConversation(host, NONCE, PAYLOAD), shell, path)
    document = json.loads(read_frame(NONCE, reply))
    assert document["schema"] == "fleetaudit.snapshot/1"
    assert isinstance(document, dict)
    return document


# ---------------------------------------------------------------- without becoming anyone


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("interpreter", [None, "auto", sys.executable])
def test_any_login_shell_starts_it(shell: str, interpreter: str | None) -> None:
    assert census(replace(HOST, interpreter=interpreter), shell)["sockets"] is not None


def test_the_first_interpreter_that_is_new_enough_runs_it(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3.6").symlink_to("/usr/bin/env")  # another program altogether
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for name in ("python3", "python"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "sh").symlink_to("/bin/sh")
    assert census(HOST, "/bin/sh", str(tmp_path))["processes"] is not None


@pytest.mark.parametrize("interpreter", ["/no/such/python", "it's; touch /tmp/no $(reboot)"])
def test_no_interpreter_is_said(tmp_path: Path, interpreter: str) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    with pytest.raises(InterpreterError, match=r"no Python >= 3\.6"):
        census(replace(HOST, interpreter=interpreter), "/bin/sh", str(tmp_path))


def test_noise_of_login_scripts_does_not_matter() -> None:
    noise = "echo welcome; printf no-newline; echo FLEETAUDIT-BEGIN x 1 y; echo oops >&2"
    line = f"{noise}; {command(HOST, NONCE)}; echo bye"
    reply = hold(line, AgentConversation(HOST, NONCE, PAYLOAD))
    assert read_frame(NONCE, reply).startswith(b'{"schema":')


def test_the_command_has_nothing_that_other_shells_read_otherwise() -> None:
    ways = [
        Become(method, password=word) for method in ("sudo", "doas", "su") for word in (None, Secret("x"))
    ]
    for become in (None, *ways, Become("run0")):
        assert not set(command(replace(HOST, become=become), NONCE)) & set("\n\\!`")


@pytest.mark.parametrize("nonce", ["", "a b", "$(x)", "a\nb"])
def test_a_nonce_that_a_shell_would_read_is_refused(nonce: str) -> None:
    with pytest.raises(ValueError, match="nonce"):
        command(HOST, nonce)


# ---------------------------------------------------------------- becoming another user


@pytest.mark.parametrize("password", [None, Secret("never asked for")], ids=["plain", "password"])
def test_real_sudo_without_a_password(password: Secret | None) -> None:
    document = census(replace(HOST, become=Become("sudo", "nobody", password)))
    assert document["coverage"]["euid"] == 65534
    assert "not_root" in codes(document)


@pytest.mark.parametrize("method", ["sudo", "doas", "su"])
def test_who_is_that_user_already_needs_no_tool(tmp_path: Path, method: str) -> None:
    for name in ("sh", "id", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    host = replace(HOST, interpreter=sys.executable, become=Become(method, "root"))
    assert census(host, "/bin/sh", str(tmp_path))["coverage"]["euid"] == 0


def test_real_su_as_root() -> None:
    assert census(replace(HOST, become=Become("su", "nobody")))["coverage"]["euid"] == 65534


FAKE_SUDO = """#!/bin/sh
# sudo -S -p PROMPT -u USER -- COMMAND...: asks up to three times, as the real one does.
test "$1" = -S || { echo "sudo: a password is required" >&2; exit 1; }
for try in 1 2 3; do
  printf '%s' "$3" >&2
  read -r word || { echo "sudo: no password was provided" >&2; exit 1; }
  if test "$word" = sesame; then shift 6; exec "$@"; fi
  echo "Sorry, try again." >&2
done
echo "sudo: 3 incorrect password attempts" >&2
exit 1
"""


@pytest.fixture
def fake_sudo(tmp_path: Path) -> str:
    (tmp_path / "sudo").write_text(FAKE_SUDO)
    (tmp_path / "sudo").chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def asking(password: str | None) -> Host:
    return replace(HOST, become=Become("sudo", "auditor", Secret(password) if password is not None else None))


def test_the_password_is_given_when_asked_for_and_only_then(fake_sudo: str) -> None:
    assert census(asking("sesame"), path=fake_sudo)["sockets"] is not None


def test_a_wrong_password_is_tried_once(fake_sudo: str) -> None:
    with pytest.raises(BecomeError, match="wrong password"):
        census(asking("open"), path=fake_sudo)


def test_a_password_that_is_needed_and_not_given(fake_sudo: str) -> None:
    with pytest.raises(BecomeError, match="none was given"):
        census(asking(None), path=fake_sudo)


def test_the_password_goes_out_once_and_the_agent_after_it() -> None:
    talk = AgentConversation(asking("sesame"), NONCE, b"agent")
    assert talk.start() == Say()
    assert talk.heard(Stream.STDOUT, f"FLEETAUDIT-PASSWORD {NONCE}:".encode()) == Say(), "not where sudo asks"
    assert talk.heard(Stream.STDERR, b"lecture\nFLEETAUDIT-PASS") == Say()
    assert talk.heard(Stream.STDERR, f"WORD {NONCE}:".encode()) == Say(b"sesame\n")
    assert talk.heard(Stream.STDERR, b"\n") == Say()
    assert talk.heard(Stream.STDOUT, f"xFLEETAUDIT-READY {NONCE}\n".encode()) == Say(), (
        "not a line of its own"
    )
    assert talk.heard(Stream.STDOUT, f"FLEETAUDIT-READY {NONCE}".encode()) == Say()
    assert talk.heard(Stream.STDOUT, b"\n") == Say(b"5\nagent\n#\n", eof=True)
    assert talk.heard(Stream.STDERR, f"FLEETAUDIT-PASSWORD {NONCE}:".encode()) == Say(), (
        "never into the agent's stdin"
    )


def test_without_a_password_the_agent_goes_out_at_once() -> None:
    for host in (HOST, asking(None), replace(HOST, become=Become("doas"))):
        assert AgentConversation(host, NONCE, b"agent").start() == Say(b"5\nagent\n#\n", eof=True)
        assert AgentConversation(host, NONCE, b"agent", sh_payload=bytes).start() == Say(b"5\nagent\n#\n")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_host_that_has_no_python_is_sent_the_sh_agent_once(size: int) -> None:
    talk = AgentConversation(HOST, NONCE, b"agent", sh_payload=lambda: b"sh agent")
    talk.start()
    said = f"welcome FLEETAUDIT-SH {NONCE}\nFLEETAUDIT-SH other\n\nFLEETAUDIT-SH {NONCE}\n".encode()
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    answers = [talk.heard(Stream.STDERR, said), *(talk.heard(Stream.STDOUT, piece) for piece in pieces)]
    assert answers[:-1] == [Say()] * len(pieces)
    assert answers[-1] == Say(b"sh agent", eof=True)
    assert talk.heard(Stream.STDOUT, b"\nmore\n") == Say()


def test_no_python_may_be_told_in_one_piece_with_the_ready_mark() -> None:
    talk = AgentConversation(asking("sesame"), NONCE, b"agent", sh_payload=lambda: b"sh agent")
    told = f"FLEETAUDIT-READY {NONCE}\n\nFLEETAUDIT-SH {NONCE}\n".encode()
    assert talk.heard(Stream.STDOUT, told) == Say(b"5\nagent\n#\nsh agent", eof=True)


@pytest.mark.parametrize(
    ("become", "message"),
    [
        (Become("runas"), "unknown become method 'runas'"),
        (Become("sudo", "-i"), "not a user name"),
        (Become("su", "x; reboot"), "not a user name"),
        (Become("sudo", "root", Secret("two\nlines")), "line break"),
        (Become("sudo", "root", Secret("")), "empty"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(become: Become, message: str) -> None:
    with pytest.raises(BecomeError, match=message):
        command(replace(HOST, become=become), NONCE)


# ---------------------------------------------------------------- too much, too little, wrong


def test_a_host_that_talks_too_much_is_cut_off() -> None:
    talk = AgentConversation(HOST, NONCE, b"agent", max_output=10)
    assert talk.heard(Stream.STDOUT, b"x" * 10) == Say()
    with pytest.raises(OutputError, match="more than 10 bytes on stdout"):
        talk.heard(Stream.STDOUT, b"x")
    with pytest.raises(OutputError, match="on stderr"):
        talk.heard(Stream.STDERR, b"x" * (2 << 20))


def framed(body: bytes, nonce: str = NONCE) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return (
        f"\nFLEETAUDIT-BEGIN {nonce} {len(body)} {digest}\n".encode()
        + body
        + f"\nFLEETAUDIT-END {nonce}\n".encode()
    )


GOOD = framed(b"{}")
CRASH = b'{"schema":"fleetaudit.agent-error/1","error":"KeyError: \'x\\u001b\'","where":"agent.py:7"}'


def test_one_whole_frame_is_the_answer() -> None:
    assert read_frame(NONCE, Reply(0, b"motd\n" + GOOD + b"bye", b"")) == b"{}"
    assert read_frame(NONCE, Reply(0, framed(b"[1]", "other") + GOOD, b"")) == b"{}"


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "kind", "message"),
    [
        (-1, GOOD, b"", ConnectError, "connection lost"),
        (0, b"", b"", OutputError, "no answer from the agent, exit status 0"),
        (1, b"", b"boom\x1b[31m\n", OutputError, r"exit status 1: boom\\u001b\[31m$"),
        (0, framed(b"{}", "other"), b"", OutputError, "another run"),
        (0, GOOD + GOOD, b"", OutputError, "more than one frame"),
        (0, GOOD.replace(b"{}", b"{ "), b"", OutputError, "sha256"),
        (0, GOOD[:-3], b"", OutputError, "end mark"),
        (0, framed(b"x" * 99)[:-80], b"", OutputError, "cut short: .* of 99 bytes"),
        (1, GOOD, b"late\n", OutputError, "ended with status 1: late"),
        (0, framed(CRASH), b"", OutputError, r"the agent failed: KeyError: 'x\\u001b' in agent.py:7"),
        (0, framed(CRASH[:-9]), b"", OutputError, "cannot be read"),
        (127, f"FLEETAUDIT-NO-INTERPRETER {NONCE}\n".encode(), b"", InterpreterError, "no Python"),
        (127, b"FLEETAUDIT-NO-INTERPRETER x\n", b"sh: not found\n", OutputError, "exit status 127"),
        (1, b"", b"sudo: a password is required\n", BecomeError, "none was given"),
        (1, b"", b"joe is not in the sudoers file.\n", BecomeError, "may not: joe is not"),
        (1, b"", b"sudo: sorry, you must have a tty to run sudo\n", BecomeError, "terminal"),
        (1, b"", b"sudo: unknown user joe\n", BecomeError, "no such user"),
        (127, b"", b"sh: 1: exec: sudo: not found\n", BecomeError, "not installed"),
        (127, b"", b"env: 'sudo': No such file or directory\n", BecomeError, "not installed"),
        (1, b"", b"doas: Operation not permitted\n", BecomeError, "may not"),
        (1, b"", b"doas: doas is not enabled, /etc/doas.conf: No such file\n", BecomeError, "may not"),
        (1, b"", f"FLEETAUDIT-SU-UNASKED {NONCE}\n".encode(), BecomeError, "log in as root"),
    ],
)
def test_anything_else_says_what_is_wrong(
    status: int, stdout: bytes, stderr: bytes, kind: type[HostError], message: str
) -> None:
    with pytest.raises(HostError, match=message) as caught:
        read_frame(NONCE, Reply(status, stdout, stderr))
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_frame_is_never_an_answer(place: int, byte: int) -> None:
    damaged = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        body = read_frame(NONCE, Reply(0, damaged, b""))
    except OutputError:
        return
    assert body == b"{}", "only the noise around it was damaged"
    assert damaged[1:-1] == GOOD[1:-1] or place in (0, len(GOOD) - 1)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(-1, 255))
def test_any_answer_is_a_frame_or_a_host_error(stdout: bytes, stderr: bytes, status: int) -> None:
    with pytest.raises(HostError) as caught:
        read_frame(NONCE, Reply(status, stdout, stderr))
    assert str(caught.value).isprintable()


def test_the_agent_is_silent_about_its_limits() -> None:
    assert AgentConfig(nonce=NONCE).max_output < launch.MAX_OUTPUT, (
        "the agent stops before the controller does"
    )

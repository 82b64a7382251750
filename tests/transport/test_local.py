from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.conversation import Conversation, Reply
from fleetaudit.errors import BecomeError, ConnectError, DeadlineError, HostError, OutputError
from fleetaudit.model import Host
from fleetaudit.transport.local import LocalTransport
from tests import running
from tests.transport.conversations import ASKING, Dialogue, Limited, Send, Silent

HOST = Host("localhost", "localhost", transport="local")


def run(command: str, conversation: Conversation | None = None, seconds: float = 20) -> Reply:
    return LocalTransport().run(HOST, command, conversation or Send(), time.monotonic() + seconds)


def children() -> set[str]:
    """This process's children, zombies too."""
    return {
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    }


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = children(), set(Path("/proc/self/fd").iterdir()), running.threads()
    yield
    assert children() <= before[0]
    assert set(Path("/proc/self/fd").iterdir()) <= before[1]
    assert running.threads() <= before[2]


def is_gone(file: Path) -> bool:
    """Whether the process whose number a command wrote to this file has ended."""
    with contextlib.suppress(OSError, IndexError):
        state = Path(f"/proc/{file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0]
        return state in "ZX"
    return True


def test_both_streams_and_the_exit_status() -> None:
    assert run("cat; echo oops >&2; exit 3", Send(b"hello")) == Reply(3, b"hello", b"oops\n")


def test_a_signal_is_reported_as_a_shell_would() -> None:
    assert run("kill -9 $$").exit_status == 137


def test_a_dialogue_answers_what_it_hears() -> None:
    reply = run(ASKING, Dialogue())
    assert reply == Reply(7, b"got 0\ngot 1\ngot 2\ngot 3\n", b"ask 0\nask 1\nask 2\nask 3\n")
    with pytest.raises(BecomeError):
        run("echo ask 9 >&2; cat", Dialogue())


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300_000))
def test_whatever_is_sent_comes_back_on_both_streams(data: bytes) -> None:
    reply = run("tee /dev/stderr", Send(data))
    assert (reply.stdout, reply.stderr) == (data, data)


def test_a_command_that_reads_nothing_may_end_first() -> None:
    assert run("echo done", Send(bytes(4 << 20))) == Reply(0, b"done\n", b"")
    assert run("exec 0<&-; sleep 0.1; echo done", Send(bytes(4 << 20))).stdout == b"done\n"


def test_a_command_may_outlive_its_output() -> None:
    assert run("exec >&- 2>&-; sleep 0.2; exit 5").exit_status == 5


def test_an_error_of_the_conversation_ends_the_command(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        run(f"echo $$ > {tmp_path}/pid; yes", Limited())
    assert is_gone(tmp_path / "pid")


@pytest.mark.parametrize("command", ["sleep 30", "sleep 30 & wait", "exec >&- 2>&-; sleep 30"])
def test_a_deadline_ends_the_whole_group(tmp_path: Path, command: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        run(f"echo $$ > {tmp_path}/pid; {command}", Send(), 0.4)
    assert 0.4 <= time.monotonic() - began < 1.4
    assert is_gone(tmp_path / "pid")


def test_a_background_process_does_not_stay_behind(tmp_path: Path) -> None:
    run(f"sleep 30 <&- >&- 2>&- & echo $! > {tmp_path}/pid")
    end = time.monotonic() + 5
    while not is_gone(tmp_path / "pid"):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_cancel_from_another_thread(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    local = LocalTransport()
    errors: list[HostError] = []

    def work() -> None:
        try:
            local.run(HOST, f"echo $$ > {tmp_path}/pid; echo; sleep 30", Silent(), time.monotonic() + 20)
        except HostError as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    wait_until((tmp_path / "pid").exists, "the command does not start")
    local.cancel()
    worker.join(2)
    assert not worker.is_alive()
    assert [type(error) for error in errors] == [ConnectError]
    assert is_gone(tmp_path / "pid")
    with pytest.raises(ConnectError, match="cancelled"):
        local.run(HOST, "true", Send(), time.monotonic() + 5)


def test_a_deadline_in_the_past_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeadlineError):
        run(f"touch {tmp_path}/started", Send(), -1)
    assert not list(tmp_path.iterdir())


def test_the_user_runs_what_the_caller_may(tmp_path: Path) -> None:
    expected = subprocess.run(["id", "-u"], check=True, capture_output=True).stdout
    assert run("id -u").stdout == expected
    assert os.geteuid() == int(expected)

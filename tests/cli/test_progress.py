"""What is said while hosts are asked."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fleetaudit.cli.progress import JsonLines, note
from fleetaudit.cli.standing import Counts, Standing
from fleetaudit.model import HostStatus
from tests.cli.standin import Fleet


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_standing_of_a_run() -> None:
    clock = FakeClock()
    standing = Standing(clock)
    standing.begin(10)
    assert standing.counts == Counts(10, 0, 0, 0)
    assert (standing.seconds_left, standing.slowest) == (None, ())
    for name in ("a", "b", "c", "d", "e"):
        standing.host_began(name)
        clock.now += 1
    standing.host_ended("b", HostStatus.PARTIAL)
    standing.host_ended("f", HostStatus.NOT_ATTEMPTED)  # never begun
    assert standing.counts == Counts(10, 2, 1, 4)
    assert standing.rate == pytest.approx(2 / 5)
    assert standing.seconds_left == pytest.approx(8 / (2 / 5))
    assert list(standing.slowest) == [("a", 5.0)]  # the others have not been long
    clock.now += 4
    assert list(standing.slowest) == [("a", 9.0), ("c", 7.0), ("d", 6.0)]
    assert note(standing) == "1 failed, 4 under way, 0.2/s, 0:36 left, a 9 s, c 7 s, d 6 s"


def test_a_host_name_is_shown_without_its_control_characters() -> None:
    clock = FakeClock()
    standing = Standing(clock)
    standing.host_began("a\x1b[2J")
    clock.now += 60
    assert "\x1b" not in note(standing)
    assert "a\\u001b[2J 60 s" in note(standing)


def test_json_lines() -> None:
    clock = FakeClock()
    lines: list[str] = []
    now = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
    observer = JsonLines("run1", lines.append, clock, lambda: now)
    observer.run_started(3)
    observer.host_started("a\x1b\u202e")
    observer.host_finished("a\x1b\u202e", HostStatus.TIMEOUT, "no\x1b", 1.23456)
    observer.host_started("b")
    observer.host_finished("b", HostStatus.PARTIAL, "", 0.5)
    observer.run_finished()
    time = "2026-11-22T10:00:00.000Z"
    name = "a\\u001b\\u202e"
    counts = [(0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 0)]
    events: list[dict[str, Any]] = [
        {"event": "run_started", "schema": "fleetaudit.progress/1", "run": "run1"},
        {"event": "host_started", "host": name},
        {
            "event": "host_finished",
            "host": name,
            "status": "timeout",
            "detail": "no\\u001b",
            "seconds": 1.235,
        },
        {"event": "host_started", "host": "b"},
        {"event": "host_finished", "host": "b", "status": "answered", "detail": "", "seconds": 0.5},
        {"event": "run_finished", "run": "run1"},
    ]
    assert [json.loads(line) for line in lines] == [
        {**event, "time": time, "hosts": 3, "done": done, "failed": failed, "in_flight": under_way}
        for event, (done, failed, under_way) in zip(events, counts, strict=True)
    ]
    assert all(line.isascii() and "\n" not in line for line in lines)


def test_json_lines_from_many_threads_keep_count() -> None:
    lines: list[str] = []
    observer = JsonLines("run1", lines.append)
    observer.run_started(200)

    def work(first: int) -> None:
        for number in range(first, first + 25):
            observer.host_started(f"h{number}")
            observer.host_finished(f"h{number}", HostStatus.OK, "", 0.0)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observer.run_finished()
    done = [line["done"] for line in map(json.loads, lines)]
    assert done == sorted(done)
    last = json.loads(lines[-1])
    assert (last["done"], last["in_flight"], last["failed"]) == (200, 0, 0)


# ---------------------------------------------------------------- the command


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, 4)


def test_the_command_writes_json_lines_on_standard_error(fleet: Fleet) -> None:
    fleet.fail("h02")
    done = fleet.run("audit", "-v", "-q", "--progress", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines].count("host_finished") == 4
    assert (lines[0]["event"], lines[0]["hosts"]) == ("run_started", 4)
    assert lines[0]["run"] == lines[-1]["run"] == fleet.report["run"]["id"]
    assert (lines[-1]["event"], lines[-1]["done"], lines[-1]["failed"]) == ("run_finished", 4, 1)
    ended = {line["host"]: line["status"] for line in lines if line["event"] == "host_finished"}
    assert ended == dict.fromkeys(fleet.names, "answered") | {"h02": "bad_output"}


def test_an_interrupted_run_says_that_it_is_finished(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    fleet.hold(*fleet.names)
    running = fleet.start("audit", "--progress", "json")
    asked = fleet.folder / "asked"
    wait_until(lambda: asked.exists() and len(asked.read_text().split()) == 4, "not asked")
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=30)
    fleet.heal()
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert (lines[-1]["event"], lines[-1]["done"], lines[-1]["failed"]) == ("run_finished", 4, 4)


@pytest.mark.parametrize(
    ("more", "drawn"),
    [((), True), (("--progress", "bar"), True), (("--progress", "none"), False), (("-q",), False)],
)
def test_a_bar_is_drawn_on_a_terminal_only(fleet: Fleet, more: tuple[str, ...], drawn: bool) -> None:
    assert "asking hosts" not in fleet.run("audit", *more).stderr
    shown = on_a_terminal(fleet, fleet.command("audit", *more))
    assert ("asking hosts" in shown) is drawn
    assert ("4/4" in shown) is drawn


def on_a_terminal(fleet: Fleet, command: list[str]) -> str:
    """What the command writes on its standard error if that is a terminal."""
    ours, theirs = pty.openpty()
    environment = fleet.environment | {"TERM": "xterm", "COLUMNS": "120"}
    running = subprocess.Popen(
        command, cwd=fleet.folder, env=environment, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    end = time.monotonic() + 30
    while time.monotonic() < end and select.select([ours], [], [], end - time.monotonic())[0]:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            break
    os.close(ours)
    assert running.wait(30) == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())

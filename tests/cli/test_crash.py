"""The worst moments to end: kill -9, a full or read-only disk, nobody who reads."""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.standin import Fleet

FORKS = 3
# Each slot has a host under way, and one whose answer waits to be written; one is just being written.
IN_FLIGHT = 2 * FORKS + 1


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, 24)


def in_own_mounts(fleet: Fleet, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount what it likes. `collect` and `audit` are the commands."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    commands = [f'{verb}() {{ {shlex.join(fleet.command(verb))} "$@"; }}' for verb in ("collect", "audit")]
    return fleet.shell(["unshare", "-m", "bash", "-c", "\n".join([*commands, script])])


def answered(fleet: Fleet) -> set[str]:
    """Hosts whose whole line is in the journal."""
    whole = fleet.journal.read_bytes().rpartition(b"\n")[0].splitlines()
    return {json.loads(line)["host"]["name"] for line in whole}


def test_killed_at_any_moment_a_run_loses_at_most_what_was_in_flight(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    chance = secrets.SystemRandom()
    resume: list[str] = []
    total: Counter[str] = Counter()
    log = fleet.folder / "asked"
    kills = 0
    for _ in range(5):
        before = answered(fleet) if resume else set()
        running = fleet.start("collect", "-f", str(FORKS), *resume)
        some = chance.randint(1, 5)
        wait_until(
            lambda some=some, running=running: (
                (log.exists() and log.read_text().count("\n") >= some) or running.poll() is not None
            ),
            "nobody was asked",
        )
        time.sleep(chance.random() / 20)  # any moment will do
        running.kill()
        running.communicate(timeout=30)
        asked = fleet.asked()
        total += asked
        assert not asked.keys() & before
        if running.returncode == 0:
            break
        kills += 1
        assert before <= answered(fleet)
        assert not (fleet.folder / "s.jsonl").exists()
        resume = ["--resume", *fleet.runs]
    else:
        before = answered(fleet)
        done = fleet.run("collect", *resume)
        assert done.returncode == 0, done.stderr
        asked = fleet.asked()
        assert not asked.keys() & before
        total += asked
    assert kills
    assert fleet.statuses("collect") == dict.fromkeys(fleet.names, "ok")
    assert total.total() <= len(fleet.names) + kills * IN_FLIGHT
    assert fleet.runs == []
    assert [path.name for path in fleet.folder.iterdir() if path.name.startswith(".")] == []


def test_a_full_state_directory_ends_the_run_clearly_and_it_can_go_on(fleet: Fleet) -> None:
    done = in_own_mounts(
        fleet,
        "mkdir state && mount -t tmpfs -o size=64k tmpfs state || exit 99\n"
        "collect -f 2; echo first $?; ls s.jsonl\n"
        "cat asked | sort -u | wc -l; rm asked\n"
        "mount -o remount,size=8m state; collect --resume $(ls state/fleetaudit/runs); echo second $?",
    )
    lines = done.stdout.split()
    assert (lines[:2], lines[3:]) == (["first", "3"], ["second", "0"]), done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: journal of the run ")
    assert errors[0].endswith("/journal.jsonl: No space left on device")
    assert "go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert fleet.statuses("collect") == dict.fromkeys(fleet.names, "ok")
    again = fleet.asked()
    assert len(again) < len(fleet.names)  # those on the disk were not asked again
    assert int(lines[2]) + len(again) <= len(fleet.names) + 5


def test_a_state_directory_full_from_the_start(fleet: Fleet) -> None:
    done = in_own_mounts(
        fleet,
        "mkdir state && mount -t tmpfs -o size=64k tmpfs state && head -c 1M /dev/zero >state/x; audit -q",
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device; the run is kept in a temporary directory instead" in done.stderr
    assert fleet.statuses("audit") == dict.fromkeys(fleet.names, "ok")


@pytest.mark.parametrize("verb", ["collect", "audit"])
def test_a_full_disk_for_the_output_leaves_no_torn_file_and_nothing_is_lost(fleet: Fleet, verb: str) -> None:
    target = {"collect": ("--output=out/x", "--output=s.jsonl"), "audit": ("-o json=out/x", "-o text=t")}[
        verb
    ]
    done = in_own_mounts(
        fleet,
        "mkdir out && mount -t tmpfs -o size=8k tmpfs out || exit 99\n"
        f"{verb} {target[0]}; echo first $?; ls -A out; rm asked\n"
        f"{verb} {target[1]} --resume $(ls state/fleetaudit/runs); echo second $?",
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("first", "second", ".", "x"))]
    assert said == ["first 3", "second 0"], done  # and no file listed between
    assert "error: out/x: No space left on device" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert fleet.asked() == Counter()  # everything was on the disk already
    assert fleet.statuses(verb) == dict.fromkeys(fleet.names, "ok")
    assert fleet.runs == []


@pytest.mark.parametrize(
    "command", ["collect --output=out/x", "audit -o json=out/x", "collect --retry-file=out/x"]
)
def test_a_read_only_output_directory_is_refused_before_anything_is_asked(fleet: Fleet, command: str) -> None:
    done = in_own_mounts(fleet, f"mkdir out && mount -t tmpfs -o ro tmpfs out && {command}")
    assert (done.returncode, done.stderr, done.stdout) == (2, "error: out cannot be written\n", "")
    assert fleet.asked() == Counter()


@pytest.mark.parametrize(
    ("verb", "more", "code", "message"),
    [
        ("audit", "", 2, "error: standard output is closed (pass -q, or -o FORMAT=PATH)"),
        ("audit", "-q", 0, ""),
        ("collect", "--output -", 2, "error: standard output is closed (name a file: --output FILE)"),
        ("collect", "", 0, ""),
    ],
)
def test_closed_standard_output(fleet: Fleet, verb: str, more: str, code: int, message: str) -> None:
    done = fleet.shell(["sh", "-c", f"{shlex.join(fleet.command(verb))} {more} >&-"])
    assert done.returncode == code, done.stderr
    assert message in done.stderr.splitlines() or not message
    assert bool(fleet.asked()) is (code == 0)
    if code == 0:
        assert fleet.statuses(verb) == dict.fromkeys(fleet.names, "ok")


def test_closed_standard_error_and_all_of_them_closed(fleet: Fleet) -> None:
    for closed in ("2>&-", "<&- >&- 2>&-"):
        done = fleet.shell(["sh", "-c", f"{shlex.join(fleet.command('audit'))} -q {closed}"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert fleet.statuses("audit") == dict.fromkeys(fleet.names, "ok")


def test_a_reader_that_goes_away_and_an_output_that_is_full(fleet: Fleet) -> None:
    collect = f"{shlex.join(fleet.command('collect'))} --output -"
    for sink in ("| true", ">/dev/full"):
        done = fleet.shell(["bash", "-c", f"{collect} {sink}; exit ${{PIPESTATUS[0]}}"])
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
        assert ("error: cannot write: " in done.stderr) is (sink == ">/dev/full")
        (run_id,) = fleet.runs
        assert f"go on with --resume {run_id}" in done.stderr
        fleet.asked()
        assert fleet.run("collect", "--resume", run_id).returncode == 0
        assert fleet.asked() == Counter()


@pytest.mark.parametrize("more", ["--progress json", "-v", ""])
def test_messages_that_nobody_can_read_change_nothing(fleet: Fleet, more: str) -> None:
    audit = f"{shlex.join(fleet.command('audit'))} {more}"
    for sink in ("2>/dev/full", "2> >(true)"):
        done = fleet.shell(["bash", "-c", f"{audit} {sink}"])
        assert done.returncode == 0, done
        assert fleet.statuses("audit") == dict.fromkeys(fleet.names, "ok")

"""Runs that end early, and what goes on with them; runs that meet."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetaudit.cli import main
from tests.cli.standin import Fleet

VERBS = ("audit", "collect")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, 6)


def interrupted(fleet: Fleet, wait_until: Callable[..., None], verb: str, *more: str) -> str:
    """Have h00 to h02 answer and interrupt the run while h03 is asked; returns its id."""
    fleet.hold("h03")
    running = fleet.start(verb, "-f", "1", *more)
    wait_until(
        lambda: fleet.folder.joinpath("hold-h03").exists() and "h03" in _asked_so_far(fleet), "not asked"
    )
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=30)
    assert running.returncode == 130, stderr
    found = re.search(r"kept in (\S+); go on with --resume (\S+)$", stderr, re.MULTILINE)
    assert found, stderr
    assert Path(found[1]) == fleet.journal
    assert fleet.runs == [found[2]]
    fleet.heal()
    assert fleet.asked() == Counter(fleet.names[:4])
    return found[2]


def _asked_so_far(fleet: Fleet) -> str:
    path = fleet.folder / "asked"
    return path.read_text() if path.exists() else ""


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize("verb", VERBS)
def test_an_interrupted_run_goes_on_with_those_who_have_not_answered(
    fleet: Fleet, wait_until: Callable[..., None], verb: str
) -> None:
    run_id = interrupted(fleet, wait_until, verb, "--retry-file", "again")
    assert (fleet.folder / "again").read_text().split() == fleet.names[3:]
    assert fleet.statuses(verb) == dict.fromkeys(fleet.names[:3], "ok") | dict.fromkeys(
        fleet.names[3:], "not_attempted"
    )
    done = fleet.run(verb, "--resume", run_id, "--retry-file", "again")
    assert done.returncode == 0, done.stderr
    assert f"run {run_id}: 3 of 6 hosts to ask" in done.stderr
    assert fleet.asked() == Counter(fleet.names[3:])
    assert fleet.statuses(verb) == dict.fromkeys(fleet.names, "ok")
    assert (fleet.folder / "again").read_text() == ""
    assert fleet.runs == []


def test_the_report_is_that_of_one_run(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    run_id = interrupted(fleet, wait_until, "audit")
    before = fleet.report
    assert before["run"]["complete"] is False
    fleet.run("audit", "--resume", run_id)
    after = fleet.report
    assert after["run"]["complete"] is True
    assert after["run"]["id"] == run_id
    assert after["run"]["started_at"] == before["run"]["started_at"]
    received = [{host["name"]: host["received_at"] for host in report["hosts"]} for report in (before, after)]
    assert {name for name in fleet.names if received[0][name] == received[1][name]} == set(fleet.names[:3])
    fleet.run("audit")
    assert fleet.report["results"] == after["results"]


def test_what_one_command_began_the_other_may_end(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    run_id = interrupted(fleet, wait_until, "collect")
    assert fleet.run("audit", "--resume", run_id).returncode == 0
    assert fleet.asked() == Counter(fleet.names[3:])
    assert fleet.statuses("audit") == dict.fromkeys(fleet.names, "ok")


def test_a_host_that_failed_is_asked_again_and_one_that_fails_again_is_reported(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    fleet.fail("h01")
    run_id = interrupted(fleet, wait_until, "collect")
    fleet.fail("h01", "h05")
    assert fleet.run("collect", "--resume", run_id, "--retry-file", "again").returncode == 3
    assert fleet.asked() == Counter(["h01", "h03", "h04", "h05"])
    assert {name for name, status in fleet.statuses("collect").items() if status != "ok"} == {"h01", "h05"}
    assert (fleet.folder / "again").read_text() == "h01\nh05\n"
    assert fleet.runs == []  # it has ended: the retry file is what goes on from here


@pytest.mark.parametrize("verb", VERBS)
def test_a_torn_last_line_is_dropped(fleet: Fleet, wait_until: Callable[..., None], verb: str) -> None:
    run_id = interrupted(fleet, wait_until, verb)
    lines = fleet.journal.read_bytes().splitlines(keepends=True)
    fleet.journal.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    assert fleet.run(verb, "--resume", run_id).returncode == 0
    assert fleet.asked() == Counter(fleet.names[2:])
    assert fleet.statuses(verb) == dict.fromkeys(fleet.names, "ok")


# ---------------------------------------------------------------- refusals


def refused(fleet: Fleet, *args: str) -> str:
    """The one message of a run that is refused before anything is asked or written."""
    (fleet.folder / "s.jsonl").unlink(missing_ok=True)
    done = fleet.run("collect", *args)
    assert done.returncode == 2, done.stderr
    assert fleet.asked() == Counter()
    assert not (fleet.folder / "s.jsonl").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_an_unknown_run_is_refused_and_those_that_exist_are_named(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    assert refused(fleet, "--resume", "nope").endswith("(there is no run to go on with)")
    run_id = interrupted(fleet, wait_until, "collect")
    line = refused(fleet, "--resume", "nope")
    assert "--resume nope: no such run in " in line
    assert line.endswith(f"(runs to go on with: {run_id})")
    assert "not a run id" in refused(fleet, "--resume", "../runs")


@pytest.mark.parametrize(
    ("names", "groups", "message"),
    [
        (["h00", "h01", "h02", "h03", "h04"], ["web"], "not among the targets now: h05 ("),
        (
            ["h00", "h01", "h02", "h03", "h04", "h05", "new"],
            ["web"],
            "not among the targets of that run: new (",
        ),
        (
            ["h00", "h01", "h02", "h03", "h04", "h05"],
            ["web", "db"],
            "of other groups, variables or boundary than in that run: h00, h01, h02, h03, h04, 1 more (",
        ),
    ],
)
def test_other_targets_are_refused_by_name(
    fleet: Fleet, wait_until: Callable[..., None], names: list[str], groups: list[str], message: str
) -> None:
    run_id = interrupted(fleet, wait_until, "collect")
    fleet.write_inventory(names, groups)
    assert f"--resume {run_id}: {message}" in refused(fleet, "--resume", run_id)
    fleet.write_inventory(fleet.names)
    assert fleet.run("collect", "--resume", run_id).returncode == 0


def test_a_damaged_run_is_refused_with_the_place(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    run_id = interrupted(fleet, wait_until, "collect")
    whole = fleet.journal.read_bytes()
    fleet.journal.write_bytes(b"{}\n" + whole)
    assert f"{fleet.journal}:1: not a line of a journal" in refused(fleet, "--resume", run_id)
    stranger = whole.splitlines()[0].replace(b'"h00"', b'"h99"')
    fleet.journal.write_bytes(whole + stranger + b"\n")
    assert "not among the targets now: h99" in refused(fleet, "--resume", run_id)
    fleet.journal.write_bytes(whole)
    record = fleet.journal.with_name("run.json")
    good = record.read_bytes()
    for bad in (b"", b"[]", b"{", b'{"schema": 1}', good.replace(b"run/1", b"run/9")):
        record.write_bytes(bad)
        assert f"--resume {run_id}: {record}: " in refused(fleet, "--resume", run_id)
    record.unlink()
    assert "No such file" in refused(fleet, "--resume", run_id)


def test_a_run_in_use_is_refused(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    run_id = interrupted(fleet, wait_until, "collect")
    descriptor = os.open(fleet.journal, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "the run is in use by another process" in refused(fleet, "--resume", run_id)
    finally:
        os.close(descriptor)
    assert fleet.run("collect", "--resume", run_id).returncode == 0


def test_runs_of_one_state_directory_do_not_overlap(fleet: Fleet, wait_until: Callable[..., None]) -> None:
    fleet.hold("h00")
    first = fleet.start("collect")
    wait_until(lambda: sorted(_asked_so_far(fleet).split()) == fleet.names, "not asked")
    (fleet.folder / "asked").unlink()
    for verb in VERBS:
        second = fleet.run(verb)
        assert second.returncode == 2
        assert re.fullmatch(
            rf"error: another run is under way in {fleet.folder}/state/fleetaudit: process {first.pid}, "
            r"since \S+Z \(wait for it, or give this run a directory of its own with --state DIRECTORY\)\n",
            second.stderr,
        )
    assert fleet.asked() == Counter()
    local = fleet.shell([*fleet.command("collect")[:3], "collect", "--local", "--output", "l.jsonl"])
    assert local.returncode == 0, local.stderr  # asks no other host: harms none
    fleet.heal()
    first.communicate(timeout=30)
    assert first.returncode == 0
    assert fleet.run("collect").returncode == 0


def test_runs_with_state_directories_of_their_own_may_overlap(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    fleet.hold("h00")
    first = fleet.start("audit")
    wait_until(lambda: sorted(_asked_so_far(fleet).split()) == fleet.names, "not asked")
    done = fleet.run("collect", "--state", "elsewhere", "-l", "h01")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (fleet.folder / "elsewhere").iterdir()) == ["lock", "runs"]
    fleet.heal()
    first.communicate(timeout=30)
    assert first.returncode == 0


# ---------------------------------------------------------------- pace and retry files


@pytest.mark.parametrize(("allowed", "asked"), [("0", 2), ("1", 4), ("16.6%", 2), ("17%", 4), ("100%", 6)])
def test_the_stop_switch_makes_a_run_incomplete_and_it_can_go_on(
    fleet: Fleet, allowed: str, asked: int
) -> None:
    fleet.fail("h01", "h03")
    stop = ("--max-fail", allowed, "-f", "1", "--require-coverage", "0")
    done = fleet.run("audit", *stop)
    assert done.returncode == (0 if asked == 6 else 3), done.stderr
    assert fleet.asked() == Counter(fleet.names[:asked])
    assert fleet.report["run"]["complete"] is (asked == 6)
    assert fleet.report["summary"]["exit_code"] == done.returncode
    for name in fleet.names[asked:]:
        host = fleet.facts("audit")[name]
        assert host["status"] == "not_attempted"
        assert "more than --max-fail allows" in host["detail"]
    if asked == 6:
        assert fleet.runs == []
        return
    fleet.heal()
    assert fleet.run("audit", "--resume", fleet.runs[0]).returncode == 0
    failed = ["h01"] if asked == 2 else ["h01", "h03"]
    assert fleet.asked() == Counter([*failed, *fleet.names[asked:]])


def test_a_retry_file_names_who_did_not_answer_and_limits_the_next_run(fleet: Fleet) -> None:
    fleet.fail("h01", "h04")
    for verb in VERBS:
        assert fleet.run(verb, "--retry-file", "again").returncode == 3
        assert (fleet.folder / "again").read_text() == "h01\nh04\n"
    fleet.heal()
    fleet.asked()
    done = fleet.run("audit", "-l", "@again", "--retry-file", "again")
    assert done.returncode == 0, done.stderr
    assert fleet.asked() == Counter(["h01", "h04"])
    assert (fleet.folder / "again").read_text() == ""
    assert "again: no host is named in it" in refused(fleet, "-l", "@again")


def test_a_limit_file_that_names_nobody_is_located(fleet: Fleet) -> None:
    (fleet.folder / "names").write_text("h00\n\n  h09 \n")
    assert "error: names:3: no host or group is called 'h09' (did you mean h0" in refused(
        fleet, "-l", "@names"
    )
    assert "missing: No such file" in refused(fleet, "-l", "@missing")


def test_a_retry_file_that_cannot_be_written_is_said(fleet: Fleet) -> None:
    assert "/nowhere is no directory" in refused(fleet, "--retry-file", "/nowhere/x")
    assert "two outputs go to" in refused(fleet, "--retry-file", "s.jsonl")
    done = fleet.run("collect", "--retry-file", "/dev/full")
    assert done.returncode == 0  # nobody failed: nothing to write
    fleet.fail("h00")
    done = fleet.run("audit", "--retry-file", "/dev/full")
    assert done.returncode == 3
    assert "error: /dev/full: No space left on device" in done.stderr
    assert fleet.statuses("audit")["h01"] == "ok"


@pytest.mark.parametrize(
    "bad",
    [
        *[("--max-fail", text) for text in ("x", "-1", "101%", "1.5", "nan%", "")],
        *[("--serial", text) for text in ("0", "0%", "-3", "ten")],
        *[("--throttle", text) for text in ("0", "-1", "nan", "inf", "fast")],
        ("--progress", "dots"),
        ("--retries", "-1"),
    ],
    ids=" ".join,
)
def test_values_that_cannot_be_are_one_message(
    bad: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "-i", "i.yaml", "--output", "s.jsonl", *bad]) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("Error: ")]
    assert line.startswith(f"Error: Invalid value for '{bad[0]}'")


def test_batches_and_a_throttle_ask_everybody(fleet: Fleet) -> None:
    done = fleet.run("audit", "--serial", "34%", "--throttle", "100")
    assert done.returncode == 0, done.stderr
    options = fleet.report["run"]["options"]
    assert (options["serial"], options["throttle"]) == ("34%", 100.0)
    assert fleet.asked() == Counter(fleet.names)


# ---------------------------------------------------------------- the state directory


def test_a_state_directory_that_cannot_be_used(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (fleet.folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(fleet.folder / "tmp"))
    (fleet.folder / "state").write_text("in the way")
    done = fleet.run("collect")
    assert done.returncode == 0, done.stderr
    assert "warning: state directory " in done.stderr
    assert "temporary directory" in done.stderr
    fleet.asked()
    assert "(name another directory with --state)" in refused(fleet, "--state", "state/x")
    assert "--resume x: state directory " in refused(fleet, "--resume", "x")
    assert list((fleet.folder / "tmp").iterdir()) == []


def test_the_state_is_private_and_a_run_leaves_only_the_lock(fleet: Fleet) -> None:
    previous = os.umask(0)
    try:
        assert fleet.run("audit").returncode == 0
    finally:
        os.umask(previous)
    state = fleet.folder / "state" / "fleetaudit"
    assert sorted(path.name for path in state.iterdir()) == ["lock", "runs"]
    assert [oct(path.stat().st_mode & 0o777) for path in (state, state / "runs", state / "lock")] == [
        "0o700",
        "0o700",
        "0o600",
    ]
    assert fleet.runs == []


def test_the_record_of_a_run_holds_no_variable_of_the_inventory(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    interrupted(fleet, wait_until, "collect")
    record = json.loads(fleet.journal.with_name("run.json").read_text())
    assert sorted(record["targets"]) == fleet.names
    assert "python" not in json.dumps(record)
    assert fleet.journal.with_name("run.json").stat().st_mode & 0o777 == 0o600


def test_runs_that_nobody_goes_on_with_are_deleted_in_the_end(
    fleet: Fleet, wait_until: Callable[..., None]
) -> None:
    run_id = interrupted(fleet, wait_until, "collect")
    journal = fleet.journal
    assert fleet.run("audit").returncode == 0
    assert fleet.runs == [run_id]
    three_days_ago = journal.stat().st_mtime - 3 * 86_400
    os.utime(journal, (three_days_ago, three_days_ago))
    assert fleet.run("audit", "--keep-runs", "4").returncode == 0
    assert fleet.runs == [run_id]
    with journal.open("rb") as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        assert fleet.run("audit", "--keep-runs", "2").returncode == 0
        assert fleet.runs == [run_id]
    odd = journal.parent.with_name("lost+found")
    odd.mkdir()
    assert fleet.run("audit", "--keep-runs", "2").returncode == 0
    assert fleet.runs == ["lost+found"]

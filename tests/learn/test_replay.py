"""What a change of policies changes on recorded hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.derive import derive
from fleetaudit.model import Outcome, Verdict
from fleetaudit.policy.replay import Kind, Replay
from fleetaudit.policy.shorthand import line_of
from fleetaudit.snapshot import decode_line
from tests.build import policy

WEB = "tcp 0.0.0.0:80 /usr/sbin/nginx(root)"
OTHER = "tcp 0.0.0.0:81 /usr/sbin/apache2(root)"
RULE = "- id: {0}\n  listeners: {{port: {1}}}\n  allow_owners: [{{exe: {2}}}]\n"


def host(name: str, *listeners: str, gaps: tuple[str, ...] = ()) -> Outcome:
    return derive(decode_line(json.dumps(line_of(name, listeners, gaps, {})).encode()))


def replay(before: str, after: str, *outcomes: Outcome) -> Replay:
    found = Replay([policy(before)], [policy(after)])
    for outcome in outcomes:
        found.add(outcome)
    return found


def told(found: Replay) -> dict[tuple[str, str], tuple[Kind, Verdict | None, Verdict | None]]:
    return {(flip.host, flip.rule): (flip.kind, flip.before, flip.after) for flip in found.flips}


def rule(name: str = "r", port: object = 80, exe: str = "/usr/sbin/nginx") -> str:
    return RULE.format(name, port, exe)


def test_the_same_policies_flip_nothing() -> None:
    found = replay(rule(), rule(), host("a", WEB), host("b", gaps=("not_root",)))
    assert (found.flips, found.stops, found.added, found.removed) == ([], False, (), ())


def test_what_newly_fails_stops_and_what_no_longer_fails_does_not() -> None:
    stricter = replay(rule(), rule(exe="/usr/sbin/apache2"), host("a", WEB))
    assert told(stricter) == {("a", "r"): (Kind.NEWLY_FAILING, Verdict.PASS, Verdict.FAIL)}
    assert stricter.stops
    looser = replay(rule(exe="/usr/sbin/apache2"), rule(), host("a", WEB))
    assert told(looser) == {("a", "r"): (Kind.NO_LONGER_FAILING, Verdict.FAIL, Verdict.PASS)}
    assert not looser.stops


def test_a_rule_that_fails_before_and_after_stops_for_what_it_finds_anew() -> None:
    before, after = rule(port=80, exe="/usr/bin/x"), rule(port="[80, 81]", exe="/usr/bin/x")
    found = replay(before, after, host("a", WEB, OTHER))
    (flip,) = found.flips
    assert (flip.kind, flip.before, flip.after) == (Kind.NEWLY_FAILING, Verdict.FAIL, Verdict.FAIL)
    assert [finding.listener.port for finding in flip.findings if finding.listener] == [81]
    assert not replay(after, before, host("a", WEB, OTHER)).stops


def test_added_and_removed_rules_are_told_once_and_flip_where_they_find_something() -> None:
    both = rule() + rule("s", 81)
    added = replay(rule(), both, host("a", WEB), host("b", OTHER))
    assert (added.added, added.removed) == ((("p", "s"),), ())
    assert told(added) == {("b", "s"): (Kind.NEWLY_FAILING, None, Verdict.FAIL)}
    removed = replay(both, rule(), host("a", WEB), host("b", OTHER))
    assert (removed.added, removed.removed) == ((), (("p", "s"),))
    assert told(removed) == {("b", "s"): (Kind.NO_LONGER_FAILING, Verdict.FAIL, None)}


def test_a_rule_that_judges_fewer_hosts_is_told() -> None:
    narrow = "version: 1\nname: p\nhosts: b\nrules:\n" + rule()
    found = replay(rule(), narrow, host("a", WEB), host("b", WEB))
    assert told(found) == {("a", "r"): (Kind.OTHER, Verdict.PASS, None)}


def test_newly_unknown_and_newly_an_error_stop() -> None:
    some = "- id: r\n  listeners: {port: 80}\n  expect: some\n"
    found = replay(some, rule(), host("a", WEB, gaps=("no_sys_ptrace",)))
    assert told(found) == {("a", "r"): (Kind.NEWLY_UNKNOWN, Verdict.PASS, Verdict.UNKNOWN)}
    assert found.stops
    found = replay(rule(), rule(exe='"{{ web_exe }}"'), host("a", WEB))
    assert told(found) == {("a", "r"): (Kind.NEWLY_ERROR, Verdict.PASS, Verdict.ERROR)}
    assert found.stops


def test_a_host_without_a_snapshot_says_nothing() -> None:
    lost = decode_line(b'{"schema": "fleetaudit.outcome/1", "host": {"name": "lost"}, "status": "timeout"}')
    found = replay(rule(), rule() + rule("s", 81), lost)
    assert (found.unseen, found.flips, found.stops) == (["lost"], [], False)


# ---------------------------------------------------------------- the command


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetaudit", "policy", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [line_of("a", [WEB, OTHER], [], {}), line_of("b", [WEB], [], {})]
    (tmp_path / "snapshots.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    head = "version: 1\nname: p\nrules:\n"
    (tmp_path / "old.yaml").write_text(head + rule())
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "p.yaml").write_text(head + rule() + rule("s", 81))
    return tmp_path


def test_the_command_on_files_and_directories(folder: Path) -> None:
    words = ("replay", "--before", "old.yaml", "--after", "new", "--from", "snapshots.jsonl")
    done = run(folder, *words)
    assert done.returncode == 1, done.stderr
    assert "rules added: p/s" in done.stdout
    assert "medium  p/s: not judged -> fail on 1: a" in done.stdout
    done = run(folder, *words, "--format", "json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["schema"] == "fleetaudit.replay/1"
    assert document["summary"]["newly_failing"] == 1
    assert [(flip["host"], flip["before"], flip["after"]) for flip in document["flips"]] == [
        ("a", None, "fail")
    ]
    back = run(folder, "replay", "--before", "new", "--after", "old.yaml", "--from", "snapshots.jsonl")
    assert back.returncode == 0
    assert "no longer failing" in back.stdout


def test_wrong_input_is_exit_2_and_a_kept_run_is_found(folder: Path) -> None:
    words = ("replay", "--before", "old.yaml", "--after", "old.yaml", "--from")
    done = run(folder, *words, "nowhere", "--state", "state")
    assert done.returncode == 2
    assert "no such file, and no run of this id is kept" in done.stderr
    kept = folder / "state" / "runs" / "20261123T000000Z-abcd"
    kept.mkdir(parents=True)
    (kept / "journal.jsonl").write_text(2 * (folder / "snapshots.jsonl").read_text())
    done = run(folder, *words, kept.name, "--state", "state")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 newly failing" in done.stdout


def test_learn_writes_a_policy_that_passes(folder: Path) -> None:
    done = run(folder, "learn", "snapshots.jsonl", "--output", "learnt.yaml", "--group-by", "inventory-group")
    assert done.returncode == 0, done.stderr
    assert "review it" in done.stderr
    assert run(folder, "lint", "learnt.yaml").returncode == 0
    evaluate = [sys.executable, "-m", "fleetaudit", "evaluate", "snapshots.jsonl", "-p", "learnt.yaml", "-q"]
    assert subprocess.run(evaluate, cwd=folder, check=False, timeout=60).returncode == 0
    assert run(folder, "learn", "nowhere").returncode == 2


def test_this_machine_passes_what_was_learnt_from_it_apart_from_what_is_told(tmp_path: Path) -> None:
    def fleetaudit(*words: str) -> int:
        command = [sys.executable, "-m", "fleetaudit", *words]
        return subprocess.run(command, cwd=tmp_path, check=False, timeout=60, capture_output=True).returncode

    assert fleetaudit("collect", "--local", "--output", "here.jsonl") == 0
    assert fleetaudit("policy", "learn", "here.jsonl", "--output", "here.yaml") == 0
    assert fleetaudit("policy", "lint", "here.yaml") == 0
    assert fleetaudit("evaluate", "here.jsonl", "-p", "here.yaml", "-q", "-o", "json=report.json") in (
        0,
        1,
        3,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    told = (tmp_path / "here.yaml").read_text()
    for result in report["results"]:
        assert result["verdict"] != "error"
        if result["verdict"] == "fail" and result["rule"] == "nothing-else":
            assert "# NOT LEARNT." in told
        elif result["verdict"] == "fail" and result["rule"] != "no-shell-or-leak":
            assert "NOT LEARNT on 1 of 1 host, localhost" in told

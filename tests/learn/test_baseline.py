"""The gate for deploys: what failed before does not fail the run, what is new does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import fleetaudit
from fleetaudit.baseline import Baseline
from fleetaudit.cli import main
from fleetaudit.errors import ConfigError
from fleetaudit.model import Verdict
from tests.build import NGINX, PYTHON, SHELL, Wire, process, snapshot, socket, without

POLICY = """\
version: 1
name: web
rules:
  - id: owners
    listeners: {port: [8080, 9090]}
    allow_owners: [{exe: /usr/sbin/nginx}]
  - id: ssh-is-up
    severity: low
    listeners: {port: 22}
    expect: some
"""
WAIVER = """\
version: 1
waivers:
  - {policy: web, rule: owners, owners: {exe: "*"}, reason: known, expires: 2099-01-01}
"""
SSH = socket(22, (22,))
SSHD = {22: process("/usr/sbin/sshd", user="root", uid=0, euid=0)}


def host(name: str, owners: Mapping[int, Wire], *, port: int = 8080, **fields: Any) -> Wire:
    wire = snapshot([SSH, socket(port, tuple(owners))], {**SSHD, **owners}, **fields)
    return wire | {"host": {"name": name, "hostname": name, "boot_id": "b"}}


class Bench:
    """A folder with a policy, in which hosts are judged before and after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "web.yaml"
        self.policy.write_text(POLICY)

    def write(self, name: str, *wires: Wire) -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(wire) + "\n" for wire in wires))
        return path

    def gate(self, before: Path, *now: Wire, new_only: bool = True, **more: Any) -> dict[str, Any]:
        after = self.write("now.jsonl", *now)
        with fleetaudit.evaluate(after, self.policy, baseline=before, new_only=new_only, **more) as judged:
            report: dict[str, Any] = json.loads(b"".join(judged.render("json")))
        return report


def told(report: Mapping[str, Any]) -> list[tuple[str, bool | None]]:
    return [
        (finding["verdict"], finding.get("new"))
        for result in report["results"]
        for finding in result["findings"]
        if result["rule"] == "owners"
    ]


def code(report: Mapping[str, Any]) -> int:
    return int(report["summary"]["exit_code"])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_restart_is_not_new_and_a_changed_owner_is(bench: Bench) -> None:
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON)}))
    restarted = bench.gate(
        before, host("a", {99: process(PYTHON, start_time=7)}, collected_at="2026-11-23T00:00:00Z")
    )
    assert (told(restarted), code(restarted)) == ([("fail", False)], 0)
    for changed in (
        {80: process(SHELL)},
        {80: process(PYTHON, user="root", euid=0)},
        {80: process(PYTHON, cgroup="/system.slice/other.service")},
        {80: process(PYTHON), 81: process(SHELL, ppid=80)},
    ):
        report = bench.gate(before, host("a", changed))
        assert (told(report), code(report)) == ([("fail", True)], 1)


def test_another_port_and_another_host_are_new(bench: Bench) -> None:
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON)}))
    moved = bench.gate(before, host("a", {80: process(PYTHON)}, port=9090))
    assert (told(moved), code(moved)) == ([("fail", True)], 1)
    added = bench.gate(before, host("a", {80: process(PYTHON)}), host("b", {80: process(PYTHON)}))
    assert (told(added), code(added)) == ([("fail", False), ("fail", True)], 1)
    assert added["summary"]["baseline"] == {
        "name": str(before),
        "hosts": 1,
        "old": 1,
        "new": 1,
        "newly_waived": 0,
        "new_only": True,
    }


def test_without_new_only_everything_is_marked_and_fails_as_ever(bench: Bench) -> None:
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON)}))
    report = bench.gate(before, host("a", {80: process(PYTHON)}), new_only=False)
    assert (told(report), code(report)) == ([("fail", False)], 1)
    assert report["summary"]["baseline"]["new_only"] is False


def test_a_finding_that_is_not_new_does_not_hide_one_that_is_graver(bench: Bench) -> None:
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON)}))
    now = host("a", {80: process(PYTHON)})
    now["sockets"] = now["sockets"][1:]  # nothing on the SSH port any more
    assert code(bench.gate(before, now)) == 1
    assert code(bench.gate(before, now, fail_on="medium")) == 0


def test_unknown_in_the_baseline_is_new_and_unknown_now_is_still_incomplete(bench: Bench) -> None:
    blind = bench.write("before.jsonl", host("a", {}, gaps=["no_sys_ptrace"]))
    report = bench.gate(blind, host("a", {80: process(PYTHON)}))
    assert (told(report), code(report)) == ([("fail", True)], 1)
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON)}))
    report = bench.gate(before, host("a", {}, gaps=["no_sys_ptrace"]))
    assert (told(report), code(report)) == ([("unknown", None)], 3)


@pytest.mark.parametrize(
    "owner",
    [without(process(PYTHON), "exe"), process(PYTHON, exe_verified=False), without(process(PYTHON), "user")],
)
def test_who_is_not_known_for_sure_is_new_each_time(bench: Bench, owner: Wire) -> None:
    before = bench.write("before.jsonl", host("a", {80: owner}))
    report = bench.gate(before, host("a", {80: owner}))
    assert all(new is True for verdict, new in told(report) if verdict == "fail")
    assert code(report) in (1, 3)


def test_a_user_without_a_name_is_told_apart_by_its_number(bench: Bench) -> None:
    before = bench.write("before.jsonl", host("a", {80: process(PYTHON, user=None, euid=1001)}))
    assert code(bench.gate(before, host("a", {80: process(PYTHON, user=None, euid=1001)}))) == 0
    assert code(bench.gate(before, host("a", {80: process(PYTHON, user=None, euid=1002)}))) == 1


def test_a_report_is_a_baseline_too(bench: Bench) -> None:
    wire = host("a", {80: process(PYTHON)})
    with fleetaudit.evaluate(bench.write("x.jsonl", wire), bench.policy) as judged:
        (bench.folder / "report.json").write_bytes(b"".join(judged.render("json")))
    report = bench.gate(bench.folder / "report.json", wire)
    assert (told(report), code(report)) == ([("fail", False)], 0)
    assert code(bench.gate(bench.folder / "report.json", host("a", {80: process(SHELL)}))) == 1


def test_waivers_that_came_into_use_are_new(bench: Bench) -> None:
    waivers = bench.folder / "waivers.yaml"
    waivers.write_text(WAIVER)
    clean = bench.write("clean.jsonl", host("a", {80: process(NGINX)}))
    broken = host("a", {80: process(PYTHON)})
    report = bench.gate(clean, broken, waivers=waivers)
    assert (told(report), code(report)) == ([("waived", True)], 1)
    assert report["summary"]["baseline"]["newly_waived"] == 1
    report = bench.gate(bench.write("before.jsonl", broken), broken, waivers=waivers)
    assert (told(report), code(report)) == ([("waived", False)], 0)


def test_a_waiver_for_what_failed_before_makes_nothing_new_and_its_end_does(bench: Bench) -> None:
    (broken,) = (host("a", {80: process(PYTHON)}),)
    with fleetaudit.evaluate(bench.write("x.jsonl", broken), bench.policy) as judged:
        (bench.folder / "failing.json").write_bytes(b"".join(judged.render("json")))
    waivers = bench.folder / "waivers.yaml"
    waivers.write_text(WAIVER)
    with fleetaudit.evaluate(bench.write("x.jsonl", broken), bench.policy, waivers=waivers) as judged:
        (bench.folder / "waived.json").write_bytes(b"".join(judged.render("json")))
    assert code(bench.gate(bench.folder / "failing.json", broken, waivers=waivers)) == 0
    assert code(bench.gate(bench.folder / "waived.json", broken, waivers=waivers)) == 0
    assert code(bench.gate(bench.folder / "waived.json", broken)) == 1


def test_what_is_no_violation_is_neither_new_nor_old() -> None:
    from fleetaudit.model import Finding

    nothing = Baseline("x", 0, frozenset(), frozenset())
    for verdict in set(Verdict) - {Verdict.FAIL, Verdict.WAIVED}:
        assert nothing.is_new(Finding(verdict, "")) is None


# ---------------------------------------------------------------- the command


def test_the_command_names_the_gate(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    broken = host("a", {80: process(PYTHON)})
    before, policy = bench.write("before.jsonl", broken), str(bench.policy)
    words = ["evaluate", "-p", policy, "--baseline", str(before), "--new-only"]
    assert main([*words, str(before)]) == 0
    said = capsys.readouterr().out
    assert "NOTHING NEW" in said
    assert "0 new violations, 1 old; only new ones fail the run" in " ".join(said.split())
    assert "NEW\n" not in said
    after = bench.write("after.jsonl", host("a", {80: process(SHELL)}))
    assert main([*words, str(after)]) == 1
    said = capsys.readouterr().out
    assert "NEW VIOLATIONS" in said
    assert "tcp 0.0.0.0:8080  NEW\n" in said


def test_a_kept_run_is_a_baseline(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "state"))
    run = bench.folder / "state" / "fleetaudit" / "runs" / "20261123T000000Z-abcd"
    run.mkdir(parents=True)
    broken = host("a", {80: process(PYTHON)})
    (run / "journal.jsonl").write_bytes(bench.write("x.jsonl", broken, broken).read_bytes())
    words = ["evaluate", "-p", str(bench.policy), "--baseline", run.name, "--new-only"]
    assert main([*words, str(bench.write("now.jsonl", broken))]) == 0
    assert f"against the baseline {run.name} (1 host)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"schema": "fleetaudit.report/1", "results": 3}', "no report in JSON"),
        (b'{"schema": "fleetaudit.report/1", "results": [', "no report in JSON"),
        (b"nonsense\n", "baseline:1"),
        (b"", "no snapshot in it"),
        (None, "no such file"),
    ],
)
def test_a_baseline_that_is_none_is_exit_2(
    bench: Bench, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    path = bench.folder / "baseline"
    if content is not None:
        path.write_bytes(content)
    now = bench.write("now.jsonl", host("a", {80: process(PYTHON)}))
    assert main(["evaluate", "-p", str(bench.policy), "--baseline", str(path), str(now)]) == 2
    assert words in capsys.readouterr().err


def test_new_only_needs_a_baseline(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="new since when"):
        fleetaudit.evaluate(bench.write("x.jsonl", host("a", {})), bench.policy, new_only=True)

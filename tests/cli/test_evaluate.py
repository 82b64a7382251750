"""Saved snapshots, policies, reports and exit codes through the real command line."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.build import PYTHON, SHELL, Wire, process, snapshot, socket

POLICY = """\
version: 1
name: p
rules:
  - id: no-shell
    severity: critical
    deny_owners: [{shell: true}]
  - id: minor
    severity: info
    listeners: {port: 8080}
    expect: none
"""
CLEAN = snapshot([socket(443)], {80: process(PYTHON)})
SHELLED = snapshot([socket(8080, (80, 81))], {80: process(PYTHON), 81: process(SHELL, ppid=80)})


def named(wire: Wire, name: str) -> Wire:
    return wire | {"host": {"name": name}}


DOWN: Wire = {
    "schema": "fleetaudit.outcome/1",
    "host": {"name": "down"},
    "status": "unreachable",
    "detail": "connection refused",
}


def run(*args: str, cwd: Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "fleetaudit", *args]
    return subprocess.run(command, cwd=cwd, input=data, capture_output=True, check=False, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def save(folder: Path, *wires: Wire, name: str = "s.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(wire) + "\n" for wire in wires))


@pytest.mark.parametrize(
    ("wires", "options", "code"),
    [
        ((CLEAN,), (), 0),
        ((SHELLED,), (), 1),
        ((named(SHELLED, "a"), DOWN), (), 1),
        ((named(CLEAN, "a"), DOWN), (), 3),
        ((named(CLEAN, "a"), DOWN), ("--require-coverage", "50"), 0),
        ((named(CLEAN, "a"), DOWN), ("--require-coverage", "51"), 3),
        ((DOWN,), ("--require-coverage", "0"), 3),
        ((snapshot([socket()], {80: process()}, gaps=["not_root"]),), (), 3),
        ((snapshot([], {}),), (), 0),
    ],
)
def test_exit_codes(folder: Path, wires: tuple[Wire, ...], options: tuple[str, ...], code: int) -> None:
    save(folder, *wires)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", *options, cwd=folder)
    assert done.returncode == code, done.stderr.decode() + done.stdout.decode()


def test_fail_on_decides_which_severity_matters(folder: Path) -> None:
    save(folder, snapshot([socket(8080)], {80: process(PYTHON)}))
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", cwd=folder).returncode == 0
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", "--fail-on", "info", cwd=folder).returncode == 1


def test_a_host_that_no_rule_judged_makes_the_run_incomplete(folder: Path) -> None:
    (folder / "p.yaml").write_text(POLICY.replace("rules:", "hosts: web\nrules:"))
    save(folder, named(CLEAN, "a") | {"inventory": {"groups": ["web"]}}, named(CLEAN, "b"))
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", cwd=folder).returncode == 3
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", "--allow-unjudged", cwd=folder).returncode == 0


def test_a_policy_for_nobody(folder: Path) -> None:
    (folder / "p.yaml").write_text(POLICY.replace("rules:", "hosts: web\nrules:"))
    save(folder, CLEAN)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", cwd=folder)
    assert done.returncode == 2
    assert b"p.yaml: the policy is for none of the 1 targets: its hosts are 'web'" in done.stderr


def test_several_reports_at_once_name_every_host(folder: Path) -> None:
    save(folder, named(SHELLED, "web1"), DOWN)
    outputs = ("-o", "json=r.json", "-o", "csv=r.csv", "-o", "jsonl=r.jsonl")
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", *outputs, cwd=folder)
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "web1" in text
    assert "down" in text
    report = json.loads((folder / "r.json").read_text())
    assert [host["name"] for host in report["hosts"]] == ["down", "web1"]
    assert {(item["host"], item["rule"]): item["verdict"] for item in report["results"]} == {
        ("down", "no-shell"): "unknown",
        ("down", "minor"): "unknown",
        ("web1", "no-shell"): "fail",
        ("web1", "minor"): "fail",
    }
    assert report["summary"]["exit_code"] == 1
    with (folder / "r.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["host"], row["rule"], row["verdict"]) for row in rows} >= {("web1", "no-shell", "fail")}
    assert [row["rule"] for row in rows if row["host"] == "down"] == [""]
    assert (folder / "r.csv.meta.json").exists()
    assert {path.name for path in folder.iterdir()} == {
        *("p.yaml", "s.jsonl", "r.json", "r.csv", "r.csv.meta.json", "r.jsonl")
    }


def test_two_snapshots_of_one_host(folder: Path) -> None:
    later = SHELLED | {"collected_at": "2026-11-23T00:00:00Z"}
    save(folder, CLEAN, later)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", cwd=folder)
    assert done.returncode == 2
    assert b"s.jsonl:2: host 'web1' is already at s.jsonl:1" in done.stderr
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", "--latest", cwd=folder).returncode == 1


def test_snapshots_that_are_too_old_are_unknown(folder: Path) -> None:
    save(folder, CLEAN)
    options = ("evaluate", "s.jsonl", "-p", "p.yaml", "--max-age", "24")
    assert run(*options, "--now", "2026-11-23T09:59:00Z", cwd=folder).returncode == 0
    assert run(*options, "--now", "2026-11-23T10:01:00Z", cwd=folder).returncode == 3
    save(folder, SHELLED)
    assert run(*options, "--now", "2026-11-23T10:01:00Z", cwd=folder).returncode == 3


def test_where_leaves_out_hosts_that_say_they_are_others(folder: Path) -> None:
    def told(name: str, wire: Wire, **facts: object) -> Wire:
        return wire | {"host": {"name": name, **facts}}

    debian = {"id": "debian", "version_id": "12"}
    save(
        folder,
        told("old", SHELLED, os={"id": "centos", "version_id": "7"}, kernel="3.10.0"),
        told("new", CLEAN, os=debian, kernel="6.1.0"),
        told("mute", CLEAN),
        DOWN,
    )
    evaluate = ("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=r.json")
    assert run(*evaluate, cwd=folder).returncode == 1
    done = run(*evaluate, "--where", "os.id=debian", "--where", "kernel!=3.*", cwd=folder)
    assert done.returncode == 3
    assert b"--where left out 1 hosts: old" in done.stderr
    assert b"3 hosts targeted" in done.stdout
    assert b"1 more host left out by --where" in done.stdout
    report = json.loads((folder / "r.json").read_text())
    assert [host["name"] for host in report["hosts"]] == ["down", "mute", "new"]
    assert (report["summary"]["hosts"]["targeted"], report["summary"]["hosts"]["left_out"]) == (3, 1)
    assert report["run"]["options"]["where"] == ["os.id=debian", "kernel!=3.*"]
    rows = run("listeners", "--from", "s.jsonl", "--where", "os.id=~^debian$", "--format", "json", cwd=folder)
    assert {json.loads(row)["host"] for row in rows.stdout.splitlines()} == {"new", "mute"}


def test_nothing_left_by_where_is_incomplete(folder: Path) -> None:
    save(folder, CLEAN | {"host": {"name": "web1", "os": {"id": "debian"}}})
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", "--where", "os.id=rhel", cwd=folder)
    assert done.returncode == 3, done.stdout
    assert b"--where left out 1 hosts: web1" in done.stderr


def test_standard_input_and_output(folder: Path) -> None:
    done = run("evaluate", "-", "-p", "p.yaml", "-o", "json=-", cwd=folder, data=json.dumps(SHELLED).encode())
    assert done.returncode == 1
    assert json.loads(done.stdout)["schema"] == "fleetaudit.report/1"


def test_an_inventory_given_now_overrides_the_saved_one(folder: Path) -> None:
    (folder / "p.yaml").write_text(POLICY.replace("rules:", "hosts: web\nrules:"))
    (folder / "inv.yaml").write_text("web: {hosts: {web1: {}, web2: {}}}\n")
    save(folder, SHELLED)
    assert run("evaluate", "s.jsonl", "-p", "p.yaml", cwd=folder).returncode == 2
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", "-i", "inv.yaml", cwd=folder)
    assert done.returncode == 1
    assert b"1 hosts of the inventory have no snapshot: web2" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("evaluate", "missing.jsonl", "-p", "p.yaml"), "missing.jsonl: No such file"),
        (("evaluate", "s.jsonl", "-p", "missing.yaml"), "missing.yaml: No such file"),
        (("evaluate", "s.jsonl", "-p", "empty"), "empty: no *.yaml policy"),
        (("evaluate", "s.jsonl", "-p", "binary.yaml"), "binary.yaml"),
        (("evaluate", "s.jsonl", "-p", "tab.yaml"), "tab.yaml:2"),
        (("evaluate", "s.jsonl", "-p", "key.yaml"), "did you mean"),
        (("evaluate", "bad.jsonl", "-p", "p.yaml"), "bad.jsonl:2: not a valid snapshot"),
        (("evaluate", "empty.jsonl", "-p", "p.yaml"), "no snapshot in it"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "yaml=x"), "write FORMAT=PATH"),
        *(
            (("evaluate", "s.jsonl", "-p", "p.yaml", "--where", text), words)
            for text, words in (
                ("osid=debian", "no fact is called 'osid' (did you mean os.id?)"),
                ("os.id", "where 'os.id': this is no condition (write for example os.id=debian)"),
                ("os.id=", "this is no condition"),
                ("color=red", "one of: os.id, os.version_id, kernel, arch, hostname, machine_id"),
                ("os.id=~(", "where 'os.id=~(': "),
                ("os.id={{ x }}", "a condition takes no variables"),
                ("a\x1b[2J=b", "where 'a\\u001b[2J=b'"),
            )
        ),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=nowhere/x"), "nowhere is no directory"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=empty"), "is a directory"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=x", "-o", "csv=x"), "two outputs"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "--now", "yesterday"), "not a time"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "--max-age", "nan"), "not a number"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "--max-age", "1e300"), "1e+300"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "--require-coverage", "nan"), "not a number"),
        (("audit", "--local", "-p", "p.yaml", "--deadline", "nan"), "not a number"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "csv=y", "-o", "json=y.meta.json"), "two outputs"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=y", "-o", "jsonl=./y"), "two outputs"),
        (("audit", "--local", "-p", "p.yaml", "-o", "json=y", "--snapshots", "y"), "two outputs"),
        (("evaluate", "s.jsonl", "-p", "bounds.yaml"), "min 5 is more than max 1"),
        (("audit", "-i", "h,", "-k", "-p", "p.yaml"), "no terminal to ask"),
        (("demo", "--output", "."), "the demo fleet does not start"),
        (("evaluate", "s.jsonl", "-p", "p.yaml", "--fail-on", "sever"), "--fail-on"),
        (("evaluate", "s.jsonl"), "--policy"),
        (("frobnicate",), "frobnicate"),
        (("audit", "-p", "p.yaml"), "no inventory"),
        (("audit", "--local", "-i", "x", "-p", "p.yaml"), "--local audits this machine only"),
        (("audit", "-i", "missing.yaml", "-p", "p.yaml"), "missing.yaml"),
        (("audit", "nothere", "-i", "inv.yaml", "-p", "p.yaml"), "nothere"),
        (("schema", "nothing"), "snapshot"),
        (("listeners", "--local", "--port", "x"), "not a number"),
    ],
)
def test_bad_input_is_one_message_and_exit_2_and_nothing_written(
    folder: Path, args: tuple[str, ...], words: str
) -> None:
    save(folder, CLEAN)
    (folder / "empty").mkdir()
    (folder / "empty.jsonl").write_text("\n")
    (folder / "binary.yaml").write_bytes(b"\x00\x01\xff")
    (folder / "tab.yaml").write_text("version: 1\n\tname: p\n")
    (folder / "key.yaml").write_text(POLICY.replace("severity: info", "sevrity: info"))
    (folder / "bounds.yaml").write_text("version: 1\nname: b\nrules:\n- id: a\n  expect: {min: 5, max: 1}\n")
    (folder / "bad.jsonl").write_text(json.dumps(CLEAN) + "\n{\n")
    (folder / "inv.yaml").write_text("web: {hosts: {web1: {}}}\n")
    before = {path.name for path in folder.rglob("*")}
    done = run(*args, cwd=folder)
    assert done.returncode == 2, done.stderr.decode()
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert {path.name for path in folder.rglob("*")} == before


def test_a_closed_pipe_does_not_lose_the_other_reports(folder: Path) -> None:
    save(folder, SHELLED)
    command = f"{sys.executable} -m fleetaudit evaluate s.jsonl -p p.yaml -o text=- -o json=r.json | true"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=False, timeout=60)  # noqa: S602
    assert b"Traceback" not in done.stderr
    assert json.loads((folder / "r.json").read_text())["summary"]["hosts"]["targeted"] == 1


def test_a_device_or_pipe_is_written_to_and_not_replaced(folder: Path) -> None:
    save(folder, SHELLED)
    os.mkfifo(folder / "pipe")
    (folder / "target.json").write_text("old")
    (folder / "link.json").symlink_to("target.json")
    reader = subprocess.Popen(["cat", "pipe"], cwd=folder, stdout=subprocess.PIPE)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=pipe", "-o", "jsonl=link.json", cwd=folder)
    assert done.returncode == 1, done.stderr
    received, _ = reader.communicate(timeout=20)
    assert json.loads(received)["schema"] == "fleetaudit.report/1"
    assert (folder / "pipe").is_fifo()
    assert (folder / "link.json").is_symlink()
    assert (folder / "target.json").read_text() != "old"


def test_a_full_disk_is_said_and_the_other_reports_are_written(folder: Path) -> None:
    save(folder, SHELLED)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=/dev/full", "-o", "csv=r.csv", cwd=folder)
    assert done.returncode == 1
    assert b"/dev/full: No space left on device" in done.stderr
    assert Path("/dev/full").is_char_device()
    assert (folder / "r.csv").exists()


def test_standard_output_that_cannot_be_written_is_said(folder: Path) -> None:
    save(folder, SHELLED)
    for args in (
        "evaluate s.jsonl -p p.yaml",
        "listeners --from s.jsonl",
        "schema snapshot",
        "--help",
        "agent",
    ):
        for redirection in (">/dev/full", ">&-"):
            command = f"{sys.executable} -m fleetaudit {args} {redirection}"
            done = subprocess.run(
                ["sh", "-c", command], cwd=folder, capture_output=True, check=False, timeout=60
            )
            assert b"Traceback" not in done.stderr, command
            if redirection == ">/dev/full":
                assert done.returncode in (1, 3), command
                assert b"No space left on device" in done.stderr


def test_a_policy_for_nobody_is_named_in_every_report(folder: Path) -> None:
    (folder / "idle.yaml").write_text(POLICY.replace("name: p", "name: idle\nhosts: nowhere"))
    save(folder, CLEAN)
    done = run("evaluate", "s.jsonl", "-p", "p.yaml", "-p", "idle.yaml", "-o", "json=r.json", cwd=folder)
    assert done.returncode == 0
    assert b"policy 'idle' is for none of the targets" in done.stderr
    assert b"idle (not applicable: for" in b" ".join(done.stdout.split())
    policies = json.loads((folder / "r.json").read_text())["run"]["policies"]
    assert {item["name"]: item["targets"] for item in policies} == {"p": 1, "idle": 0}


def test_an_unreadable_time_is_that_hosts_matter(folder: Path) -> None:
    save(folder, CLEAN | {"collected_at": "yesterday"}, named(CLEAN, "b"))
    done = run(
        "evaluate", "s.jsonl", "-p", "p.yaml", "--max-age", "24", "--now", "2026-11-22T11:00:00", cwd=folder
    )
    assert done.returncode == 3
    assert b"tells no time" in b" ".join(done.stdout.split())


def test_an_interrupt_while_judging_still_writes_the_report(folder: Path) -> None:
    save(folder, *(named(SHELLED, f"h{number}") for number in range(400)))
    command = [sys.executable, "-m", "fleetaudit", "evaluate", "s.jsonl", "-p", "p.yaml", "-o", "jsonl=-"]
    command += ["-o", "json=r.json"]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.read(1000)  # the first results are out: it is judging
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"interrupted" in said
    assert json.loads((folder / "r.json").read_text())["summary"]["hosts"]["targeted"] == 400


def test_listeners_from_saved_snapshots(folder: Path) -> None:
    save(folder, named(SHELLED, "web1"), DOWN)
    done = run("listeners", "--from", "s.jsonl", cwd=folder)
    assert done.returncode == 3
    assert done.stdout.decode().splitlines() == [
        "web1  tcp 0.0.0.0:8080  python3.11[80](www-data); dash[81](www-data, leak)"
    ]
    assert b"down: unreachable: connection refused" in done.stderr
    assert not run("listeners", "--from", "s.jsonl", "--port", "443", cwd=folder).stdout
    assert run("listeners", "--from", "s.jsonl", "--owner", "dash", cwd=folder).stdout
    assert not run("listeners", "--from", "s.jsonl", "--owner", "nginx", cwd=folder).stdout
    row = json.loads(run("listeners", "--from", "s.jsonl", "--format", "json", cwd=folder).stdout)
    assert [owner["pid"] for owner in row["owners"]] == [80, 81]


def test_policy_lint_and_test(folder: Path) -> None:
    assert run("policy", "lint", "p.yaml", cwd=folder).returncode == 0
    (folder / "claims.yaml").write_text(
        "version: 1\nname: c\nrules:\n- id: a\n  allow_owners: [{comm: nginx}]\n"
    )
    done = run("policy", "lint", "claims.yaml", cwd=folder)
    assert done.returncode == 1
    assert b"claims.yaml:5" in done.stdout
    (folder / "p.test.yaml").write_text(
        "version: 1\npolicy: p.yaml\ntests:\n- name: t\n  listeners: ['tcp 0.0.0.0:80 sh']\n"
        "  expect: {no-shell: pass}\n"
    )
    done = run("policy", "test", "p.test.yaml", cwd=folder)
    assert done.returncode == 1
    assert b"p.test.yaml:6:12: t: no-shell is fail, not pass" in done.stdout
    (folder / "p.test.yaml").write_text((folder / "p.test.yaml").read_text().replace("pass", "fail"))
    assert run("policy", "test", ".", cwd=folder).stdout == b"1 passed, 0 failed\n"


def test_help_names_every_command(folder: Path) -> None:
    done = run("--help", cwd=folder)
    assert done.returncode == 0
    for name in (
        "audit",
        "collect",
        "evaluate",
        "listeners",
        "policy",
        "inventory",
        "schema",
        "agent",
        "demo",
    ):
        assert f"\n  {name} ".encode() in done.stdout
        assert run(name, "--help", cwd=folder).returncode == 0


def test_a_run_that_was_cut_short_is_incomplete_when_it_is_judged_later(folder: Path) -> None:
    save(folder, named(CLEAN, "a"), DOWN | {"status": "not_attempted"})
    done = run(
        "evaluate",
        "s.jsonl",
        "-p",
        "p.yaml",
        "--require-coverage",
        "50",
        "-q",
        "-o",
        "json=r.json",
        cwd=folder,
    )
    assert done.returncode == 3, done.stderr
    assert json.loads((folder / "r.json").read_text())["run"]["complete"] is False

"""Tags, resolved policies and the order of hosts, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.build import NGINX, SHELL, Wire, process, snapshot, socket

BASE = """\
version: 1
name: base
rules:
  - id: no-shell
    tags: [shells]
    deny_owners: [{shell: true}]
  - id: web
    tags: [web]
    listeners: {port: 80}
    allow_owners: [{exe: /usr/sbin/nginx}]
  - id: rest
    listeners: {approved: false}
    expect: none
"""
CHILD = "version: 1\nname: child\nextends: base.yaml\nrules: [{id: web, listeners: {port: 81}}]\n"


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60, text=True)


def host(number: int) -> Wire:
    wire = snapshot(
        [socket(80, [80]), socket(8000 + number % 3, [81])], {80: process(NGINX), 81: process(SHELL, ppid=80)}
    )
    return wire | {"host": {"name": f"h{number}"}}


def save(folder: Path, numbers: list[int]) -> None:
    (folder / "s.jsonl").write_text("".join(json.dumps(host(number)) + "\n" for number in numbers))


def judged(folder: Path, *options: str) -> Any:
    done = run(folder, "evaluate", "s.jsonl", "-p", "base.yaml", "-o", "json=-", "--quiet", *options)
    assert done.returncode == 1, done.stderr
    return json.loads(done.stdout)


def test_a_report_counts_the_rules_that_tags_leave_out(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    save(tmp_path, [1])
    report = judged(tmp_path, "--tags", "shells", "-o", "text=r.txt")
    assert [result["rule"] for result in report["results"]] == ["no-shell"]
    assert report["run"]["options"]["rules_left_out"] == 2
    assert "2 rules left out by --tags and --skip-tags" in (tmp_path / "r.txt").read_text()
    none = run(tmp_path, "evaluate", "s.jsonl", "-p", "base.yaml", "--tags", "web", "--skip-tags", "web")
    assert (none.returncode, none.stdout) == (2, "")


def test_the_order_of_hosts_in_a_file_never_matters(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    numbers = list(range(12))
    save(tmp_path, numbers)
    one = judged(tmp_path)
    save(tmp_path, [*numbers[5:], *numbers[4::-1]])
    other = judged(tmp_path)
    for part in ("results", "hosts", "summary"):
        assert json.dumps(one[part]) == json.dumps(other[part])


def test_a_policy_is_shown_resolved(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text(CHILD)
    shown = run(tmp_path, "policy", "show", "child.yaml")
    assert shown.returncode == 0
    assert "  # from base.yaml:7; child.yaml:4 overrides listeners\n  - id: web\n" in shown.stdout
    (tmp_path / "shown.yaml").write_text(shown.stdout)
    assert run(tmp_path, "policy", "show", "shown.yaml").stdout.count("- id: ") == 3
    wrong = run(tmp_path, "policy", "show", ".")
    assert wrong.returncode == 2
    assert "name one file of them" in wrong.stderr

"""Waivers through the real command line: audits that use them, and `waiver add`, which writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fleetaudit
from fleetaudit import yamlio
from fleetaudit.judgement import utc_now
from fleetaudit.policy import waiver_files
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.waiver_writing import entry
from fleetaudit.policy.waivers import waive
from fleetaudit.report.record import result_record
from tests.build import PYTHON, SHELL, outcome, policy, process, snapshot, socket

POLICY = "version: 1\nname: p\nrules:\n  - {id: no-shell, deny_owners: [{shell: true}]}\n"
SHELLED = snapshot([socket(8080, (80, 81))], {80: process(PYTHON), 81: process(SHELL, ppid=80)})
ADD = (
    "waiver",
    "add",
    "w.yaml",
    "--from",
    "r.json",
    "--host",
    "web1",
    "--reason",
    "known: #1",
    "--ticket",
    "T-1",
)
FLUSH = "version: 1\nwaivers:\n- {policy: q, rule: x, reason: r}\n"
FOREVER = ("--expires", "2099-12-31")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text(POLICY)
    (tmp_path / "s.jsonl").write_text(json.dumps(SHELLED) + "\n")
    assert run(tmp_path, "evaluate", "s.jsonl", "-p", "p.yaml", "-o", "json=r.json").returncode == 1
    return tmp_path


def test_from_a_finding_to_a_waiver_to_its_end(folder: Path) -> None:
    done = run(folder, *ADD, "--rule", "p/no-shell", *FOREVER)
    assert done.returncode == 0, done.stderr
    evaluate_now = ("evaluate", "s.jsonl", "-p", "p.yaml", "--waivers", "w.yaml", "-o", "json=r2.json")
    done = run(folder, *evaluate_now)
    assert done.returncode == 0, done.stdout
    assert "COMPLIANT: no violation seen; 1 result waived" in done.stdout
    assert "w.yaml:4  p/no-shell: used, over_broad: it covers a shell" in done.stdout
    report = json.loads((folder / "r2.json").read_text())
    (standing,) = report["summary"]["waivers"]
    assert (standing["states"], standing["findings"], standing["until"]) == (
        ["used", "over_broad"],
        1,
        "2100-01-01T00:00:00Z",
    )
    assert report["summary"]["results"]["waived"] == 1
    assert report["summary"]["results"]["pass"] == 0
    assert [source["path"] for source in report["run"]["waivers"]] == ["w.yaml"]
    assert run(folder, *evaluate_now, "--strict-waivers").returncode == 1
    done = run(folder, *evaluate_now, "--now", "2100-01-01T00:00:00Z")
    assert done.returncode == 1
    assert "expired at 2100-01-01T00:00:00Z" in done.stdout
    with fleetaudit.evaluate(folder / "s.jsonl", folder / "p.yaml", waivers=folder / "w.yaml") as judged:
        assert judged.summary.results["waived"] == 1
        assert judged.summary.exit_code == 0


def test_what_was_in_the_file_stays(folder: Path) -> None:
    before = "version: 1\nwaivers:\n  # ours\n  - {policy: q, rule: x, reason: r} # kept"
    (folder / "w.yaml").write_text(before)
    assert run(folder, *ADD, "--rule", "no-shell", *FOREVER).returncode == 0
    assert (folder / "w.yaml").read_text().startswith(before + "\n  - policy:")


@pytest.mark.parametrize(
    ("before", "options", "message"),
    [
        (None, ("--rule", "no-shel", *FOREVER), "no failed finding of rule 'no-shel' on host 'web1'"),
        (None, ("--rule", "q/no-shell", *FOREVER), "no failed finding of rule 'q/no-shell'"),
        (None, ("--rule", "no-shell", "--expires", "soon"), "'soon' is no date"),
        (None, ("--rule", "no-shell", "--fingerprint", "0", *FOREVER), "no failed finding"),
        (None, ("--rule", "no-shell", "--from", "p.yaml", *FOREVER), "p.yaml: this is no JSON"),
        (None, ("--rule", "no-shell", "--from", "s.jsonl", *FOREVER), "s.jsonl: this is no report in JSON"),
        (None, ("--rule", "no-shell", "--from", "none", *FOREVER), "none: No such file"),
        ("version: 1\nwaivers: []\n", ("--rule", "no-shell", *FOREVER), "nothing was added"),
        ("waivers:\n", ("--rule", "no-shell", *FOREVER), "nothing was added"),
        (FLUSH, ("--rule", "no-shell", *FOREVER), "nothing was added"),
    ],
)  # fmt: skip
def test_nothing_is_written_that_would_not_load(
    folder: Path, before: str | None, options: tuple[str, ...], message: str
) -> None:
    if before is not None:
        (folder / "w.yaml").write_text(before)
    done = run(folder, *ADD, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    written = folder / "w.yaml"
    assert (written.read_text() if written.exists() else None) == before


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20))
def test_whatever_a_host_is_called_with_the_waiver_covers_that_and_nothing_else(name: str) -> None:
    """Quotes, globs, templates and YAML in names of programs and sockets."""
    judges = [policy(POLICY)]

    def audited(exe: str) -> Any:
        wire = snapshot(
            [socket(8080, (80, 81))], {80: process(PYTHON), 81: process(exe, user=name) | {"shell": True}}
        )
        return evaluate(outcome(wire), judges)

    audit = audited(f"/x/{name}")
    record: Any = result_record(audit.results[0])
    facts = {"reason": name, "expires": "2099-12-31"}
    text = "version: 1\nwaivers:\n" + entry(record, record["findings"][0], facts)
    waivers = waiver_files.load([yamlio.parse(text.encode(), "w.yaml")], judges, utc_now())
    assert waivers[0].reason == name
    assert waive(audit, waivers, utc_now())[0].results[0].verdict.value == "waived"
    assert waive(audited(f"/x/{name}y"), waivers, utc_now())[0].results[0].verdict.value == "fail"

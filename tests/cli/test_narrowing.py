"""What makes a fleet smaller never does so without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetaudit.cli import main
from tests.build import process, snapshot, socket


@pytest.mark.parametrize("command", ["audit", "collect", "listeners", "inventory list"])
def test_limit_is_said_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """click takes the last of two, and so would Ansible: hosts would be left out that somebody named."""
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text("version: 1\nname: p\nrules:\n- {id: a, deny_owners: [{shell: true}]}\n")
    policies = ["-p", "p.yaml"] if command == "audit" else []
    arguments = [*command.split(), "-i", "a,b,", *policies, "--limit", "a", "--limit", "b"]
    assert main(arguments) == 2
    assert "say it once" in capsys.readouterr().err


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """The snapshot of one host, which is a Debian."""
    wire = snapshot([socket()], {80: process()})
    wire["host"] = {**wire["host"], "os": {"id": "debian", "version_id": "12"}}
    (tmp_path / "s.jsonl").write_text(json.dumps(wire) + "\n")
    return str(tmp_path / "s.jsonl")


@pytest.mark.parametrize(("where", "code"), [("os.id=debian", 0), ("os.id=plan9", 3), ("os.id!=debian", 3)])
def test_nobody_left_is_not_all_is_well(
    saved: str, where: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["listeners", "--from", saved, "--where", where]) == code
    assert bool(capsys.readouterr().out) == (code == 0)


def test_two_equals_signs_are_no_condition(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listeners", "--from", saved, "--where", "os.id==debian"]) == 2
    assert "this is no condition" in capsys.readouterr().err

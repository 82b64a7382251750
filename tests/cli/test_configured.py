"""The user's configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetaudit.cli import main
from tests.build import process, snapshot, socket

POLICY = "version: 1\nname: p\nrules:\n- {id: shells, severity: high, deny_owners: [{shell: true}]}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a policy and a snapshot, and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("p.yaml").write_text(POLICY)
    Path("s.jsonl").write_text(json.dumps(snapshot([socket()], {80: process()})) + "\n")
    return tmp_path


def configure(text: str) -> None:
    Path("config/fleetaudit").mkdir(parents=True, exist_ok=True)
    Path("config/fleetaudit/config.yaml").write_text(text)


def judge(*options: str) -> int:
    return main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", *options])


@pytest.mark.parametrize(
    ("config", "options", "kept"),
    [
        ("", (), None),
        ("version: 1\n", (), None),
        ("version: 1\nstore: false\n", (), None),
        ("version: 1\nstore: true\n", (), "state/fleetaudit/history.sqlite3"),
        ("version: 1\nstore: ~/audits.db\n", (), "audits.db"),
        ("version: 1\nstore: ~/audits.db\n", ("--no-store",), None),
        ("version: 1\nstore: ~/audits.db\n", ("--store", "./other.db"), "other.db"),
        ("version: 1\nstore: ~/audits.db\n", ("--store",), "audits.db"),
    ],
)
def test_where_a_run_is_kept(here: Path, config: str, options: tuple[str, ...], kept: str | None) -> None:
    if config:
        configure(config)
    assert judge(*options) == 0
    assert [
        str(path.relative_to(here)) for path in here.rglob("*") if path.suffix in (".db", ".sqlite3")
    ] == ([kept] if kept else [])


def test_every_command_looks_where_runs_are_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure("version: 1\nstore: ~/audits.db\n")
    assert judge() == 0
    assert main(["history", "runs"]) == 0
    assert "1 of 1 hosts" in capsys.readouterr().out
    assert main(["report", "latest", "-q", "-o", "json=r.json"]) == 0
    assert main(["history", "export", "latest", "b.tar.gz"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nstroe: true\n", "config.yaml:2:1: unknown key 'stroe' (did you mean store?"),
        ("version: 1\nstore: audits.db\n", "config.yaml:2:8: store: 'audits.db' depends on where it is read"),
        ("version: 2\n", "config.yaml:1:10: version"),
        ("store: [", "config.yaml:"),
        ("", "the file is empty"),
        ("version: 1\nstore: sqlite3://x\n", "no such kind of store"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    configure(text)
    assert judge("-o", "json=r.json") == 2
    assert message in capsys.readouterr().err
    assert not Path("r.json").exists()


def test_store_and_no_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("--no-store", "--store") == 2
    assert "say one of them" in capsys.readouterr().err

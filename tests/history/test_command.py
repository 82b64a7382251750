"""`--store` and `fleetaudit history` as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetaudit.cli import main
from tests.build import SHELL, Wire, process, snapshot, socket

POLICY = "version: 1\nname: p\nrules:\n- {id: shells, severity: high, deny_owners: [{shell: true}]}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a policy, and a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "p.yaml").write_text(POLICY)
    return tmp_path


def save(*hosts: Wire) -> None:
    lines = [json.dumps(it) + "\n" for it in hosts]
    Path("s.jsonl").write_text("".join(lines))


def clean(name: str = "web1") -> Wire:
    return snapshot([socket(8080)], {80: process()}) | {"host": {"name": name, "boot_id": "b"}}


def leaky(name: str = "web1") -> Wire:
    found = snapshot([socket(8080, (80, 81))], {80: process(), 81: process(SHELL, ppid=80)})
    return found | {"host": {"name": name, "boot_id": "b"}}


def judge(*options: str) -> int:
    return main(["evaluate", "s.jsonl", "-p", "p.yaml", "-q", *options])


def test_a_run_is_kept_and_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(leaky())
    assert judge("--store") == 1
    assert (here / "state" / "fleetaudit" / "history.sqlite3").is_file()
    assert main(["history", "runs"]) == 0
    assert "exit 1  1 of 1 hosts  1 fail, 0 waived" in capsys.readouterr().out
    assert main(["history", "show"]) == 0
    out = capsys.readouterr().out
    assert "fail     high     web1  p/shells  tcp 0.0.0.0:8080: dash (user www-data, leak)" in out
    assert main(["history", "show", "latest", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [it["name"] for it in shown["hosts"]] == ["web1"]
    assert shown["findings"][0]["rule"] == "shells"


@pytest.mark.parametrize("kind", ["damaged", "postgresql"])
def test_a_store_that_fails_costs_no_report_and_no_pass(
    here: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    save(clean())
    (here / "bad.db").write_bytes(b"no database at all" * 1000)
    store = {
        "damaged": "./bad.db",
        "postgresql": f"postgresql://ann:s3cret@/x?host={here}",
    }[kind]
    assert judge("--store", store, "-o", "json=report.json") == 3
    report = json.loads((here / "report.json").read_text())
    assert report["summary"]["exit_code"] == 0
    err = capsys.readouterr().err
    assert "warning: history" in err
    assert "error: history" in err
    assert "this run is not in the history" in err
    assert "s3cret" not in err + (here / "report.json").read_text()
    save(leaky())
    assert judge("--store", store) == 1  # a violation stays one


def test_what_changed_since_when_and_who_listened_then(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def out(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert main(["history", *arguments]) == code
        return capsys.readouterr().out

    save(clean() | {"collected_at": "2026-11-16T10:00:00Z"})
    assert judge("--store") == 0
    save(leaky() | {"collected_at": "2026-11-17T10:00:00Z"})
    assert judge("--store") == 1
    leak = "newly leaked: tcp 0.0.0.0:8080  to dash (www-data, leak)"
    assert out(1, "diff") == f"{leak}  on web1\n"
    assert out(1, "diff", "--by-host") == f"web1  {leak}\n"
    assert out(0, "diff", "latest", "latest") == ""
    assert out(1, "diff", "latest", "latest~1") == (
        "owner changed: tcp 0.0.0.0:8080  dash (www-data, leak) → gone  on web1\n"
    )
    (change,) = json.loads(out(1, "diff", "--format", "json"))["changes"]
    assert (change["kind"], change["hosts"]) == ("newly leaked", ["web1"])
    assert out(2, "diff", "--host", "db") == ""

    first, *_ = out(1, "since", "shells", "web1").splitlines()
    assert first.startswith("web1  shells: fail since ")
    since = json.loads(out(1, "since", "p/shells", "web1", "--format", "json"))
    assert (since["verdict"], since["runs"], since["before"]["verdict"]) == ("fail", 1, "pass")

    monday = out(0, "listeners", "web1", "--port", "8080", "--at", "2026-11-16T12:00:00Z")
    assert monday.splitlines()[1:] == ["  tcp 0.0.0.0:8080  python3.11 (www-data, pid 80, web.service)"]
    tuesday = out(0, "listeners", "web1", "--port", "8080", "--at", "2026-11-17")
    assert [line.split("  ")[1] for line in tuesday.splitlines() if line.startswith("web1")] == [
        "2026-11-16T10:00:00.000Z",
        "2026-11-17T10:00:00.000Z",
    ]
    assert "dash (www-data, leak, pid 81, web.service)" in tuesday
    assert "nothing listened there" in out(0, "listeners", "web1", "--port", "81")
    assert out(3, "listeners", "web1", "--at", "2026-11-15") == ""
    (endpoint,) = json.loads(out(0, "listeners", "web1", "--format", "json"))["listeners"]
    assert [it["pid"] for it in endpoint["processes"]] == [81, 80]

    trend = out(0, "trend").splitlines()
    assert [line.split("  ")[2] for line in trend] == [
        "0 fail, 0 waived, 0 unknown, 0 error, 1 pass",
        "1 fail (+1), 0 waived, 0 unknown, 0 error, 0 pass (-1)",
    ]
    assert "1 fail (+1)" in out(0, "trend", "--rule", "shells")

    assert len(out(0, "prune", "--keep", "1", "--dry-run").splitlines()) == 1
    assert len(out(0, "runs").splitlines()) == 2
    assert len(out(0, "prune", "--keep", "1").splitlines()) == 1
    assert len(out(0, "runs", "--format", "json").splitlines()) == 1
    assert out(2, "prune") == ""


def test_a_host_that_cannot_be_compared_is_no_host_without_change(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(clean("a"), clean("b"))
    assert judge("--store") == 0
    save(clean("a"), {"schema": "fleetaudit.outcome/1", "host": {"name": "b"}, "status": "timeout"})
    assert judge("--store") == 3
    capsys.readouterr()
    assert main(["history", "diff"]) == 3
    assert "b: not compared: timeout in run " in capsys.readouterr().err
    assert main(["history", "listeners", "b"]) == 3
    assert main(["history", "since", "shells", "b"]) == 3


def test_mistakes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(clean())
    assert judge("--store", "mysql://x/y") == 2
    assert main(["history", "runs"]) == 3
    assert "there is no history at" in capsys.readouterr().err
    assert not (here / "state").exists()
    assert judge("--store") == 0
    assert main(["history", "show", "nothing"]) == 2
    assert "no run 'nothing' in the history (the latest: " in capsys.readouterr().err


def test_the_database_library_is_imported_with_a_store_only(here: Path) -> None:
    save(clean())
    code = "import sys; from fleetaudit.cli import main; main(sys.argv[1:]); print(*sys.modules)"

    def imported(*options: str) -> set[str]:
        command = [sys.executable, "-c", code, "evaluate", "s.jsonl", "-p", "p.yaml", "-q", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return set(done.stdout.split())

    assert not imported() & {"sqlalchemy", "alembic", "psycopg"}
    assert {"sqlalchemy", "alembic"} <= imported("--store")
    assert "alembic" not in imported("--store")  # the second time there is nothing to migrate

"""`fleetaudit schedule`: what is checked before anything is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = ("-i", "hosts.yaml", "-p", "policies")


def schedule(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleetaudit", "schedule", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_directory_and_what_is_written_are_in_the_service(tmp_path: Path) -> None:
    more = ("-o", "json=out/report.json", "-o", "text=-", "--snapshots", "kept/s.jsonl", "--state", "state")
    done = schedule(tmp_path, "systemd", "--user", "audit", "--", *AUDIT, *more, "--max-fail", "20%")
    here = tmp_path.resolve()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"WorkingDirectory={here}" in lines
    assert f"ReadWritePaths={here}/state {here}/kept {here}/out" in lines
    assert "User=audit" in lines
    assert "# /etc/systemd/system/fleetaudit.timer" in lines
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert start.endswith(" audit -i hosts.yaml -p policies " + " ".join(more) + " --max-fail 20%%")


def test_files_are_written_and_named(tmp_path: Path) -> None:
    done = schedule(tmp_path, "systemd", "--name", "nightly", "--output", ".", "--", *AUDIT)
    assert done.stdout.splitlines() == ["nightly.service", "nightly.timer"]
    assert "OnCalendar=daily" in (tmp_path / "nightly.timer").read_text()
    assert schedule(tmp_path, "cron", "--output", ".", "--", *AUDIT).stdout == "crontab\n"
    assert "flock -n" in (tmp_path / "crontab").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("systemd", "--", *AUDIT, "-k"), "-k cannot be scheduled (use a key)"),
        (("cron", "--", *AUDIT, "--resume", "x"), "--resume cannot be scheduled"),
        (("systemd", "--", "-p", "policies", "--local"), "--local cannot be scheduled in a hardened service"),
        (("systemd", "--", *AUDIT, "a\nb"), "has a control character"),
        (("systemd", "--name", "../x", "--", *AUDIT), "--name ../x is no name for a unit"),
        (("cron", "--user", "a b", "--", *AUDIT), "--user a b is no name of a user"),
        (("systemd", "--when", "now and then", "--", *AUDIT), "systemd cannot read it"),
        (("cron", "--when", "daily", "--", *AUDIT), "'daily' is no time for cron"),
        (("systemd", "--", "-o", 'json="x"/y', *AUDIT), "cannot be written in a unit"),
        (("systemd", "--", "-i", "hosts.yaml"), "Missing option '-p'"),
        (("systemd", "--", *AUDIT, "--frobnicate"), "No such option '--frobnicate'"),
        (("systemd", "--output", "missing", "--", *AUDIT), "missing"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = schedule(tmp_path, *arguments)
    assert done.stdout == ""
    assert message in done.stderr
    assert done.returncode in ((2, 3) if "missing" in arguments else (2,))
    assert list(tmp_path.iterdir()) == []

"""A real audit of the fleet says what `describe` promises, whichever way the fleet runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fleetaudit.demo.fleet import DemoFleet
from fleetaudit.demo.plan import Isolation


def test_the_audit_finds_exactly_what_is_planted(any_fleet: DemoFleet, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "fleetaudit", "audit", "-i", str(any_fleet.inventory)),
        *("--known-hosts", str(any_fleet.known_hosts), "-p", str(any_fleet.policies), "-o", f"json={report}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    said = json.loads(report.read_text())
    failing: dict[str, list[str]] = {host["name"]: [] for host in said["hosts"]}
    for result in said["results"]:
        if result["verdict"] == "fail":
            failing[result["host"]].append(f"{result['policy']}/{result['rule']}")
    planted = any_fleet.describe()
    assert {name: tuple(sorted(rules)) for name, rules in failing.items()} == {
        host.name: host.failing for host in planted
    }
    statuses = {host["name"]: host["status"] for host in said["hosts"]}
    if any_fleet.isolation is Isolation.NONE:
        assert statuses.pop("web1") in ("ok", "partial")  # whether this machine hides anything from us
    assert statuses == {host.name: host.status.value for host in planted if host.name in statuses}


def test_a_clean_host_passes_every_rule(fleet: DemoFleet, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "fleetaudit", "audit", "web2", "-i", str(fleet.inventory)),
        *("--known-hosts", str(fleet.known_hosts), "-p", str(fleet.policies), "-o", f"json={report}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(report.read_text())
    assert [result["verdict"] for result in said["results"]] == ["pass"] * 4
    assert said["hosts"][0]["coverage"]["complete"]

"""Pinned mode on a host: real sshd, and real sudo with a digest in its rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetaudit import __version__
from fleetaudit.agent.pinned import executable_sha256
from tests.pinned.inside import AGENT, PYTHON

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root, and where mount namespaces are allowed, may try this")
    line = ["unshare", "-m", sys.executable, "-m", "tests.pinned.inside"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def test_it_is_installed_whole_and_its_digest_is_that_of_the_file(found: dict[str, Any]) -> None:
    assert found["install"] == {"checked": 0, "mode": "0o100755", "beside": ["fleetaudit-agent"]}


@pytest.mark.parametrize(("way", "root"), [("sudo", True), ("plain", False), ("rooted", True)])
def test_every_way_in_gives_a_snapshot_of_this_versions_agent(
    found: dict[str, Any], way: str, root: bool
) -> None:
    host = found[way]["host"]
    assert host["status"] in ("ok", "partial"), host
    assert (host["coverage"]["euid"] == 0) is root
    gaps = {gap["code"] for gap in host["coverage"]["gaps"]}
    assert ("not_root" not in gaps) is root
    assert host["agent"] == {"version": __version__, "sha256": executable_sha256(PYTHON), "mode": "walk"}
    assert "stale_agent" not in host
    assert "stale_agent" not in found[way]["text"]


@pytest.mark.parametrize("trial", ["forced", "forced_sudo"])
def test_a_key_for_the_agent_runs_nothing_else(found: dict[str, Any], trial: str) -> None:
    done = found["nothing_else"][trial]
    assert (done["status"], done["stdout"]) == (2, "")
    assert done["stderr"].startswith("fleetaudit-agent: ")


@pytest.mark.parametrize("trial", ["other_command", "arguments", "other_user"])
def test_the_rule_for_sudo_allows_nothing_else(found: dict[str, Any], trial: str) -> None:
    done = found["nothing_else"][trial]
    assert (done["status"], done["stdout"]) == (1, "")
    assert "a password is required" in done["stderr"]


def test_a_key_for_the_agent_forwards_nothing(found: dict[str, Any]) -> None:
    assert "administratively prohibited" in found["nothing_else"]["forwarding"]["stderr"]


@pytest.mark.parametrize(
    ("damage", "status", "said"),
    [
        ("modified", "become_failed", "another file than the digest in sudoers names"),
        ("schema", "bad_output", f"install the agent of fleetaudit {__version__} there"),
        ("no_python", "no_interpreter", f"the interpreter in the first line of {AGENT} does not start"),
        ("missing", "no_interpreter", f"{AGENT} is not there, or not executable: `fleetaudit agent install`"),
    ],
)
def test_what_is_wrong_there_is_said(found: dict[str, Any], damage: str, status: str, said: str) -> None:
    host = found[damage]["host"]
    assert host["status"] == status
    assert said in host["detail"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [("other_file", executable_sha256(PYTHON)), ("older", "is of version 0.0.older-")],
)
def test_an_agent_that_is_another_is_told_in_the_reports(
    found: dict[str, Any], damage: str, said: str
) -> None:
    host = found[damage]["host"]
    assert host["status"] in ("ok", "partial")
    assert said in host["stale_agent"]
    assert "stale_agent on 1 host (web1)" in found[damage]["text"]

"""docs/least-privilege.md says which capability gains what: measured, in namespaces of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = ["1081", "1082"]
EVERY = [*HERE, "1083"]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    spaces = ["unshare", "--pid", "--mount", "--net", "--fork", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*spaces, "true"], check=False).returncode:
        pytest.skip("only root, and where namespaces are allowed, may try this")
    line = [*spaces, sys.executable, "-m", "tests.pinned.privileges"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("trial", "gaps", "seen", "owned"),
    [
        ("none", ["denied_process", "no_sys_ptrace", "not_root"], HERE, []),
        ("sys_ptrace", ["denied_process", "netns_not_entered", "not_root"], HERE, []),
        (
            "dac_read_search",
            ["denied_fd", "denied_process", "no_sys_ptrace", "not_root"],
            HERE,
            [],
        ),
        ("two", ["netns_not_entered", "not_root"], HERE, HERE),
        ("three", ["not_root"], EVERY, EVERY),
        ("four", ["not_root"], EVERY, EVERY),
        ("root of three", [], EVERY, EVERY),
        ("root", [], EVERY, EVERY),
    ],
)
def test_what_each_capability_gains(
    found: dict[str, Any], trial: str, gaps: list[str], seen: list[str], owned: list[str]
) -> None:
    met = set(found[trial]["gaps"])
    if "no_sys_ptrace" in gaps:
        met -= {"netns_not_entered"}  # of namespaces that this machine has mounted, if it has any
    assert sorted(met) == gaps
    assert (found[trial]["seen"], found[trial]["owned"]) == (seen, owned)

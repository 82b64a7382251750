"""What is dear to find out is found out once, however many processes the tests run in."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def alone(factory: pytest.TempPathFactory, module: str, given: str = "") -> str:
    """What the module prints, as root in a mount namespace of its own, with `given` on stdin; in turns."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root, and where mount namespaces are allowed, may try this")
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    answer = shared / module
    with Path(__file__).open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not answer.exists():
            line = ["unshare", "-m", sys.executable, "-m", module]
            done = subprocess.run(
                line, cwd=ROOT, input=given, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stderr
            answer.write_text(done.stdout)
    return answer.read_text()

"""Real sudo, set up in the ways that keep a user out: each has its own message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALL = "USER ALL=(root) ALL\n"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("sudoers", "change", "said"),
    [
        (ALL, "true", "ok"),
        (f"Defaults lecture=always\n{ALL}", "true", "ok"),
        (f'Defaults passprompt_override,passprompt="Custom %u: "\n{ALL}', "true", "ok"),
        (ALL, "chage -d 0 USER", "become_failed: the password has expired"),
        (ALL, "chage -E 2020-01-01 USER", "become_failed: the account is locked or has expired"),
        (f"Defaults requiretty\n{ALL}", "true", "become_failed: it insists on a terminal"),
        ("USER ALL=(root) /bin/true\n", "true", "become_failed: this user may not"),
        ("", "true", "become_failed: this user may not"),
    ],
)
def test_what_sudo_says_is_told(sudoers: str, change: str, said: str) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root, and where mount namespaces are allowed, may try this")
    line = ["unshare", "-m", sys.executable, "-m", "tests.become.refused", sudoers, change]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip().splitlines()[-1:], done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith(said), done.stdout
    assert "sesame" not in done.stdout

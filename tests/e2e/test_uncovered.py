"""Whatever the agent could not see: no rule about owners passes over it, in a whole audit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

POLICY = """\
version: 1
name: nobody-strange
rules:
  - id: no-stranger
    deny_owners: [{user: nobody-is-called-this}]
  - id: no-program
    deny_owners: [{exe: /nowhere/at/all}]
  - id: nothing-on-a-port-of-ours
    listeners: {port: 1}
    expect: none
"""
LISTENER = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); sys.stdin.read()"
)
IN_OWN_PIDS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def listener() -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Another network namespace, with a listener in it."""
    with subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", LISTENER.replace("127.0.0.1", "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield


def verdicts(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> tuple[dict[str, str], Any]:
    """The verdict by rule, and the host, of an audit of this machine."""
    policy = folder / "p.yaml"
    policy.write_text(POLICY)
    code = "import sys; from fleetaudit.cli import main; sys.exit(main())"
    command = [*prefix, sys.executable, "-c", code, "audit", "--local", "-p", str(policy), "-o", "json=-"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=120, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 3, "incomplete"
    (host,) = report["hosts"]
    return {result["rule"]: result["verdict"] for result in report["results"]}, host


def codes(host: Any) -> set[str]:
    return {gap["code"] for gap in host["coverage"]["gaps"]}


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize(
    ("prefix", "options", "gap"),
    [
        (("setpriv", "--bounding-set=-sys_ptrace"), (), "no_sys_ptrace"),
        (IN_OWN_PIDS, (), "pid_namespace"),
        ((), ("--agent-budget", "0.000001"), "budget"),
    ],
    ids=["no-ptrace", "container", "budget"],
)
def test_owners_that_may_be_hidden_are_unknown(
    tmp_path: Path, prefix: tuple[str, ...], options: tuple[str, ...], gap: str
) -> None:
    found, host = verdicts(tmp_path, *options, prefix=prefix)
    assert gap in codes(host)
    assert host["status"] == "partial"
    assert (found["no-stranger"], found["no-program"]) == ("unknown", "unknown")


@pytest.mark.usefixtures("listener", "elsewhere")
def test_a_namespace_that_was_refused_may_hide_anything(tmp_path: Path) -> None:
    found, host = verdicts(tmp_path, prefix=("setpriv", "--bounding-set=-sys_admin"))
    assert "netns_not_entered" in codes(host)
    assert found["nothing-on-a-port-of-ours"] == "pass", "it is about the namespace that was seen"
    assert (found["no-stranger"], found["no-program"]) == ("unknown", "unknown")


@pytest.mark.usefixtures("listener")
def test_a_container_that_is_what_is_audited_can_pass(tmp_path: Path) -> None:
    """The counter-example: nothing is hidden, so the same rules are judged."""
    policy = tmp_path / "p.yaml"
    policy.write_text(POLICY)
    code = "import sys; from fleetaudit.cli import main; sys.exit(main())"
    command = [
        *IN_OWN_PIDS,
        "unshare",
        "-n",
        sys.executable,
        "-c",
        code,
        "audit",
        "--local",
        "-p",
        str(policy),
    ]
    command += ["-o", "json=-", "-q", "--boundary", "container"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    (host,) = json.loads(done.stdout)["hosts"]
    assert (host["status"], codes(host)) == ("ok", set())

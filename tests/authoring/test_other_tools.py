"""Whom netstat and psutil name of several owners: our word for it against the tools themselves."""

from __future__ import annotations

import importlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fleetaudit.model import Listener, NetworkNamespace, Owner, Process
from fleetaudit.policy.other_tools import named_by

# Listens, forks twice, says the port and all pids, and waits until its standard input ends.
FAMILY = """
import os, socket, sys
s = socket.create_server(("127.0.0.1", 0))
s.set_inheritable(True)
pids = [os.getpid()]
for _ in range(2):
    pid = os.fork()
    if not pid:
        sys.stdin.read()
        os._exit(0)
    pids.append(pid)
print(s.getsockname()[1], *pids, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[tuple[int, list[int]]]:
    """(port, pids) of a listener that three processes hold."""
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port, *pids = map(int, process.stdout.readline().split())
        try:
            yield port, pids
        finally:
            assert process.stdin is not None
            process.stdin.close()  # all three end
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)


def expected(port: int, pids: list[int]) -> dict[str, int | None]:
    owners = tuple(Owner(Process(pid)) for pid in pids)
    listener = Listener("tcp", 1, NetworkNamespace(1, host=True), port=port, owners=owners)
    return {item.tool: item.owner.process.pid if item.owner else None for item in named_by(listener)}


def test_netstat(family: tuple[int, list[int]]) -> None:
    if shutil.which("netstat") is None:
        pytest.skip("net-tools is not installed here")
    port, pids = family
    done = subprocess.run(["netstat", "-ltnp"], capture_output=True, text=True, check=True)
    found = re.search(rf"127\.0\.0\.1:{port}\s.*?\s(\d+)/", done.stdout)
    assert found is not None
    assert int(found[1]) == expected(port, pids)["netstat"]


def test_psutil(family: tuple[int, list[int]]) -> None:
    psutil = importlib.import_module("psutil")  # which has no types
    port, pids = family
    named = [item.pid for item in psutil.net_connections("tcp") if item.laddr and item.laddr.port == port]
    assert named == [expected(port, pids)["psutil"]]


def test_a_port_that_nobody_holds_has_no_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert set(expected(port, []).values()) == {None}

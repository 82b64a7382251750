"""A host's first process alone: what it reports when a service fails, and that it ends with its stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetaudit.demo import init
from tests.demo.looking import alive, descendants

WaitUntil = Callable[[Callable[[], bool], str], None]
INIT = [os.path.realpath(sys.executable), "-I", "-S", str(Path(init.__file__))]
SERVICES = Path(init.__file__).parent / "services"


def _start(services: list[dict[str, object]]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        INIT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin
    process.stdin.write(json.dumps(services) + "\n")
    process.stdin.flush()
    return process


def _service(name: str, *argv: str, ends: bool = False) -> dict[str, object]:
    return {"name": name, "argv": list(argv), "ends": ends}


def _shipped(program: str, ends: bool = False) -> dict[str, object]:
    return _service(program, *INIT[:3], str(SERVICES / program), "127.0.0.1", "0", ends=ends)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_service("mute", "/bin/sh", "-c", "exit 0"), "the service mute did not say its port"),
        (_service("odd", "/bin/sh", "-c", "echo eighty"), "the service odd did not say its port"),
        (_service("bad", "/bin/sh", "-c", "echo 80; exit 4", ends=True), "the service bad ended with 4"),
        (_service("none", "/no/such/program"), "No such file or directory"),
    ],
)
def test_a_service_that_does_not_come_up_is_the_hosts_error(broken: dict[str, object], said: str) -> None:
    with _start([_shipped("database.py"), broken]) as process:
        assert process.stdout
        assert said in json.loads(process.stdout.readline())["error"]
        assert process.wait(20) == 1


def test_it_ends_with_its_stdin_and_takes_everything_along() -> None:
    services = [_shipped("webshop.py"), _shipped("storefront.py"), _shipped("report_server.py", ends=True)]
    with _start(services) as process:
        assert process.stdout
        assert process.stdin
        ports = json.loads(process.stdout.readline())["ports"]
        assert sorted(ports) == ["report_server.py", "storefront.py", "webshop.py"]
        family = descendants(process.pid)
        assert len(family) == 7
        process.stdin.close()
        assert process.wait(20) == 0
        assert not alive(family)


def test_its_services_end_when_it_is_killed(wait_until: WaitUntil) -> None:
    services = [_shipped("webshop.py"), _shipped("storefront.py"), _shipped("report_server.py", ends=True)]
    with _start(services) as process:
        assert process.stdout
        process.stdout.readline()
        family = descendants(process.pid)
        assert len(family) == 7
        process.kill()
        process.wait(10)
        wait_until(lambda: not alive(family), "services outlived their init")


def test_orphans_are_reaped(wait_until: WaitUntil) -> None:
    script = "(sleep 0.2; exit 3) & echo 80"
    with _start([_service("parent", "/bin/sh", "-c", script, ends=True)]) as process:
        assert process.stdout
        assert process.stdin
        assert json.loads(process.stdout.readline()) == {"ports": {"parent": 80}}
        wait_until(lambda: not descendants(process.pid), "an orphan was left as a zombie")
        process.stdin.close()
        assert process.wait(20) == 0

"""Scope, unit, container, coverage and how owners came to their sockets."""

from __future__ import annotations

from typing import Any

import pytest

from fleetaudit.cgroup import container_of, unit_of
from fleetaudit.derive import scope_of
from fleetaudit.model import HostStatus, Missing
from tests.build import NGINX, PYTHON, SHELL, Wire, outcome, process, snapshot, socket, without

SYSTEMD = "/usr/lib/systemd/systemd"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("0.0.0.0", "any"),
        ("::", "any"),
        ("::ffff:0.0.0.0", "any"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("172.32.0.1", "public"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("169.254.1.1", "link_local"),
        ("fe80::1", "link_local"),
        ("fe80::1%eth0", "link_local"),
        ("224.0.0.251", "multicast"),
        ("ff02::fb", "multicast"),
        ("8.8.8.8", "public"),
        ("192.0.2.1", "public"),
        ("2001:db8::1", "public"),
        (None, None),
    ],
)
def test_scope_is_decided_by_the_address(address: str | None, expected: str | None) -> None:
    assert scope_of(address, "inet", None) == expected


def test_scope_of_what_has_no_usual_address() -> None:
    assert scope_of(None, "unix", None) == "unix"
    assert scope_of("0.0.0.0", "inet", "lo") == "loopback"
    assert isinstance(scope_of("not an address", "inet", None), Missing)


@pytest.mark.parametrize(
    ("cgroup", "unit", "user_unit"),
    [
        ("/system.slice/nginx.service", "nginx.service", None),
        (
            "/system.slice/system-postgresql.slice/postgresql@15-main.service",
            "postgresql@15-main.service",
            None,
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/evil.service",
            "user@1000.service",
            "evil.service",
        ),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", None),
        ("/init.scope", "init.scope", None),
        ("/system.slice/web.service/system.slice/nginx.service", "web.service", None),
        ("/", None, None),
    ],
)
def test_unit_is_the_system_managers_word(cgroup: str, unit: str | None, user_unit: str | None) -> None:
    assert unit_of(cgroup) == (unit, user_unit)


ID = "0123456789abcdef" * 4
POD = "6a1e1b2c-0d3f-4a5b-8c7d-9e0f1a2b3c4d"
POD_ = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"/system.slice/docker-{ID}.scope", (ID, "docker", None)),
        (f"/docker/{ID}", (ID, "docker", None)),
        (f"/machine.slice/libpod-{ID}.scope", (ID, "podman", None)),
        (f"/machine.slice/libpod-{ID}.scope/container", (ID, "podman", None)),
        (
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/"
            f"cri-containerd-{ID}.scope",
            (ID, "containerd", POD),
        ),
        (f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope", (ID, "cri-o", POD)),
        (f"/kubepods/burstable/pod{POD}/{ID}", (ID, None, POD)),
        (f"/kubepods/burstable/pod9/{ID}", (ID, None, None)),
        ("/lxc.payload.web/system.slice/nginx.service", ("web", "lxc", None)),
        ("/lxc/web", ("web", "lxc", None)),
        ("/machine.slice/systemd-nspawn@blue.service", ("blue", "nspawn", None)),
        ("/machine.slice/machine-blue.scope", ("blue", "nspawn", None)),
        ("/system.slice/docker.service", None),
        ("/system.slice/nginx.service", None),
    ],
)
def test_container_from_cgroup(cgroup: str, container: tuple[str, str | None, str | None] | None) -> None:
    assert container_of(cgroup) == container


def inherited(processes: dict[int, Wire], owners: tuple[int, ...]) -> dict[int, str]:
    derived = outcome(snapshot([socket(80, owners)], processes)).snapshot
    assert derived is not None
    (listener,) = derived.listeners
    return {
        owner.process.pid: "unknown" if isinstance(owner.inherited, Missing) else owner.inherited.value
        for owner in listener.owners
    }


ROOT: dict[str, Any] = {"uid": 0, "euid": 0, "user": "root"}


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        pytest.param(
            {80: process(PYTHON), 81: process(SHELL, ppid=80)}, {80: "original", 81: "leak"}, id="shell child"
        ),
        pytest.param(
            {80: process(NGINX, **ROOT), 81: process(NGINX, ppid=80)},
            {80: "original", 81: "worker"},
            id="prefork under another user",
        ),
        pytest.param(
            {80: process("/usr/lib/postfix/master", **ROOT), 81: process("/usr/lib/postfix/smtpd", ppid=80)},
            {80: "original", 81: "handed_down"},
            id="a root master that hands down within its unit",
        ),
        pytest.param(
            {80: process(NGINX), 81: process("/opt/helper", ppid=80, euid=1000)},
            {80: "original", 81: "leak"},
            id="another user, which the parent could not become",
        ),
        pytest.param(
            {80: process(NGINX), 81: process("/opt/helper", ppid=80, cgroup="/system.slice/other.service")},
            {80: "original", 81: "leak"},
            id="another unit",
        ),
        pytest.param(
            {80: process(PYTHON), 81: process("/opt/helper", ppid=80), 82: process(SHELL, ppid=81)},
            {80: "original", 81: "handed_down", 82: "leak"},
            id="grandchild",
        ),
        pytest.param(
            {80: process(SHELL, ppid=1, session=70)}, {80: "orphan"}, id="the server died, its shell holds on"
        ),
        pytest.param(
            {80: process(PYTHON, ppid=1, session=70)},
            {80: "original"},
            id="a daemon whose session leader left",
        ),
        pytest.param(
            {80: process(PYTHON, session=80), 81: process(SHELL, ppid=1, session=80)},
            {80: "original", 81: "leak"},
            id="a shell that left its server's tree but not its session",
        ),
        pytest.param(
            {80: process(PYTHON), 81: process(NGINX, start_time=500)},
            {80: "original", 81: "passed"},
            id="received by SCM_RIGHTS",
        ),
        pytest.param(
            {80: process(PYTHON), 81: without(process(NGINX, ppid=80), "shell")},
            {80: "original", 81: "unknown"},
            id="a child of which it is not known whether it is a shell",
        ),
        pytest.param({80: without(process(PYTHON), "ppid")}, {80: "unknown"}, id="no ancestry at all"),
        pytest.param(
            {80: without(process(PYTHON, inherited="leak"), "ppid")},
            {80: "leak"},
            id="the host's hint where ancestry cannot decide",
        ),
        pytest.param(
            {
                80: process("/usr/bin/nginx", exe_file="1:5"),
                81: process("/usr/bin/nginx", exe_file="1:6", ppid=80),
            },
            {80: "original", 81: "handed_down"},
            id="same path, another file",
        ),
    ],
)
def test_inherited(processes: dict[int, Wire], expected: dict[int, str]) -> None:
    assert inherited(processes, tuple(processes)) == expected


def test_socket_activation() -> None:
    assert inherited({80: process(NGINX)}, (1, 80)) == {1: "original", 80: "activation"}


def test_a_loop_in_the_process_tree_ends() -> None:
    assert inherited({80: process(PYTHON, ppid=81), 81: process(NGINX, ppid=80)}, (80,)) == {80: "original"}


def test_coverage_under_the_container_boundary() -> None:
    wire = snapshot([socket()], {80: process()}, gaps=["pid_namespace"])
    assert outcome(wire).status is HostStatus.PARTIAL
    assert outcome(wire, boundary="host").status is HostStatus.PARTIAL
    assert outcome(wire, boundary="container").status is HostStatus.OK
    more = snapshot([socket()], {80: process()}, gaps=["pid_namespace", "denied_fd"])
    assert outcome(more, boundary="container").status is HostStatus.PARTIAL


def test_a_namespace_that_nobody_inside_owns_is_outside_the_container() -> None:
    gaps: list[str | Wire] = ["pid_namespace", {"code": "netns_not_entered", "netns": 9}]
    wire = snapshot([], {}, gaps=gaps)
    assert outcome(wire, boundary="container").status is HostStatus.PARTIAL
    wire["network_namespaces"].append({"id": 9, "outside": True})
    assert outcome(wire, boundary="container").status is HostStatus.OK
    assert outcome(wire, boundary="host").status is HostStatus.PARTIAL


def test_what_listens_outside_a_container_is_not_audited_with_it() -> None:
    wire = snapshot([socket(80, (), netns=9), socket(81)], {80: process()}, gaps=["pid_namespace"])
    wire["network_namespaces"].append({"id": 9, "outside": True})
    for boundary, ports in (("container", [81]), ("host", [81, 80])):
        derived = outcome(wire, boundary=boundary).snapshot
        assert derived is not None
        assert [item.port for item in derived.listeners] == ports


def test_incomplete_without_a_reason_is_a_gap() -> None:
    wire = snapshot([socket()], {80: process()})
    wire["coverage"]["complete"] = False
    found = outcome(wire)
    assert found.status is HostStatus.PARTIAL
    assert "incomplete" in found.detail


def test_ephemeral_datagram_sockets() -> None:
    udp: dict[str, Any] = {"protocol": "udp", "state": "UNCONN"}
    sockets = [socket(40000, **udp), socket(53, **udp), socket(40001)]
    derived = outcome(snapshot(sockets, {80: process()})).snapshot
    assert derived is not None
    assert {item.port: item.ephemeral for item in derived.listeners} == {40000: True, 53: False, 40001: False}

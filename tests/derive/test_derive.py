"""Scope, unit, container, coverage and how owners came to their sockets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.cgroup import container_of, unit_of
from fleetaudit.derive import scope_of
from fleetaudit.model import UNKNOWN, HostStatus, Missing, Process
from tests.build import NGINX, PYTHON, SHELL, Wire, outcome, process, snapshot, socket, without

SYSTEMD = "/usr/lib/systemd/systemd"
ID, INNER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
POD = "6a1e1b2c-0d3f-4a5b-8c7d-9e0f1a2b3c4d"
POD_ = POD.replace("-", "_")
USER = "/user.slice/user-1000.slice/user@1000.service"
PODMAN = f"libpod-{ID}.scope"


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
        ("/system.slice/_cpu.service", "cpu.service", None),  # escaped: it would be a kernel's file name
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service", "init.scope"),
        (f"{USER}/app.slice/a.service/b.service", "user@1000.service", "a.service"),
        (f"{USER}/user.slice/libpod-{ID}.scope/container/x.service", "user@1000.service", PODMAN),
        (f"{USER}/made/by/hand/nginx.service", "user@1000.service", None),
        ("/system.slice", None, None),
        ("/", None, None),
        ("", None, None),
    ],
)
def test_unit_is_the_system_managers_word(cgroup: str, unit: str | None, user_unit: str | None) -> None:
    assert unit_of(cgroup) == (unit, user_unit)


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/lxc.payload.web/system.slice/nginx.service", None),
        ("/lxc.payload.a.slice/nginx.service", None),
        ("/lxc.payload.nginx.service", None),
        ("/lxc.monitor.nginx.service", None),
        ("/lxc/web/ns/system.slice/nginx.service", None),
        (f"/docker/{ID}/system.slice/nginx.service", None),
        (f"/docker/{ID}/nginx.service", None),
        (f"/system.slice/docker-{ID}.scope/system.slice/nginx.service", f"docker-{ID}.scope"),
        (f"/machine.slice/libpod-{ID}.scope/container/system.slice/nginx.service", PODMAN),
        ("/machine.slice/machine-web.scope/payload/system.slice/x.service", "machine-web.scope"),
        (
            "/machine.slice/systemd-nspawn@web.service/payload/user.slice/user-0.slice/user@0.service/x.scope",
            "systemd-nspawn@web.service",
        ),
        (
            f"/kubepods.slice/kubepods-pod{POD_}.slice/cri-containerd-{ID}.scope/system.slice/nginx.service",
            f"cri-containerd-{ID}.scope",
        ),
        (f"/kubepods/burstable/pod{POD}/{ID}/system.slice/nginx.service", None),
        # An engine that is not known: what systemd did not make has no unit of systemd's in it.
        (f"/default/{ID}/system.slice/nginx.service", None),
    ],
)
def test_a_unit_inside_a_container_is_not_the_hosts(cgroup: str, unit: str | None) -> None:
    assert unit_of(cgroup) == (unit, None)


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
        (f"/system.slice/web.service/libpod-payload-{ID}", (ID, "podman", None)),
        (f"/system.slice:docker:{ID}", (ID, "docker", None)),
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}",
            (ID, "containerd", POD),
        ),
        ("/system.slice/docker.service", None),
        ("/system.slice/nginx.service", None),
        (f"/machine.slice/libpod-conmon-{ID}.scope", None),
        ("/lxc.monitor.web", None),
        # Nested: only the outermost is the host's word, the rest is what the container says of itself.
        (f"/lxc.payload.evil/docker/{INNER}", ("evil", "lxc", None)),
        (f"/lxc.payload.evil/system.slice/docker-{INNER}.scope", ("evil", "lxc", None)),
        (f"/docker/{ID}/docker/{INNER}", (ID, "docker", None)),
        (f"/docker/{ID}/lxc.payload.inner", (ID, "docker", None)),
        (f"/system.slice/docker-{ID}.scope/docker/{INNER}", (ID, "docker", None)),
        (
            f"/machine.slice/machine-web.scope/payload/system.slice/docker-{INNER}.scope",
            ("web", "nspawn", None),
        ),
        (f"/lxc.payload.node/kubepods/besteffort/pod{POD}/{INNER}", ("node", "lxc", None)),
        (
            f"/docker/{ID}/kubelet.slice/kubelet-kubepods-pod{POD_}.slice/cri-containerd-{INNER}.scope",
            (ID, "docker", None),
        ),
        (f"/kubepods/burstable/pod{POD}/{ID}/docker/{INNER}", (ID, None, POD)),
        (f"/kubepods/burstable/pod{POD}/{ID}/kubepods/pod9/{INNER}", (ID, None, POD)),
        (f"/kubepods/burstable/pod9/{ID}/kubepods/pod{POD}/{INNER}", (ID, None, None)),
    ],
)
def test_container_from_cgroup(cgroup: str, container: tuple[str, str | None, str | None] | None) -> None:
    assert container_of(cgroup) == container


OUTER = st.sampled_from(
    [
        (f"/docker/{ID}", ID, None),
        (f"/system.slice/docker-{ID}.scope", ID, f"docker-{ID}.scope"),
        (f"/machine.slice/{PODMAN}", ID, PODMAN),
        (f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope", ID, f"crio-{ID}.scope"),
        (f"/kubepods/burstable/pod{POD}/{ID}", ID, None),
        ("/lxc.payload.web", "web", None),
        ("/lxc.payload.nginx.service", "nginx.service", None),
        ("/lxc.payload.a.slice", "a.slice", None),
        ("/lxc/web", "web", None),
        ("/machine.slice/machine-web.scope", "web", "machine-web.scope"),
        ("/machine.slice/systemd-nspawn@web.service", "web", "systemd-nspawn@web.service"),
    ]
)
PARTS = (
    f"docker lxc lxc.payload.inner kubepods pod{INNER[:32]} payload system.slice nginx.service "
    f"user@1000.service machine-x.scope {INNER} docker-{INNER}.scope libpod-{INNER}.scope"
)
PART = st.sampled_from(PARTS.split()) | st.text("abc.-:@/", max_size=9)


@settings(max_examples=300)
@given(OUTER, st.lists(PART, max_size=6))
def test_what_a_container_says_of_itself_changes_nothing(
    outer: tuple[str, str, str | None], parts: list[str]
) -> None:
    path, name, unit = outer
    inside = "/".join([path, *parts])
    assert container_of(inside) == container_of(path)
    assert unit_of(inside) == (unit, None)
    found = container_of(path)
    assert found is not None
    assert found.name == name


def placed(cgroup: str, init: str = "/init.scope", **inventory: object) -> Process:
    wire = snapshot([socket(80)], {80: process(NGINX, cgroup=cgroup)})
    wire["processes"]["1"]["cgroup"] = init
    derived = outcome(wire, **inventory).snapshot
    assert derived is not None
    return derived.processes[80]


def test_below_a_users_manager_a_container_is_claimed_but_not_the_one_around_it() -> None:
    rootless = placed(f"{USER}/user.slice/libpod-{ID}.scope/container")
    assert (rootless.unit, rootless.user_unit) == ("user@1000.service", PODMAN)
    assert [rootless.container, rootless.runtime, rootless.pod] == [UNKNOWN] * 3
    inside = placed(f"/machine.slice/machine-web.scope/payload{USER}/user.slice/libpod-{ID}.scope")
    assert (inside.unit, inside.user_unit) == ("machine-web.scope", None)
    assert (inside.container, inside.runtime) == ("web", "nspawn")


def test_in_an_audited_container_units_are_those_of_its_own_manager() -> None:
    inside = placed(
        f"/docker/{ID}/system.slice/nginx.service", f"/docker/{ID}/init.scope", boundary="container"
    )
    assert (inside.unit, inside.container) == ("nginx.service", None)
    nested = placed(f"/docker/{ID}/docker/{INNER}", f"/docker/{ID}/init.scope", boundary="container")
    assert (nested.unit, nested.container) == (None, INNER)
    beside = placed(
        f"/docker/{INNER}/system.slice/x.service", f"/docker/{ID}/init.scope", boundary="container"
    )
    assert (beside.unit, beside.container) == (UNKNOWN, UNKNOWN)
    other = placed(f"/docker/{ID}/system.slice/nginx.service", f"/docker/{ID}/init.scope", boundary="host")
    assert (other.unit, other.container) == (None, ID)


@pytest.mark.parametrize("cgroup", [f"/../../docker/{ID}", "/../system.slice/nginx.service", "/.."])
def test_outside_of_the_agents_own_cgroup_namespace_nothing_is_known(cgroup: str) -> None:
    found = placed(cgroup)
    assert [found.unit, found.user_unit, found.container, found.runtime, found.pod] == [UNKNOWN] * 5


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
            {80: process(PYTHON, ppid=1, session=70), 70: process(NGINX, session=70)},
            {80: "original"},
            id="a daemon of its session's unit",
        ),
        pytest.param(
            {
                80: process(PYTHON, ppid=1, session=70, cgroup="/system.slice/other.service"),
                70: process(NGINX, session=70),
            },
            {80: "orphan"},
            id="without its parent, of another unit than its session",
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
    assert inherited(processes, tuple(expected)) == expected


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


PARENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=9, max_size=9)


@settings(max_examples=150, deadline=None)
@given(PARENTS)
def test_ancestry_does_not_depend_on_who_else_was_asked(parents: list[tuple[int, int]]) -> None:
    """Chains are remembered: in any forest, with rings and dead parents, each is what it is alone."""
    processes = {
        pid: {**process(PYTHON, ppid=parent), "session": session}
        for pid, (parent, session) in enumerate(parents, 1)
    }
    together = outcome(
        snapshot([socket(100 + pid, [pid], inode=pid) for pid in processes], processes)
    ).snapshot
    assert together is not None
    for listener in together.listeners:
        (pid,) = (owner.process.pid for owner in listener.owners)
        alone = outcome(snapshot([socket(100 + pid, [pid], inode=pid)], processes)).snapshot
        assert alone is not None
        assert listener.owners == alone.listeners[0].owners

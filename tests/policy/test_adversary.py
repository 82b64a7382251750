"""Ways to a false pass that someone tried; each must stay closed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.build import NGINX, PYTHON, SHELL, Wire, process, result, snapshot, socket, verdict, without

ONE = snapshot([socket(80)], {80: process(PYTHON)})
SSHD = "/usr/sbin/sshd"


def test_two_users_without_a_name_are_not_one_user() -> None:
    processes = {80: process(user=None, euid=12001), 81: process(ppid=80, user=None, euid=12002)}
    wire = snapshot([socket(80, (80, 81))], processes)
    assert verdict("listeners: {port: 80}\nsame: [user]", wire) == "fail"
    groups = {80: process(group=None, gid=1), 81: process(ppid=80, group=None, gid=2)}
    assert verdict("listeners: {port: 80}\nsame: [group]", snapshot([socket(80, (80, 81))], groups)) == "fail"


@pytest.mark.parametrize("fields", [{"exe_deleted": True}, {"exe_verified": False}])
def test_no_ancestor_is_not_proved_by_an_ancestor_of_doubtful_path(fields: dict[str, Any]) -> None:
    wire = snapshot([socket(80)], {70: process(SSHD, **fields), 80: process(PYTHON, ppid=70)})
    assert verdict(f"allow_owners: [{{exe: '*/python*', no_ancestor: {{exe: {SSHD}}}}}]", wire) == "fail"
    assert verdict(f"deny_owners: [{{no_ancestor: {{exe: {SSHD}}}}}]", wire) == "fail"


def test_an_ancestor_that_the_snapshot_lacks_proves_nothing() -> None:
    wire = snapshot([socket(80)], {80: process(PYTHON)})
    del wire["processes"]["1"]
    assert verdict(f"allow_owners: [{{no_ancestor: {{exe: {SSHD}}}}}]", wire) == "unknown"


@pytest.mark.parametrize(
    "processes",
    [
        pytest.param({80: process(SHELL, session=80)}, id="a shell in a session of its own, server gone"),
        pytest.param(
            {80: process(PYTHON), 81: process(SHELL, session=81, start_time=300)}, id="the same, server alive"
        ),
        pytest.param(
            {70: process("/tmp/systemd"), 80: process(SHELL, ppid=70)}, id="below something called systemd"
        ),
        pytest.param(
            {70: process("/usr/lib/systemd/systemd", exe_verified=False), 80: process(SHELL, ppid=70)},
            id="below something that claims to be systemd",
        ),
        pytest.param({80: process(SHELL, listen_fds=True)}, id="a shell that sets LISTEN_FDS itself"),
    ],
)
def test_a_shell_does_not_talk_itself_out_of_a_leak(processes: dict[int, Wire]) -> None:
    wire = snapshot([socket(80, tuple(processes))], processes)
    assert verdict("deny_owners: [{inherited: [leak, orphan]}]", wire) == "fail"


def test_what_is_not_known_to_be_no_shell_may_be_an_orphan() -> None:
    wire = snapshot([socket(80)], {80: without(process(PYTHON, session=70), "shell")})
    assert verdict("deny_owners: [{inherited: [leak, orphan]}]", wire) == "unknown"


def test_a_worker_is_one_by_its_file_not_by_an_unverified_path() -> None:
    bare = [without(process(NGINX, ppid=parent, exe_verified=False), "exe_file") for parent in (1, 80)]
    wire = snapshot([socket(80, (80, 81))], dict(zip((80, 81), bare, strict=True)))
    assert verdict("allow_owners: [{inherited: [original, worker]}]", wire) == "unknown"


def test_a_deleted_program_is_not_spared_by_not() -> None:
    wire = snapshot([socket(80)], {80: process(NGINX, exe_deleted=True)})
    assert verdict(f"deny_owners: [{{exe: {{not: {NGINX}}}}}]", wire) == "fail"


@pytest.mark.parametrize("field", ["device", "address", "family"])
def test_endpoints_that_may_be_two_are_not_counted_as_one(field: str) -> None:
    sockets = [without(socket(80, inode=1), field), without(socket(80, (90,), inode=2), field)]
    wire = snapshot(sockets, {80: process(PYTHON), 90: process(NGINX)})
    selector = "listeners: {protocol: tcp, port: 80}\n"
    assert verdict(selector + "expect: {max: 1}", wire) == "unknown"
    assert verdict(selector + "expect: {min: 2}", wire) == "unknown"
    assert verdict(selector + f"require_owners: [{{exe: {NGINX}}}]", wire) == "fail"
    assert verdict(selector + "owners: {min: 2}", wire) == "fail"


@pytest.mark.parametrize(
    ("rule", "variables"),
    [
        ("listeners: {address: '{{ x }}'}\nexpect: some", {"x": "*"}),
        ("listeners: {address: '{{ x }}'}\nexpect: some", {"x": "~."}),
        ("listeners: {address: '{{ x }}0'}\nexpect: some", {"x": "*"}),
        ("listeners: {protocol: '{{ x }}'}\nexpect: none", {"x": "TCP"}),
        ("listeners: {scope: '{{ x }}'}\nexpect: none", {"x": "wildcard"}),
        ("deny_owners: [{inherited: '{{ x }}'}]", {"x": "leek"}),
    ],
)
def test_variables_are_never_patterns_and_never_unknown_words(rule: str, variables: dict[str, Any]) -> None:
    assert verdict(rule, ONE, variables=variables) == "error"


def test_a_network_in_a_variable_is_data_that_makes_sense() -> None:
    rule = "listeners: {address: '{{ net }}/8'}\nexpect: some"
    assert (
        verdict(
            rule, snapshot([socket(80, address="10.1.1.1")], {80: process()}), variables={"net": "10.0.0.0"}
        )
        == "pass"
    )


@pytest.mark.parametrize("rule", ["allow_owners: [{reason: x}]", "allow_owners: [{exe: '~'}]"])
def test_an_entry_that_matches_everybody_is_refused(rule: str) -> None:
    from fleetaudit.errors import PolicyError

    with pytest.raises(PolicyError):
        result(rule, ONE)


@pytest.mark.parametrize(
    ("fields", "rule", "expected"),
    [
        ({"protocol": "TCP"}, "listeners: {port: 80}\nexpect: none", "unknown"),
        ({"protocol": "quic"}, "listeners: {protocol: tcp}\nexpect: none", "unknown"),
        ({"state": "ESTABLISHED"}, "listeners: {port: 80}\nexpect: some", "unknown"),
        ({"state": ""}, "listeners: {port: 80}\nexpect: some", "unknown"),
        ({"owner_state": "partial"}, "allow_owners: [{exe: '*/python*'}]", "unknown"),
        ({"port": None}, "listeners: {port: 80}\nexpect: none", "unknown"),
        (
            {"address": "0:0:0:0:0:0:0:0", "family": "inet6", "v6only": False},
            "listeners: {family: inet}\nexpect: none",
            "fail",
        ),
        (
            {"address": "::ffff:10.0.0.1", "family": "inet6"},
            "listeners: {family: inet}\nexpect: none",
            "fail",
        ),
        (
            {"address": "::0", "family": "inet6", "v6only": False},
            "listeners: {address: 0.0.0.0}\nexpect: none",
            "fail",
        ),
        ({"address": ""}, "listeners: {address: 0.0.0.0}\nexpect: none", "unknown"),
    ],
)
def test_odd_words_of_a_host_are_unknown(fields: dict[str, Any], rule: str, expected: str) -> None:
    assert verdict(rule, snapshot([socket(80) | fields], {80: process(PYTHON)})) == expected


def test_a_gap_about_a_protocol_nobody_knows_may_hide_any() -> None:
    wire = snapshot([], {}, gaps=[{"code": "protocol_not_dumped", "protocol": "TCP"}])
    assert verdict("listeners: {protocol: tcp}\nexpect: none", wire) == "unknown"


@pytest.mark.parametrize("coverage", [{"euid": 1000}, {"processes": {"unreadable": 5}}])
def test_a_host_that_contradicts_itself_is_not_fully_covered(coverage: dict[str, Any]) -> None:
    wire = json.loads(json.dumps(ONE))
    wire["coverage"].update(coverage)
    assert verdict("deny_owners: [{shell: true}]", wire) == "unknown"


def test_a_namespace_described_in_two_ways_is_not_known() -> None:
    wire = json.loads(json.dumps(ONE))
    wire["network_namespaces"].append({"id": 1, "host": False, "name": None})
    assert verdict("listeners: {port: 80}\nexpect: none", wire) == "unknown"


def test_a_container_below_a_users_manager_is_the_users_claim() -> None:
    cgroup = f"/user.slice/user@1000.service/docker-{'ab' * 32}.scope"
    wire = snapshot([socket(80)], {80: process(PYTHON, cgroup=cgroup)})
    assert verdict("allow_owners: [{container: 'ab*'}]", wire) == "unknown"


@pytest.mark.parametrize(
    "outer", ["/lxc.payload.evil", f"/docker/{'ab' * 32}", "/system.slice/machine-x.scope"]
)
def test_a_unit_that_a_container_claims_is_not_the_hosts(outer: str) -> None:
    wire = snapshot([socket(80)], {80: process(PYTHON, cgroup=f"{outer}/system.slice/nginx.service")})
    assert verdict("allow_owners: [{unit: nginx.service}]", wire) == "fail"
    assert verdict("require_owners: [{unit: nginx.service}]", wire) == "fail"


def test_a_container_that_a_container_claims_is_not_told() -> None:
    wire = snapshot([socket(80)], {80: process(PYTHON, cgroup=f"/lxc.payload.evil/docker/{'ab' * 32}")})
    assert verdict("allow_owners: [{container: 'ab*'}]", wire) == "fail"
    assert verdict("deny_owners: [{container: evil}]", wire) == "fail"


def test_kernel_owned_with_hidden_holders_is_not_proved() -> None:
    held = socket(80, (), owner_state="kernel", held_by=[{"pid": 80, "fds": []}])
    wire = snapshot([held], {80: process(PYTHON)}, gaps=["hidden_holders"])
    assert verdict("allow_owners: [{kernel: true}, {exe: '*/python*'}]", wire) == "unknown"
    bare = snapshot([socket(80, (), owner_state="kernel")], gaps=["hidden_holders"])
    assert verdict("deny_owners: [{shell: true}]", bare) == "unknown"


def test_a_selector_sees_who_could_receive_the_socket() -> None:
    held = socket(80, held_by=[{"pid": 90, "fds": []}])
    wire = snapshot([held], {80: process(PYTHON), 90: process(SHELL)})
    assert verdict("listeners: {owner: {shell: true}}\nexpect: none", wire) == "fail"


def test_in_a_glob_only_the_exclamation_mark_negates() -> None:
    assert verdict("deny_owners: [{exe: '/usr/bin/[^p]ython*'}]", ONE) == "fail"
    assert verdict("deny_owners: [{exe: '/usr/bin/[!p]ython*'}]", ONE) == "pass"


@pytest.mark.parametrize("fields", [{"argv_cut": True}, {"argv": ["app", "--token", "***"]}])
def test_a_command_line_that_is_not_whole_proves_no_absence(fields: dict[str, Any]) -> None:
    wire = snapshot([socket(80)], {80: process(PYTHON, **fields)})
    assert verdict("deny_owners: [{argv: '*--evil*'}]", wire) == "unknown"
    assert verdict("deny_owners: [{argv: '*p*'}]", wire) == "fail"

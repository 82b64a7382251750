"""The semantics that must not be guessed (design 5 and 5.1), one test each."""

from __future__ import annotations

import pytest

from fleetaudit.model import Verdict
from tests.build import NGINX, PYTHON, SHELL, Wire, judge, process, result, snapshot, socket, verdict, without

NO_SHELL = "deny_owners: [{shell: true}]"
ORIGIN = snapshot(
    [socket(8080, (80, 81))], {80: process(PYTHON), 81: process(SHELL, ppid=80, start_time=200)}
)
CLEAN = snapshot([socket(8080)], {80: process(PYTHON)})


def test_the_origin_case_fails_and_names_the_shell() -> None:
    found = result(NO_SHELL, ORIGIN)
    assert found.verdict is Verdict.FAIL
    (finding,) = found.findings
    assert [owner.process.pid for owner in finding.owners] == [81]
    assert "dash" in finding.reason
    assert "leak" in finding.reason


def test_a_clean_server_passes() -> None:
    assert verdict(NO_SHELL, CLEAN) == "pass"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (NO_SHELL, "unknown"),
        ("allow_owners: [{exe: /usr/bin/python3.11}]", "unknown"),
        ("allow_owners: [{exe: /usr/sbin/nginx}]", "fail"),  # an owner that was seen breaks it already
        ("same: [exe]", "unknown"),
        ("owners: {max: 1}", "unknown"),
        ("owners: {min: 1}", "pass"),  # what was seen suffices
        ("owners: {min: 2}", "unknown"),
        ("require_owners: [{exe: /usr/bin/python3.11}]", "pass"),
        ("require_owners: [{exe: /usr/sbin/nginx}]", "unknown"),
    ],
)
@pytest.mark.parametrize("gap", ["no_sys_ptrace", "denied_process", "something_never_heard_of"])
def test_owners_that_may_be_hidden(rule: str, expected: str, gap: str) -> None:
    wire = snapshot([socket(8080)], {80: process(PYTHON)}, gaps=[gap])
    selector = "listeners: {port: 8080}\n"
    touches_listeners = gap == "something_never_heard_of" and "owners: {min" in rule
    assert verdict(selector + rule, wire) == ("unknown" if touches_listeners else expected)


def test_a_shell_that_was_seen_fails_whatever_else_is_hidden() -> None:
    wire = ORIGIN | {"coverage": {"complete": False, "gaps": [{"code": "denied_process"}], "euid": 1000}}
    assert verdict(NO_SHELL, wire) == "fail"


@pytest.mark.parametrize(
    ("gap", "rule", "expected"),
    [
        ({"code": "netns_not_entered", "netns": 2}, "listeners: {port: 9}\nexpect: none", "pass"),
        (
            {"code": "netns_not_entered", "netns": 2},
            "listeners: {port: 9, netns: any}\nexpect: none",
            "unknown",
        ),
        (
            {"code": "netns_not_entered", "netns": 2},
            "listeners: {port: 9, netns: blue}\nexpect: none",
            "unknown",
        ),
        ({"code": "netns_not_entered", "netns": 2}, "listeners: {port: 9, netns: red}\nexpect: none", "pass"),
        ({"code": "netns_not_entered", "netns": 2}, NO_SHELL, "unknown"),  # no selector: every namespace
        # Of the host's listeners one may be in flight in a unix socket there, but none is hidden.
        ({"code": "netns_not_entered", "netns": 2}, "listeners: {port: 8080}\n" + NO_SHELL, "unknown"),
        ({"code": "netns_not_entered", "netns": 2}, "listeners: {port: 8080}\nscope: [any]", "pass"),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 9}\nexpect: none",
            "unknown",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {protocol: tcp, port: 9}\nexpect: none",
            "pass",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 8080}\nscope: [any]",
            "unknown",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 8080}\nexpect: some",
            "pass",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 9}\nexpect: some",
            "unknown",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 9}\nscope: [any]",
            "unknown",
        ),
        ({"code": "protocol_not_dumped", "protocol": "tcp"}, "listeners: {port: 8080}\nexpect: none", "fail"),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 8080}\nrequire_owners: [{user: www-data}]",
            "pass",
        ),
        (
            {"code": "protocol_not_dumped", "protocol": "sctp"},
            "listeners: {port: 9}\nrequire_owners: [{user: www-data}]",
            "unknown",
        ),
    ],
)
def test_listeners_that_may_be_hidden(gap: Wire, rule: str, expected: str) -> None:
    assert verdict(rule, snapshot([socket(8080)], {80: process(PYTHON)}, gaps=[gap])) == expected


@pytest.mark.parametrize("rule", [NO_SHELL, "scope: [loopback]", "same: [exe]", "owners: {min: 1}"])
def test_a_selector_that_finds_nothing_is_not_applicable_never_pass(rule: str) -> None:
    found = result("listeners: {port: 9}\n" + rule, CLEAN)
    assert found.verdict is Verdict.NOT_APPLICABLE
    assert found.findings[0].reason


def test_expect_decides_by_count() -> None:
    two = snapshot([socket(80), socket(81)], {80: process(PYTHON)})
    for expectation, expected in [
        ("none", "fail"),
        ("some", "pass"),
        ("{min: 2}", "pass"),
        ("{min: 3}", "fail"),
        ("{max: 1}", "fail"),
        ("{min: 1, max: 2}", "pass"),
    ]:
        assert (
            verdict(f"listeners: {{port: 80-81}}\nexpect: {expectation}".replace("80-81", '"80-81"'), two)
            == expected
        )
    assert verdict("listeners: {port: 9}\nexpect: none", two) == "pass"
    assert verdict("listeners: {port: 9}\nexpect: some", two) == "fail"


def test_expect_counts_endpoints_not_sockets() -> None:
    group = [socket(80, inode=1), socket(80, inode=2), socket(80, inode=3)]
    assert (
        verdict("listeners: {port: 80}\nexpect: {max: 1}", snapshot(group, {80: process(PYTHON)})) == "pass"
    )


def test_a_reuseport_joiner_breaks_same() -> None:
    group = [socket(80, (80,), inode=1), socket(80, (90,), inode=2)]
    wire = snapshot(group, {80: process(NGINX), 90: process("/tmp/evil")})
    assert verdict("listeners: {port: 80}\nsame: [exe]", wire) == "fail"
    assert verdict("listeners: {port: 80}\nsame: [user]", wire) == "pass"
    # each required owner must be found in the endpoint, not in each of its sockets
    assert (
        verdict("listeners: {port: 80}\nrequire_owners: [{exe: /tmp/evil}, {exe: '*/nginx'}]", wire) == "pass"
    )


def test_kernel_owned_listeners() -> None:
    wire = snapshot([socket(4789, (), protocol="udp", state="UNCONN", owner_state="kernel")])
    selector = "listeners: {port: 4789}\n"
    assert verdict(selector + NO_SHELL, wire) == "pass"
    assert verdict(selector + "allow_owners: [{user: root}]", wire) == "fail"
    assert verdict(selector + "allow_owners: [{user: root}, {kernel: true}]", wire) == "pass"


def test_a_listener_without_visible_owner_is_unknown() -> None:
    assert verdict(NO_SHELL, snapshot([socket(80, ())])) == "unknown"
    assert verdict(NO_SHELL, snapshot([without(socket(80, ()), "owner_state")])) == "unknown"


def test_an_owner_without_process_entry_is_unknown() -> None:
    assert verdict(NO_SHELL, snapshot([socket(80, (4711,))])) == "unknown"


def test_who_could_receive_a_socket_is_judged_as_owner() -> None:
    held = socket(80, (80,), held_by=[{"pid": 90, "fds": []}])
    wire = snapshot([held], {80: process(PYTHON), 90: process(SHELL)})
    assert verdict(NO_SHELL, wire) == "fail"
    assert verdict("allow_owners: [{exe: /usr/bin/python3.11}]", wire) == "fail"


# ---------------------------------------------------------------- 5.1.1 a path is a claim


def test_an_unverified_path_never_matches_an_allow_entry_but_a_deny_entry() -> None:
    wire = snapshot([socket(443)], {80: process(NGINX, exe_verified=False)})
    assert verdict("allow_owners: [{exe: /usr/sbin/nginx}]", wire) == "fail"
    assert verdict("allow_owners: [{exe: {not: /bin/sh}}]", wire) == "fail"
    assert verdict("require_owners: [{exe: /usr/sbin/nginx}]", wire) == "fail"
    assert verdict("deny_owners: [{exe: /usr/sbin/nginx}]", wire) == "fail"
    assert verdict("deny_owners: [{exe: {not: /usr/sbin/nginx}}]", wire) == "fail"
    assert verdict("listeners: {owner: {exe: /usr/sbin/nginx}}\nexpect: none", wire) == "unknown"


def test_a_deleted_executable_is_allowed_only_by_saying_so() -> None:
    wire = snapshot([socket(443)], {80: process(NGINX, exe_deleted=True)})
    assert verdict("allow_owners: [{exe: /usr/sbin/nginx}]", wire) == "fail"
    assert verdict("allow_owners: [{exe: /usr/sbin/nginx, exe_deleted: true}]", wire) == "pass"
    assert verdict("deny_owners: [{exe: /usr/sbin/nginx}]", wire) == "fail"


# ---------------------------------------------------------------- 5.1.3 absent, null, not


def test_absent_is_unknown_and_null_is_known_to_be_none() -> None:
    unknown = snapshot([socket()], {80: without(process(), "cgroup")})
    none = snapshot([socket()], {80: process(cgroup=None, unit=None)})
    for rule in ("deny_owners: [{unit: web.service}]", "allow_owners: [{unit: {not: web.service}}]"):
        assert verdict(rule, unknown) == "unknown"
        assert verdict(rule, none) == "pass"
    assert verdict("allow_owners: [{unit: null}]", none) == "pass"
    assert verdict("allow_owners: [{unit: null}]", CLEAN) == "fail"


def test_not_port_does_not_select_sockets_that_have_no_port() -> None:
    unix = socket(None, protocol="unix", family="unix", address=None, path="/run/x")
    wire = snapshot([unix], {80: process(SHELL)})
    assert verdict("listeners: {protocol: unix, port: {not: 22}}\n" + NO_SHELL, wire) == "not_applicable"
    assert (
        verdict("listeners: {protocol: unix, address: {not: 10.0.0.1}}\n" + NO_SHELL, wire)
        == "not_applicable"
    )
    assert verdict("listeners: {protocol: unix}\n" + NO_SHELL, wire) == "fail"


# ---------------------------------------------------------------- 5.1.6 ancestors


def test_ancestor_parent_and_no_ancestor() -> None:
    sshd = process("/usr/sbin/sshd", user="root", uid=0, euid=0, cgroup="/system.slice/ssh.service")
    wire = snapshot([socket()], {70: sshd, 80: process(PYTHON, ppid=70)})
    assert verdict("deny_owners: [{ancestor: {exe: /usr/sbin/sshd}}]", wire) == "fail"
    assert verdict("deny_owners: [{parent: {exe: '*/systemd'}}]", wire) == "pass"
    assert verdict("deny_owners: [{parent: {exe: /usr/sbin/sshd}}]", wire) == "fail"
    assert verdict("allow_owners: [{no_ancestor: {exe: /usr/sbin/cron}}]", wire) == "pass"
    assert verdict("allow_owners: [{no_ancestor: {exe: /usr/sbin/sshd}}]", wire) == "fail"


def test_a_cut_chain_proves_no_absence_of_an_ancestor() -> None:
    wire = snapshot([socket()], {80: process(PYTHON, ppid=1, session=70)})
    assert verdict("allow_owners: [{no_ancestor: {exe: /usr/sbin/sshd}}]", wire) == "unknown"
    assert verdict("deny_owners: [{ancestor: {exe: /usr/sbin/sshd}}]", wire) == "unknown"
    assert verdict("deny_owners: [{ancestor: {exe: '*/systemd'}}]", wire) == "fail"


# ---------------------------------------------------------------- 5.1.7 default deny is computed

DEFAULT_DENY = """
- id: web
  listeners: {port: 8080}
  allow_owners: [{user: www-data}]
- id: rest
  listeners: {scope: {not: loopback}, approved: false}
  expect: none
"""


def test_default_deny_selects_what_no_rule_approves() -> None:
    approved = judge(DEFAULT_DENY, CLEAN)
    assert [item.verdict.value for item in approved.results] == ["pass", "pass"]
    assert (approved.endpoints, approved.unapproved) == (1, 0)
    rogue = judge(DEFAULT_DENY, snapshot([socket(8080), socket(9999)], {80: process()}))
    assert [item.verdict.value for item in rogue.results] == ["pass", "fail"]
    assert (rogue.endpoints, rogue.unapproved) == (2, 1)


def test_a_deny_rule_approves_nothing_and_an_expectation_does() -> None:
    deny = "- id: a\n  listeners: {port: 8080}\n  deny_owners: [{shell: true}]\n"
    some = "- id: a\n  listeners: {port: 8080}\n  expect: some\n"
    rest = "- id: rest\n  listeners: {approved: false}\n  expect: none\n"
    assert [item.verdict.value for item in judge(deny + rest, CLEAN).results] == ["pass", "fail"]
    assert [item.verdict.value for item in judge(some + rest, CLEAN).results] == ["pass", "pass"]


def test_a_rule_that_is_an_error_leaves_approval_unknown() -> None:
    rules = "- id: a\n  listeners: {port: 8080}\n  allow_owners: [{user: '{{ nobody }}'}]\n"
    rest = "- id: rest\n  listeners: {approved: false}\n  expect: none\n"
    assert [item.verdict.value for item in judge(rules + rest, CLEAN).results] == ["error", "unknown"]


# ---------------------------------------------------------------- namespaces, scopes, dual stack


def test_a_containers_port_never_satisfies_a_rule_about_the_host() -> None:
    wire = snapshot([socket(22, netns=2)], {80: process()})
    assert verdict("listeners: {port: 22}\nexpect: some", wire) == "fail"
    assert verdict("listeners: {port: 22, netns: container}\nexpect: some", wire) == "pass"
    assert verdict("listeners: {port: 22, netns: {not: host}}\nexpect: some", wire) == "pass"
    assert verdict("listeners: {port: 22, netns: blue}\nexpect: some", wire) == "pass"
    assert verdict("listeners: {port: 22, netns: '2'}\nexpect: some", wire) == "pass"
    assert verdict("listeners: {port: 22, netns: any}\nexpect: some", wire) == "pass"


def test_a_namespace_the_snapshot_does_not_describe_is_unknown() -> None:
    wire = without(CLEAN, "network_namespaces")
    assert verdict("listeners: {port: 8080}\nexpect: some", wire) == "unknown"
    assert verdict("listeners: {port: 8080}\n" + NO_SHELL, wire) == "unknown"


def test_an_ipv6_wildcard_takes_ipv4_too() -> None:
    dual = socket(80, family="inet6", address="::", v6only=False)
    only = socket(80, family="inet6", address="::", v6only=True)
    rule = "listeners: {port: 80, address: 0.0.0.0}\nexpect: some"
    assert verdict(rule, snapshot([dual], {80: process()})) == "pass"
    assert verdict(rule, snapshot([only], {80: process()})) == "fail"
    assert verdict(rule, snapshot([without(dual, "v6only")], {80: process()})) == "unknown"
    assert (
        verdict("listeners: {port: 80, family: inet}\nexpect: some", snapshot([dual], {80: process()}))
        == "pass"
    )


def test_without_protocol_only_network_protocols_are_meant() -> None:
    raw = socket(None, protocol="raw", ip_protocol=1)
    wire = snapshot([raw], {80: process(SHELL)})
    assert verdict("listeners: {scope: any}\n" + NO_SHELL, wire) == "not_applicable"
    assert verdict("listeners: {protocol: raw}\n" + NO_SHELL, wire) == "fail"
    assert verdict(NO_SHELL, wire) == "fail"  # no selector: every listener there is


def test_self_is_judged_like_others() -> None:
    wire = snapshot([socket()], {80: process(SHELL, self=True)})
    assert verdict(NO_SHELL, wire) == "fail"
    assert verdict("allow_owners: [{self: true}]", wire) == "pass"


# ---------------------------------------------------------------- hosts, failures, variables


def test_a_host_that_was_not_reached_is_unknown_under_every_rule() -> None:
    wire: Wire = {
        "schema": "fleetaudit.outcome/1",
        "host": {"name": "web1"},
        "status": "unreachable",
        "detail": "connection refused",
    }
    audit = judge(DEFAULT_DENY, wire)
    assert [item.verdict.value for item in audit.results] == ["unknown", "unknown"]
    assert "connection refused" in audit.results[0].findings[0].reason


def test_a_policy_is_for_its_hosts_only_and_a_rule_may_narrow_them() -> None:
    text = "version: 1\nname: p\nhosts: web:&prod\nrules:\n- id: r\n  hosts: blue\n  expect: some\n"
    assert not judge(text, CLEAN).results
    assert not judge(text, CLEAN).judged
    assert judge(text, CLEAN, groups=["web", "prod"]).results[0].verdict is Verdict.NOT_APPLICABLE
    assert judge(text, CLEAN, groups=["web", "prod", "blue"]).results[0].verdict is Verdict.PASS


def test_variables_are_data() -> None:
    rule = "allow_owners: [{user: '{{ web_user }}'}]"
    assert verdict(rule, CLEAN, variables={"web_user": "www-data"}) == "pass"
    assert verdict(rule, CLEAN, variables={"web_user": "*"}) == "fail"
    assert verdict(rule, CLEAN, variables={"web_user": ""}) == "error"
    missing = result(rule, CLEAN)
    assert missing.verdict is Verdict.ERROR
    assert "web_user" in missing.findings[0].reason
    assert "web1" in missing.findings[0].reason
    glob = "allow_owners: [{exe: '/usr/{{ where }}/python*'}]"
    assert verdict(glob, CLEAN, variables={"where": "bin"}) == "pass"
    assert verdict(glob, CLEAN, variables={"where": "*"}) == "fail"
    regex = "allow_owners: [{exe: '~^/usr/{{ where }}/python'}]"
    assert verdict(regex, CLEAN, variables={"where": "bin"}) == "pass"
    assert verdict(regex, CLEAN, variables={"where": ".*"}) == "fail"
    ports = "listeners: {port: '{{ ports }}'}\nexpect: {min: 2}"
    two = snapshot([socket(80), socket(81)], {80: process()})
    assert verdict(ports, two, variables={"ports": [80, 81]}) == "pass"


def test_a_crashing_rule_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_args: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("fleetaudit.policy.checks.deny_owners.DenyOwners.judge", crash)
    found = result(NO_SHELL, CLEAN)
    assert found.verdict is Verdict.ERROR
    assert "boom" in found.findings[0].reason


def test_fingerprints_survive_a_restart() -> None:
    def fingerprint(pids: tuple[int, int], inode: int) -> str:
        server, shell = pids
        processes = {server: process(PYTHON), shell: process(SHELL, ppid=server)}
        found = result(NO_SHELL, snapshot([socket(8080, pids, inode=inode)], processes))
        return found.findings[0].fingerprint

    assert fingerprint((80, 81), 5) == fingerprint((1080, 1081), 77)
    other = result(NO_SHELL, snapshot([socket(8081, (81,))], {81: process(SHELL)}))
    assert other.findings[0].fingerprint != fingerprint((80, 81), 5)


def test_the_system_manager_keeps_what_it_opened_for_others() -> None:
    """Socket activation (ssh.socket): pid 1 and the service hold the same socket."""
    sshd = process("/usr/sbin/sshd", ppid=1, user="root", uid=0, euid=0, start_time=200)
    activated = snapshot([socket(22, (1, 80))], {80: sshd})
    assert verdict("same: [exe, user]", activated) == "pass"
    joined = snapshot([socket(22, (1, 80)), socket(22, (90,), inode=9)], {80: sshd, 90: process(PYTHON)})
    assert verdict("same: [exe, user]", joined) == "fail"

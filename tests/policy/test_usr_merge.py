"""A literal /bin/dash means /usr/bin/dash too, where the snapshot proves that they are one file."""

from __future__ import annotations

import pytest

from tests.build import process, snapshot, socket, verdict, without

ALLOW = "allow_owners: [{exe: /bin/dash}]"
ALLOW_OTHERS = "allow_owners: [{exe: {not: /bin/dash}}]"
DENY = "deny_owners: [{exe: [/bin/dash, /opt/x]}]"
DENY_OTHERS = "deny_owners: [{exe: {not: /bin/dash}}]"
NEVER_FOR_CERTAIN = {"allow": "unknown", "allow others": "unknown", "deny": "fail", "deny others": "fail"}
MERGED = {"allow": "pass", "allow others": "fail", "deny": "fail", "deny others": "pass"}
APART = {"allow": "fail", "allow others": "pass", "deny": "pass", "deny others": "fail"}


def judged(
    os: dict[str, str] | None, *, exe: str = "/usr/bin/dash", beside: str = "/usr/sbin/cron", **fields: bool
) -> dict[str, str]:
    wire = snapshot([socket(80, [80])], {80: process(exe, **fields), 90: process(beside)})
    wire["processes"]["1"] |= {"exe": "/sbin/init" if beside.startswith("/sbin") else "/usr/lib/x/init"}
    wire["host"]["os"] = os
    rules = {"allow": ALLOW, "allow others": ALLOW_OTHERS, "deny": DENY, "deny others": DENY_OTHERS}
    return {name: verdict(rule, wire) for name, rule in rules.items()}


@pytest.mark.parametrize(
    ("os_id", "version"),
    [("debian", "12"), ("ubuntu", "24.04"), ("rhel", "9.4"), ("arch", None), ("fedora", "42")],
)
def test_a_release_that_has_nothing_else_proves_it(os_id: str, version: str | None) -> None:
    assert judged({"id": os_id, **({"version_id": version} if version else {})}) == MERGED


@pytest.mark.parametrize(
    "os",
    [None, {"id": "alpine", "version_id": "3.20"}, {"id": "debian", "version_id": "11"}, {"id": "debian"}],
)
def test_where_nothing_proves_it_nothing_passes_by_it(os: dict[str, str] | None) -> None:
    assert judged(os) == NEVER_FOR_CERTAIN


def test_debians_systemd_in_usr_proves_it_and_suses_does_not() -> None:
    systemd = "/usr/lib/systemd/systemd"
    assert judged({"id": "ubuntu", "version_id": "22.04"}, beside=systemd) == MERGED
    assert judged({"id": "opensuse-leap", "version_id": "15.6"}, beside=systemd) == NEVER_FOR_CERTAIN


@pytest.mark.parametrize("beside", ["/bin/login", "/sbin/agetty", "/lib/systemd/systemd-udevd"])
def test_an_executable_below_bin_disproves_it(beside: str) -> None:
    assert judged({"id": "debian", "version_id": "12"}, beside=beside) == APART


def test_a_path_that_is_not_verified_is_no_proof_and_has_no_other_name() -> None:
    os = {"id": "debian", "version_id": "12"}
    assert judged(os, exe_verified=False)["allow"] == "fail"
    wire = snapshot(
        [socket(80, [80])], {80: process("/usr/bin/dash"), 90: process("/bin/x", exe_verified=False)}
    )
    wire["host"]["os"] = os
    assert verdict(ALLOW, wire) == "pass"
    wire["processes"]["80"] = without(process("/usr/bin/dash"), "exe_verified")
    assert (verdict(ALLOW, wire), verdict(DENY, wire)) == ("unknown", "fail")


@pytest.mark.parametrize("exe", ["/usr/bin/bash", "/usr/local/bin/dash", "/usr/bin/x/dash", "/bin2/dash"])
def test_only_the_same_file_is_meant(exe: str) -> None:
    assert judged({"id": "debian", "version_id": "12"}, exe=exe) == APART


def test_a_glob_is_what_it_says_and_a_variable_is_a_literal() -> None:
    wire = snapshot([socket(80, [80])], {80: process("/usr/bin/dash")})
    wire["host"]["os"] = {"id": "debian", "version_id": "12"}
    assert verdict("allow_owners: [{exe: /bin/d*}]", wire) == "fail"
    rule = 'allow_owners: [{exe: "{{ shell }}"}]'
    assert verdict(rule, wire, groups=[], variables={"shell": "/bin/dash"}) == "pass"


def test_ancestors_are_named_both_ways_too() -> None:
    shell, child = process("/usr/bin/dash"), process("/usr/bin/python3.11", ppid=80)
    wire = snapshot([socket(80, [81])], {80: shell, 81: child})
    wire["host"]["os"] = {"id": "debian", "version_id": "12"}
    assert verdict("deny_owners: [{ancestor: {exe: /bin/dash}}]", wire) == "fail"
    assert verdict("allow_owners: [{no_ancestor: {exe: /bin/dash}}]", wire) == "fail"
    wire["host"]["os"] = None
    assert verdict("allow_owners: [{no_ancestor: {exe: /bin/dash}}]", wire) == "fail"
    assert verdict("allow_owners: [{parent: {exe: /bin/dash}}]", wire) == "unknown"

"""Reasons a person can act on: what was expected, who broke it, how the socket came there, what is near."""

from __future__ import annotations

import pytest

from tests.build import NGINX, SHELL, Wire, process, result, snapshot, socket, without

SERVER, CHILD = process(), process(SHELL, ppid=80, comm="sh")
LEAKED = snapshot([socket(8080, [80, 81])], {80: SERVER, 81: CHILD})
WAY = "dash [sh] (pid 81) < python3.11 (pid 80) < systemd (pid 1)"
SH = "dash [sh] (pid 81, user www-data, leak)"
PYTHON = "python3.11 (pid 80, user www-data)"


def reasons(rule: str, wire: Wire = LEAKED) -> list[str]:
    return [finding.reason for finding in result(rule, wire).findings]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (
            "allow_owners: [{exe: '*/python*'}, {exe: /usr/sbin/nginx, user: root}]",
            f"no allow entry matches {SH}; nearest is exe */python*, but exe is /usr/bin/dash; {WAY}",
        ),
        (
            "allow_owners: [{exe: '*/python*'}, {exe: /usr/bin/dash, user: root}, {exe: /x, uid: 0, pid: 1}]",
            f"no allow entry matches {SH}; nearest is exe /usr/bin/dash, user root, but user is www-data; "
            f"{WAY}",
        ),
        (
            "deny_owners: [{shell: true}, {exe: /tmp/*}]",
            f"{SH} may not hold it: denied is shell true; {WAY}",
        ),
        (
            "require_owners: [{exe: /usr/sbin/nginx}]",
            f"no owner is exe /usr/sbin/nginx; held by {PYTHON}, {SH}; wanted is exe /usr/sbin/nginx, but "
            "exe is /usr/bin/python3.11",
        ),
        (
            "same: [exe]",
            f"its owners differ in exe (/usr/bin/dash and /usr/bin/python3.11): {PYTHON}, {SH}; {WAY}",
        ),
        (
            "owners: {max: 1}",
            f"2 owners, at most 1 wanted: {PYTHON}, {SH}; {WAY}",
        ),
        ("owners: {min: 3}", f"2 owners, at least 3 wanted: {PYTHON}, {SH}"),
        (
            "listeners: {port: 8080}\nexpect: none",
            f"nothing may listen here; held by {PYTHON}, {SH}; {WAY}",
        ),
        (
            "scope: [loopback]",
            f"bound to scope any, wanted is loopback; held by {PYTHON}, {SH}; {WAY}",
        ),
        ("listeners: {port: 1}\nexpect: some", "0 found, at least 1 expected: nothing listens there"),
        ("listeners: {port: 1}\nscope: [any]", "no listener on this host is one that the rule selects"),
    ],
)
def test_a_reason_says_what_was_expected_who_broke_it_and_how_it_came_there(rule: str, reason: str) -> None:
    assert reasons(rule) == [reason]


def test_a_path_that_is_not_verified_or_deleted_is_told_apart_from_another_path() -> None:
    rule = f"allow_owners: [{{exe: {NGINX}}}]"
    fake = snapshot([socket(80, [80])], {80: process(NGINX, exe_verified=False)})
    assert f"but exe is {NGINX}, which is not verified" in reasons(rule, fake)[0]
    gone = snapshot([socket(80, [80])], {80: process(NGINX, exe_deleted=True)})
    assert f"but exe is {NGINX}, which is deleted" in reasons(rule, gone)[0]


def test_unknown_names_the_fields_that_would_decide() -> None:
    wire = snapshot([socket(80, [80])], {80: without(process(NGINX), "user", "euid", "exe_deleted")})
    (reason,) = reasons(f"allow_owners: [{{exe: {NGINX}, user: root}}]", wire)
    assert reason.startswith("the snapshot does not say exe and user of nginx (pid 80)")
    (reason,) = reasons("require_owners: [{user: root}]", wire)
    assert (
        reason
        == "whether an owner is user root is not known: the snapshot does not say user of nginx (pid 80)"
    )
    (reason,) = reasons("same: [user]", wire)
    assert "does not say user of all of" in reason


def test_who_handed_the_socket_down_is_told_where_it_was_not_the_parent() -> None:
    chain = {80: SERVER, 81: process(NGINX, ppid=80), 82: process(SHELL, ppid=81)}
    (reason,) = reasons("deny_owners: [{shell: true}]", snapshot([socket(8080, [80, 82])], chain))
    assert reason.endswith(
        "dash (pid 82) < nginx (pid 81) < python3.11 (pid 80) < systemd (pid 1), the socket from pid 80"
    )


def test_an_entry_for_the_kernel_alone_is_nobodys_neighbour() -> None:
    assert "; the only entry is {kernel: true}; " in reasons("allow_owners: [{kernel: true}]")[0]


def test_relatives_differ_too() -> None:
    rule = f"allow_owners: [{{exe: [{SHELL}, '*/python*'], parent: {{exe: /sbin/x}}}}]"
    assert "but parent is not that" in reasons(rule)[0]


def test_a_reason_is_one_bounded_line_whatever_hosts_and_policies_say() -> None:
    name = "n\n\u202e\x1b[2J" * 200
    chain = {
        pid: process(f"/opt/{name}", ppid=pid - 1 if pid > 80 else 1, comm=name) for pid in range(80, 140)
    }
    for item in chain.values():
        item |= {"user": name, "exe_file": None}
    wire = snapshot([socket(80, list(chain))], chain)
    globs = ", ".join(f'"/usr/{"x" * 90}{number}/*"' for number in range(50))
    for rule in (f"allow_owners: [{{exe: [{globs}]}}]", "deny_owners: [{user: '*'}]", "same: [exe, user]"):
        for reason in reasons(rule, wire):
            assert reason.isprintable()
            assert len(reason) <= 800

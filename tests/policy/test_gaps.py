"""What each gap may hide: holders of listeners that were seen, and whole listeners (docs/agent.md, Gaps)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.build import NGINX, PYTHON, Wire, process, snapshot, socket, verdict

DOCS = Path(__file__).parents[2] / "docs" / "agent.md"
ELSEWHERE, ANYWHERE = ("pass", "unknown"), ("unknown", "unknown")
NOWHERE = ("pass", "pass")

# (gap, verdict about the owners of a listener that was seen in the host's namespace,
#  verdicts about listeners: in the host's namespace, in any)
TABLE: list[tuple[Wire, str, tuple[str, str]]] = [
    ({"code": "not_root"}, "unknown", ELSEWHERE),
    ({"code": "no_sys_ptrace"}, "unknown", ELSEWHERE),
    ({"code": "denied_process"}, "unknown", ELSEWHERE),
    ({"code": "denied_fd"}, "unknown", ELSEWHERE),
    ({"code": "hidepid"}, "unknown", ELSEWHERE),
    ({"code": "pid_namespace"}, "unknown", ELSEWHERE),
    ({"code": "budget"}, "unknown", ELSEWHERE),
    ({"code": "truncated"}, "unknown", ANYWHERE),
    # A listener in flight can be all that keeps its namespace alive.
    ({"code": "hidden_holders"}, "unknown", ELSEWHERE),
    # Nobody looked at the queues of the unix sockets there: any listener may be in flight in one.
    ({"code": "netns_not_entered"}, "unknown", ELSEWHERE),
    ({"code": "netns_not_entered", "netns": 2}, "unknown", ELSEWHERE),
    ({"code": "netns_not_entered", "netns": 1}, "unknown", ANYWHERE),
    ({"code": "protocol_not_dumped"}, "unknown", ANYWHERE),
    ({"code": "protocol_not_dumped", "protocol": "unix"}, "unknown", NOWHERE),
    ({"code": "protocol_not_dumped", "protocol": "quic"}, "unknown", ANYWHERE),
    ({"code": "protocol_not_dumped", "protocol": "vsock"}, "pass", NOWHERE),
    ({"code": "protocol_not_dumped", "protocol": "udp"}, "pass", NOWHERE),
    ({"code": "protocol_not_dumped", "protocol": "tcp"}, "unknown", ANYWHERE),
    ({"code": "protocol_not_dumped", "protocol": "tcp", "netns": 2}, "pass", ELSEWHERE),
    ({"code": "protocol_not_dumped", "protocol": "unix", "netns": 2}, "unknown", NOWHERE),
    ({"code": "dump_interrupted"}, "unknown", ANYWHERE),
    ({"code": "dump_interrupted", "protocol": "unix"}, "unknown", NOWHERE),
    ({"code": "dump_interrupted", "protocol": "udp"}, "pass", NOWHERE),
    ({"code": "dump_interrupted", "protocol": "tcp", "netns": 2}, "pass", ELSEWHERE),
    ({"code": "something_never_heard_of"}, "unknown", ANYWHERE),
]
IDS = [" ".join(str(part) for part in gap.values()) for gap, *_ in TABLE]


def wire(gap: Wire) -> Wire:
    return snapshot([socket(8080)], {80: process(PYTHON)}, gaps=[gap])


def test_the_table_has_every_gap_that_is_documented() -> None:
    section = DOCS.read_text().split("\n## Gaps\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert documented
    assert documented <= {gap["code"] for gap, *_ in TABLE}


@pytest.mark.parametrize(("gap", "owners", "listeners"), TABLE, ids=IDS)
def test_owners_that_a_gap_may_hide(gap: Wire, owners: str, listeners: tuple[str, str]) -> None:
    selector = "listeners: {protocol: tcp, port: 8080}\n"
    for rule in ("deny_owners: [{shell: true}]", "same: [exe]", "owners: {max: 1}"):
        assert verdict(selector + rule, wire(gap)) == owners
    assert verdict(f"{selector}allow_owners: [{{exe: {PYTHON}}}]", wire(gap)) == owners
    # What was seen breaks it, or suffices, whatever is hidden.
    assert verdict(f"{selector}allow_owners: [{{exe: {NGINX}}}]", wire(gap)) == "fail"
    assert verdict(f"{selector}require_owners: [{{exe: {PYTHON}}}]", wire(gap)) == "pass"
    # It judges every endpoint that is selected: a hidden one could have too few.
    assert verdict(f"{selector}owners: {{min: 1}}", wire(gap)) == listeners[0]


@pytest.mark.parametrize(("gap", "listeners"), [(row[0], row[2]) for row in TABLE], ids=IDS)
def test_listeners_that_a_gap_may_hide(gap: Wire, listeners: tuple[str, str]) -> None:
    for netns, expected in zip(("host", "any"), listeners, strict=True):
        none = f"listeners: {{protocol: tcp, port: 9, netns: {netns}}}\nexpect: "
        some = f"listeners: {{protocol: tcp, port: 8080, netns: {netns}}}\n"
        assert verdict(none + "none", wire(gap)) == expected
        assert verdict(some + "expect: {max: 1}", wire(gap)) == expected
        assert verdict(some + "scope: [any]", wire(gap)) == expected
        assert verdict(some + "expect: some", wire(gap)) == "pass"
        assert verdict(some + "expect: none", wire(gap)) == "fail"
        missing = "fail" if expected == "pass" else "unknown"
        assert verdict(none + "some", wire(gap)) == missing
        absent = "not_applicable" if expected == "pass" else "unknown"
        assert verdict(none.replace("expect: ", "same: [exe]"), wire(gap)) == absent


def test_what_is_outside_of_an_audited_container_hides_no_owner() -> None:
    outside = wire({"code": "netns_not_entered", "netns": 9})
    outside["network_namespaces"].append({"id": 9, "outside": True})
    rule = "listeners: {port: 8080}\ndeny_owners: [{shell: true}]"
    assert verdict(rule, outside, boundary="container") == "pass"
    assert verdict(rule, outside, boundary="host") == "unknown"

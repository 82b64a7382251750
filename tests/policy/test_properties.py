"""Properties of evaluation that hold for every host."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit.derive import derive
from fleetaudit.model import Result
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.snapshot import decode_line
from tests.build import NGINX, PYTHON, SHELL, Wire, policy, process, snapshot, socket, without

RULES = """
- id: deny
  deny_owners: [{shell: true}, {inherited: leak}]
- id: allow
  listeners: {port: [80, 8080]}
  allow_owners: [{exe: /usr/sbin/nginx}, {exe: '*/python*', user: www-data}]
- id: require
  listeners: {port: 80}
  require_owners: [{exe: /usr/sbin/nginx}]
- id: same
  listeners: {port: 80}
  same: [exe, user]
- id: local
  listeners: {port: {not: 80}}
  scope: [loopback]
- id: rest
  listeners: {scope: {not: loopback}, approved: false}
  expect: none
"""
POLICY = policy(RULES)
PIDS = (80, 81, 82, 83)
RANK = {"fail": 4, "error": 3, "unknown": 2, "waived": 1, "pass": 0, "not_applicable": 0}

processes = st.fixed_dictionaries(
    {
        pid: st.builds(
            lambda exe, parent, drop: without(process(exe, ppid=parent), *drop),
            st.sampled_from([PYTHON, NGINX, SHELL]),
            st.sampled_from([1, *[other for other in PIDS if other < pid]]),
            st.sets(st.sampled_from(["shell", "exe", "user", "cgroup", "exe_verified"]), max_size=2),
        )
        for pid in PIDS
    }
)
sockets = st.lists(
    st.builds(
        lambda port, owners, address, inode: socket(port, owners, address=address, inode=inode),
        st.sampled_from([22, 80, 8080]),
        st.lists(st.sampled_from(PIDS), max_size=3, unique=True),
        st.sampled_from(["127.0.0.1", "0.0.0.0", "10.0.0.1"]),
        st.integers(1, 10**6),
    ),
    max_size=4,
    unique_by=lambda wire: wire["inode"],
)
gaps = st.lists(st.sampled_from(["not_root", "netns_not_entered", "surprise"]), max_size=1)
snapshots = st.builds(lambda s, p, g: snapshot(s, p, gaps=g), sockets, processes, gaps)


def verdicts(wire: Wire) -> dict[str, str]:
    audit = evaluate(derive(decode_line(json.dumps(wire).encode())), [POLICY])
    return {result.rule: result.verdict.value for result in audit.results}


@settings(max_examples=80, deadline=None)
@given(snapshots, st.randoms(use_true_random=False))
def test_the_order_of_sockets_owners_and_processes_never_matters(wire: Wire, shuffler: random.Random) -> None:
    other = json.loads(json.dumps(wire))
    shuffler.shuffle(other["sockets"])
    for item in other["sockets"]:
        shuffler.shuffle(item["owners"])
    other["processes"] = dict(shuffler.sample(list(other["processes"].items()), len(other["processes"])))

    def judged(line: Wire) -> object:
        return evaluate(derive(decode_line(json.dumps(line).encode())), [POLICY]).results

    assert judged(wire) == judged(other)


@settings(max_examples=40, deadline=None)
@given(snapshots, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_policies_never_matters(wire: Wire, shuffler: random.Random) -> None:
    host = derive(decode_line(json.dumps(wire).encode()))
    other = policy("- id: more\n  listeners: {port: 8080}\n  expect: some").rules
    policies = [POLICY, replace(POLICY, name="q", rules=POLICY.rules[:3] + other)]
    before = evaluate(host, policies)
    shuffled = [
        replace(item, rules=tuple(shuffler.sample(item.rules, len(item.rules))))
        for item in shuffler.sample(policies, len(policies))
    ]
    after = evaluate(host, shuffled)

    def by_name(results: tuple[Result, ...]) -> list[Result]:
        return sorted(results, key=lambda result: (result.policy, result.rule))

    assert by_name(before.results) == by_name(after.results)
    assert (before.endpoints, before.unapproved) == (after.endpoints, after.unapproved)


@settings(max_examples=40, deadline=None)
@given(snapshots, st.sets(st.sampled_from(sorted(rule.id for rule in POLICY.rules)), min_size=1))
def test_which_rules_are_judged_changes_no_verdict(wire: Wire, judged: set[str]) -> None:
    host = derive(decode_line(json.dumps(wire).encode()))
    rules = tuple(replace(rule, judged=rule.id in judged) for rule in POLICY.rules)
    results = evaluate(host, [replace(POLICY, rules=rules)]).results
    assert results == tuple(item for item in evaluate(host, [POLICY]).results if item.rule in judged)


TOUCHED = """
- id: host-tcp-is-there
  listeners: {protocol: tcp, port: [22, 80]}
  expect: some
- id: host-tcp-is-not
  listeners: {protocol: tcp, port: 8080}
  expect: none
- id: blue-tcp-is-not
  listeners: {protocol: tcp, netns: blue}
  expect: none
- id: host-udp-is-not
  listeners: {protocol: udp}
  expect: none
"""


@settings(max_examples=60, deadline=None)
@given(sockets, processes)
def test_a_gap_touches_only_the_rules_that_it_can_hide_something_from(
    listed: list[Wire], known: dict[int, Wire]
) -> None:
    rules = policy(TOUCHED)

    def judged(*gaps: Wire) -> dict[str, str]:
        wire = snapshot(listed, known, gaps=gaps)
        results = evaluate(derive(decode_line(json.dumps(wire).encode())), [rules]).results
        return {result.rule: result.verdict.value for result in results}

    whole = judged()
    closed = judged({"code": "netns_not_entered", "netns": 2})
    assert closed == whole | {"blue-tcp-is-not": "unknown"}
    undumped = judged({"code": "protocol_not_dumped", "protocol": "udp"})
    assert undumped == whole | {"host-udp-is-not": "unknown"}


@settings(max_examples=80, deadline=None)
@given(snapshots, st.sampled_from(PIDS))
def test_another_owner_never_turns_allow_or_deny_from_fail_to_pass(wire: Wire, pid: int) -> None:
    before = verdicts(wire)
    more = json.loads(json.dumps(wire))
    for item in more["sockets"]:
        if item["owners"] and all(owner["pid"] != pid for owner in item["owners"]):
            item["owners"].append({"pid": pid, "fds": [9]})
    after = verdicts(more)
    for rule in ("allow", "deny"):
        if before[rule] == "fail" and rule == "allow":
            assert after[rule] == "fail"
        if before[rule] == "fail":
            assert after[rule] != "pass"


@settings(max_examples=80, deadline=None)
@given(snapshots, st.sampled_from(["not_root", "hidepid", "surprise", "budget"]))
def test_a_gap_never_makes_a_verdict_better(wire: Wire, gap: str) -> None:
    before = verdicts(wire)
    less = json.loads(json.dumps(wire))
    less["coverage"]["complete"] = False
    less["coverage"]["gaps"].append({"code": gap, "detail": ""})
    for rule, verdict in verdicts(less).items():
        assert RANK[verdict] >= RANK[before[rule]] or (before[rule], verdict) == ("fail", "unknown")
        if before[rule] in ("unknown", "fail", "error"):
            assert verdict not in ("pass", "not_applicable")


@settings(max_examples=80, deadline=None)
@given(snapshots, st.sampled_from(["shell", "exe", "user", "cgroup", "ppid", "exe_deleted", "comm"]))
def test_a_field_less_never_makes_a_pass_out_of_a_failure(wire: Wire, field: str) -> None:
    before = verdicts(wire)
    less = json.loads(json.dumps(wire))
    for item in less["processes"].values():
        item.pop(field, None)
    for rule, verdict in verdicts(less).items():
        if before[rule] == "fail":
            assert verdict in ("fail", "unknown")

"""`policy lint --against`: what is idle on a whole fleet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetaudit import yamlio
from fleetaudit.cli import main
from fleetaudit.errors import Problem
from fleetaudit.policy.lint import lint
from fleetaudit.policy.lint.against import FleetUse
from tests.build import PYTHON, Wire, outcome, policy, process, snapshot, socket

WEB = snapshot([socket(8080, [80])], {80: process(PYTHON, ppid=1)})
NO_WEB = snapshot([socket(22, [90])], {90: process("/usr/sbin/sshd", ppid=1, user="root")})


def named(wire: Wire, name: str) -> Wire:
    return wire | {"host": {"name": name}}


def idle(rules: str, *hosts: Wire, head: str = "") -> list[tuple[str, int, str]]:
    text = f"version: 1\nname: p\n{head}rules:\n{rules}"
    judged = policy(text)
    fleet = FleetUse([judged])
    for place, wire in enumerate(hosts):
        fleet.add(outcome(named(wire, f"h{place}")))
    found: tuple[Problem, ...] = lint(yamlio.parse(text.encode(), "p.yaml"), judged, text, fleet=fleet)
    return [(item.code, item.place.line, item.hint) for item in found if item.place is not None]


def test_a_rule_that_is_about_nothing_on_any_host() -> None:
    rules = "- id: a\n  listeners: {port: 99}\n  deny_owners: [{shell: true}]\n"
    assert idle(rules, WEB, NO_WEB) == [("rule-idle", 5, "check what it selects, or remove it")]
    assert idle(rules.replace("99", "22"), WEB, NO_WEB) == []


def test_a_policy_that_is_for_no_host() -> None:
    rules = "- id: a\n  listeners: {port: 99}\n  deny_owners: [{shell: true}]\n"
    found = idle(rules, WEB, head="hosts: nowhere\n")
    assert [(code, line) for code, line, _ in found] == [("policy-idle", 3)]


def test_an_allow_entry_that_nobody_used() -> None:
    rules = (
        "- id: a\n  listeners: {port: 8080}\n  allow_owners:\n"
        "  - {exe: /usr/bin/python3.11}\n  - {exe: /usr/sbin/nginx}\n"
    )
    assert idle(rules, WEB, NO_WEB) == [("entry-unused", 8, "remove it, or keep it with a reason")]
    both = snapshot([socket(8080, [80])], {80: process("/usr/sbin/nginx")})
    assert idle(rules, WEB, both) == []


def test_a_literal_that_names_a_symlink() -> None:
    allow = "- id: a\n  listeners: {port: 8080}\n  allow_owners: [{exe: /usr/bin/python3}]\n"
    assert idle(allow, WEB) == [("entry-unused", 6, "/proc shows resolved paths: here /usr/bin/python3.11")]
    deny = "- id: a\n  listeners: {port: 8080}\n  deny_owners: [{exe: /usr/bin/python3}]\n"
    assert idle(deny, WEB) == [("path-unseen", 6, "write /usr/bin/python3*, or the path itself")]
    assert idle(deny.replace("python3}", "python3.11}"), WEB) == []
    assert idle(deny.replace("python3}", "perl}"), WEB) == []


def test_a_rule_shadowed_on_every_host_but_not_by_what_it_says() -> None:
    rules = (
        "- id: a\n  listeners: {port: 8080}\n  deny_owners: [{shell: true}]\n"
        "- id: b\n  listeners: {scope: any}\n  deny_owners: [{shell: true}]\n"
    )
    assert [(code, line) for code, line, _ in idle(rules, WEB)] == [("rule-shadowed", 7)]
    assert [(code, line) for code, line, _ in idle(rules, WEB, NO_WEB)] == [("rule-shadowed", 4)]
    local = snapshot([socket(8080, [80], address="127.0.0.1")], {80: process(PYTHON)})
    assert idle(rules, WEB, NO_WEB, local) == []


def test_hosts_without_a_snapshot_make_no_rule_idle() -> None:
    rules = "- id: a\n  listeners: {port: 99}\n  deny_owners: [{shell: true}]\n"
    text = f"version: 1\nname: p\nrules:\n{rules}"
    judged = policy(text)
    fleet = FleetUse([judged])
    line = {"schema": "fleetaudit.outcome/1", "host": {"name": "h"}, "status": "unreachable", "detail": ""}
    fleet.add(outcome(line))
    assert lint(yamlio.parse(text.encode(), "p.yaml"), judged, text, fleet=fleet) == ()


def test_a_comment_about_the_fleet_waits_for_a_fleet() -> None:
    rules = (
        "- id: a\n  listeners: {port: 99} # fleetaudit: ignore=rule-idle\n  deny_owners: [{shell: true}]\n"
    )
    text = f"version: 1\nname: p\nrules:\n{rules}"
    assert lint(yamlio.parse(text.encode(), "p.yaml"), policy(text), text) == ()
    assert idle(rules, WEB) == []
    assert [code for code, *_ in idle(rules.replace("99", "8080"), WEB)] == ["idle-ignore"]


def test_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_text(json.dumps(named(WEB, "h1")) + "\n" + json.dumps(named(NO_WEB, "h2")) + "\n")
    Path("p.yaml").write_text(
        "version: 1\nname: p\nhosts: web\nrules:\n- id: a\n  listeners: {port: 22}\n  owners: {max: 1}\n"
    )
    Path("inv.ini").write_text("[web]\nh1\n")
    assert main(["policy", "lint", "p.yaml", "--against", "s.jsonl"]) == 1
    assert capfd.readouterr().out.startswith("p.yaml:3:8: policy-idle: ")
    assert main(["policy", "lint", "p.yaml", "--against", "s.jsonl", "-i", "inv.ini"]) == 1
    assert capfd.readouterr().out.startswith("p.yaml:6:14: rule-idle: ")
    assert main(["policy", "lint", "p.yaml", "-i", "inv.ini"]) == 2
    assert main(["policy", "lint", "p.yaml", "--against", "none.jsonl"]) == 2

"""`when:` on facts of the host, and rules chosen by tags."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fleetaudit.errors import ConfigError, PolicyError
from fleetaudit.policy.choosing import choose
from fleetaudit.policy.evaluate import evaluate
from tests.build import PYTHON, SHELL, judge, outcome, policy, process, result, snapshot, socket

HOST = {
    "name": "web1",
    "hostname": "web1",
    "os": {"id": "debian", "version_id": "12"},
    "kernel": "6.1.0-28-amd64",
    "arch": "x86_64",
}
SHELLED = snapshot([socket(8080, (80, 81))], {80: process(PYTHON), 81: process(SHELL, ppid=80)}, host=HOST)
CLEAN = snapshot([socket(8080)], {80: process(PYTHON)}, host=HOST)
MUTE = snapshot([socket(8080)], {80: process(PYTHON)}, host={"name": "web1"})
DENY = "deny_owners: [{shell: true}]"


@pytest.mark.parametrize(
    ("when", "verdict", "reason"),
    [
        ("{os.id: debian}", "fail", "dash"),
        ("{os.id: [debian, ubuntu], os.version_id: 12}", "fail", "dash"),
        ("{kernel: '6.*', arch: '~^x86'}", "fail", "dash"),
        ("{groups: web}", "fail", "dash"),
        ("{groups: all}", "fail", "dash"),
        ("{groups: {not: db}}", "fail", "dash"),
        ("{os.id: '{{ distribution }}'}", "fail", "dash"),
        ("{os.id: rhel}", "not_applicable", "the rule is for other hosts: os.id is debian (wanted: rhel)"),
        ("{groups: db}", "not_applicable", "groups is all and prod and web (wanted: db)"),
        ("{groups: {not: web}}", "not_applicable", "groups is all and prod and web (wanted: not web)"),
        ("{os.id: debian, arch: arm64}", "not_applicable", "hosts: arch is x86_64 (wanted: arm64)"),
        ("{os.id: '{{ missing }}'}", "error", "host web1, rule r: inventory variable 'missing' is not set"),
    ],
)  # fmt: skip
def test_when(when: str, verdict: str, reason: str) -> None:
    inventory = {"groups": ["prod", "web"], "variables": {"distribution": "debian"}}
    found = result(f"when: {when}\n{DENY}", SHELLED, **inventory)
    assert found.verdict.value == verdict
    assert reason in found.findings[0].reason


@pytest.mark.parametrize("wire", [SHELLED, CLEAN])
def test_a_fact_that_is_not_known_makes_the_rule_unknown(wire: dict[str, object]) -> None:
    """Not `not_applicable`, and no pass either."""
    found = result(f"when: {{os.id: debian}}\n{DENY}", wire | {"host": {"name": "web1"}})
    assert found.verdict.value == "unknown"
    assert found.findings[0].reason == (
        "whether the rule is for this host is not known: os.id is not known (wanted: debian)"
    )
    rule = f"when: {{os.id: debian, groups: db}}\n{DENY}"  # what is known suffices
    assert result(rule, MUTE, groups=["web"]).verdict.value == "not_applicable"


def test_the_condition_of_a_policy_holds_for_all_its_rules() -> None:
    text = """
version: 1
name: p
when: {os.id: debian}
rules:
  - {id: a, deny_owners: [{shell: true}]}
  - {id: b, when: {groups: db}, deny_owners: [{shell: true}]}
"""
    assert [item.verdict.value for item in judge(text, SHELLED).results] == ["fail", "not_applicable"]
    other = SHELLED | {"host": HOST | {"os": {"id": "rhel"}}}
    assert [item.verdict.value for item in judge(text, other).results] == ["not_applicable"] * 2


@pytest.mark.parametrize(("os", "expected"), [("debian", "pass"), ("rhel", "fail"), (None, "unknown")])
def test_a_rule_that_is_not_for_the_host_approves_nothing(os: str | None, expected: str) -> None:
    text = """
- id: web
  when: {os.id: debian}
  listeners: {port: 8080}
  allow_owners: [{exe: /usr/bin/python3.11}]
- id: nothing-else
  listeners: {approved: false}
  expect: none
"""
    wire = CLEAN | {"host": HOST | {"os": {"id": os} if os else None}}
    assert judge(text, wire).results[1].verdict.value == expected


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("{os.name: debian}", "did you mean"),
        ("{}", "when"),
        ("{os.id: '~('}", "p.yaml:6:"),
        ("{kernel: '{{ a b }}'}", "is not understood"),
    ],
)
def test_mistakes(when: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(f"- id: r\n  deny_owners: [{{shell: true}}]\n  when: {when}\n")
    assert message in str(caught.value)


TAGGED = """
version: 1
name: p
tags: [base]
references: ["https://example.org/base"]
rules:
  - id: web
    tags: [ssh, web]
    listeners: {port: 8080}
    allow_owners: [{exe: /usr/bin/python3.11}]
  - id: nothing-else
    references: ["https://example.org/else", "https://example.org/base"]
    tags: [deny]
    listeners: {approved: false}
    expect: none
"""


@pytest.mark.parametrize(
    ("only", "skip", "expected"),
    [
        ((), (), ["web", "nothing-else"]),
        (("deny",), (), ["nothing-else"]),
        (("ssh,deny",), (), ["web", "nothing-else"]),
        (("base",), ("web",), ["nothing-else"]),
        ((), ("deny", "ssh"), None),
        (("dney",), (), None),
    ],
)
def test_tags_choose_rules(only: tuple[str, ...], skip: tuple[str, ...], expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match=r"leave no rule to judge|did you mean deny\?"):
            choose([policy(TAGGED)], only, skip)
        return
    audit = evaluate(outcome(CLEAN), choose([policy(TAGGED)], only, skip))
    assert [(item.rule, item.verdict.value) for item in audit.results] == [
        (rule, "pass") for rule in expected
    ]
    lost = evaluate(replace(outcome(CLEAN), snapshot=None), choose([policy(TAGGED)], only, skip))
    assert [item.rule for item in lost.results] == expected


def test_tags_and_references_of_the_policy_are_those_of_its_rules() -> None:
    web, other = judge(TAGGED, CLEAN).results
    assert (web.tags, web.references) == (("base", "ssh", "web"), ("https://example.org/base",))
    assert other.references == ("https://example.org/else", "https://example.org/base")
    assert json.dumps(other.tags) == '["base", "deny"]'

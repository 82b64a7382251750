"""Mistakes in policies: all at once, each with its place and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetaudit import schema, yamlio
from fleetaudit.derive import derive
from fleetaudit.errors import ConfigError, PolicyError
from fleetaudit.inputs import read_policies
from fleetaudit.policy.lint import lint
from fleetaudit.policy.load import load
from fleetaudit.policy.testing import run
from fleetaudit.snapshot import decode_line
from tests.build import policy

HEAD = "version: 1\nname: p\nrules:\n"
SHIPPED = Path(__file__).parents[2] / "policies"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (HEAD + "- id: a\n  expect: none\n- id: a\n  expect: none\n", "p.yaml:6", "already used at line 4"),
        (HEAD + "- id: a\n  severity: critcal\n  expect: none\n", "p.yaml:5", "critical"),
        (HEAD + "- id: a\n  exepct: none\n", "p.yaml:5", "expect"),
        (HEAD + "- id: a\n  title: nothing\n", "p.yaml:4", "asserts nothing"),
        (HEAD + "- id: a\n  listeners: {port: 70000}\n  expect: none\n", "p.yaml:5", "not a port"),
        (HEAD + "- id: a\n  listeners: {port: 90-80}\n  expect: none\n", "p.yaml:5", "80-90"),
        (HEAD + "- id: a\n  listeners: {address: 10.0.0.1/8}\n  expect: none\n", "p.yaml:5", "10.0.0.0/8"),
        (HEAD + "- id: a\n  listeners: {protocol: tpc}\n  expect: none\n", "p.yaml:5", "did you mean tcp"),
        (HEAD + "- id: a\n  allow_owners: [{exe: '~('}]\n", "p.yaml:5", "regular expression"),
        (HEAD + "- id: a\n  allow_owners: [{exe: '~(?=x)'}]\n", "p.yaml:5", "RE2"),
        (HEAD + "- id: a\n  allow_owners: [{user: '{{ a + b }}'}]\n", "p.yaml:5", "a name, no expression"),
        (HEAD + "- id: a\n  deny_owners: [{shell: yes}]\n", "p.yaml:5", "shell"),
        (HEAD + "- id: a\n  deny_owners: [{exe_in_container: /x}]\n", "p.yaml:5", "container"),
        (HEAD + "- id: a\n  scope: [loopbak]\n", "p.yaml:5", "did you mean loopback"),
        ("version: 1\nname: p\nhosts: 'web:&'\nrules:\n- id: a\n  expect: none\n", "p.yaml:3", ""),
        ("version: 2\nname: p\nrules:\n- id: a\n  expect: none\n", "p.yaml:1", "version"),
        ("version: 1\nname: p\nrules: []\n", "p.yaml:3", "rules"),
        ("", "p.yaml", ""),
    ],
)
def test_a_mistake_names_its_place_and_remedy(text: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([(yamlio.parse(text.encode(), "p.yaml"), "")])
    message = str(caught.value)
    assert message.startswith(place)
    assert words in message


def test_all_mistakes_are_reported_at_once() -> None:
    text = HEAD + "- id: a\n  scope: [loopbak]\n- id: a\n  listeners: {port: 70000}\n  expect: none\n"
    with pytest.raises(PolicyError) as caught:
        load([(yamlio.parse(text.encode(), "p.yaml"), "")])
    assert [problem.place.line for problem in caught.value.problems if problem.place] == [5, 6, 7]


def test_two_policies_of_one_name() -> None:
    text = (HEAD + "- id: a\n  expect: none\n").encode()
    with pytest.raises(PolicyError, match=r"already defined in one\.yaml"):
        load([(yamlio.parse(text, "one.yaml"), ""), (yamlio.parse(text, "two.yaml"), "")])


def test_lint_finds_claims_and_negated_ancestors() -> None:
    text = HEAD + (
        "- id: a\n  allow_owners: [{comm: nginx, reason: because}]\n"
        "- id: b\n  deny_owners: [{ancestor: {exe: {not: /usr/sbin/sshd}}}]\n"
        "- id: c\n  allow_owners: [{comm: nginx, user: root}]\n"
    )
    found = lint(yamlio.parse(text.encode(), "p.yaml"), policy(text))
    problems = [problem for problem in found if problem.code != "shadowed-rule"]
    assert [str(problem).split(":")[1] for problem in problems] == ["5", "7"]
    assert "claim-only" in str(problems[0])
    assert "no_ancestor" in str(problems[1])


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.test.yaml")), ids=lambda path: path.name)
def test_shipped_policies_pass_their_own_tests(path: Path) -> None:
    document = yamlio.parse(path.read_bytes(), path.name)
    subject = path.with_name(path.name.replace(".test.yaml", ".yaml"))
    judged = policy(subject.read_text(), subject.name)
    cases = run(document, judged, lambda line: derive(decode_line(line)))
    assert [case for case in cases if not case.passed] == []
    assert {case.rule for case in cases} == {rule.id for rule in judged.rules}, "every rule has a test"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*[!t].yaml")), ids=lambda path: path.name)
def test_shipped_policies_lint_clean_and_are_complete(path: Path) -> None:
    loaded = policy(path.read_text(), path.name)
    assert lint(yamlio.parse(path.read_bytes(), path.name), loaded) == ()
    for rule in loaded.rules:
        assert rule.title != rule.id
        assert rule.remediation
        assert rule.controls


def test_tags_references_and_controls_are_the_rules_own_and_the_policys() -> None:
    loaded = policy(
        """
version: 1
name: p
max_waiver_days: 90
tags: [web]
references: [https://example.org/a]
controls: {one: ["1"], two: ["2"]}
rules:
- id: a
  tags: [tls, web]
  references: [https://example.org/b, https://example.org/a]
  controls: {two: ["3"]}
  reason: agreed
  owner_team: web
  reviewed: 2026-11-01
  expect: none
- id: b
  expect: none
"""
    )
    first, second = loaded.rules
    assert loaded.max_waiver_days == 90
    assert [first.tags, second.tags] == [frozenset({"web", "tls"}), frozenset({"web"})]
    assert first.references == ("https://example.org/b", "https://example.org/a")
    assert first.controls == {"one": ("1",), "two": ("3",)}


def test_every_key_of_the_schema_says_what_it_means() -> None:
    def silent(schema: object, path: tuple[str, ...]) -> list[str]:
        if not isinstance(schema, dict):
            return []
        found = [
            ".".join((*path, name))
            for name, value in schema.get("properties", {}).items()
            if not value.get("description")
        ]
        return found + [lost for name, inner in schema.items() for lost in silent(inner, (*path, name))]

    assert silent(schema.load("policy"), ()) == []


def test_a_policy_file_that_is_too_big_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(HEAD.encode() + b"#" * 10_000_000)
    with pytest.raises(PolicyError) as caught:
        read_policies([str(tmp_path)])
    assert "p.yaml: a policy file has 2097152 bytes at most, and this one has more" in str(caught.value)

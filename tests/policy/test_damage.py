"""Damaged and hostile policy files: a located message or a policy that judges, in bounded time."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError, Problem
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.load import load
from fleetaudit.policy.model import Policy
from fleetaudit.text import visible
from tests.build import NGINX, SHELL, outcome, process, snapshot, socket

TEXT = """
version: 1
name: whole
description: every construct there is
hosts: web:&prod:!db
when: {os.id: [debian, ubuntu], kernel: "~^6[.]"}
controls: {cis_ubuntu_24_04: ["2.1.22"]}
tags: [a]
references: [https://example.org/]
max_waiver_days: 90
rules:
  - id: one
    title: "{{ x }} is text here"
    severity: critical
    hosts: all
    when: {groups: {not: [db, "x*"]}, arch: x86_64}
    listeners: {protocol: [tcp, udp], port: [80, "8000-8999"], address: 10.0.0.0/8, netns: any}
    allow_owners:
      - {exe: /usr/sbin/nginx, user: [root, "{{ user }}"], reason: so, reviewed: 2026-01-01}
      - {exe: "/usr/lib/*/x", no_ancestor: {shell: true}, container: null}
      - {kernel: true}
    same: [exe, user]
  - id: two
    listeners: {scope: {not: loopback}, approved: false, owner: {parent: {exe: "~/cron$"}}}
    deny_owners: [{inherited: [leak, orphan]}, {uid: {not: "0-999"}}]
    owners: {min: 1, max: 4}
    expect: {max: 3}
  - id: three
    require_owners: [{comm: x, pid: 1}]
    scope: [any]
"""
WORDS = st.sampled_from(
    [
        *"{}[]:,'\"|>%@#é\t\n\x00\u2028\ud7ff",
        *("- ", "  ", "not", "&a", "*a", "!!", "~(", "{{ x }}", "<<: ", "? "),
        *("0x1", "1e999", "-1", "99999999999"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(
        ["~", "~(", "*", "[", "8-1", "0-99999", "10.0.0.1/8", "{{ a }}", "{{", "all:&", "@x", "", "~a{9}{9}"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["not", "min", "max", "exe", "id", "x", "ancestor"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
HOSTS = [
    outcome(
        snapshot([socket(80, [80]), socket(8080, [81])], {80: process(NGINX), 81: process(SHELL, ppid=80)}),
        **inv,
    )
    for inv in ({}, {"groups": ["web", "prod"], "variables": {"user": "www-data", "a": [1, ""]}})
]


def loaded(text: bytes) -> tuple[Policy, ...]:
    """The policies in the text, or none after checking that every problem has its place."""
    problems: tuple[Problem, ...] = ()
    policies: tuple[Policy, ...] = ()
    try:
        policies = load([(yamlio.parse(text, "p.yaml"), "")])
    except ConfigError as error:
        problems = error.problems
        assert problems
    assert all(problem.place and problem.place.file == "p.yaml" for problem in problems)
    assert all(visible(str(problem)) == str(problem) for problem in problems)
    return policies


def judged(policies: tuple[Policy, ...]) -> None:
    for host in HOSTS:
        for result in evaluate(host, policies).results:
            assert not any("crashed" in finding.reason for finding in result.findings)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from nodes(item, (*path, key))


def test_what_is_damaged_below_is_whole_before() -> None:
    (policy,) = loaded(TEXT.encode())
    assert [rule.id for rule in policy.rules] == ["one", "two", "three"]
    judged((policy,))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_text_gives_a_located_message_or_a_policy(data: st.DataObject) -> None:
    text = TEXT
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(WORDS) + text[place + data.draw(st.integers(0, 3)) :]
    judged(loaded(text.encode("utf-8", "surrogatepass")))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_located_message_or_a_policy(data: st.DataObject) -> None:
    text = bytearray(TEXT.encode())
    for place in data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=3)):
        text[place] = data.draw(st.integers(0, 255))
    judged(loaded(bytes(text)))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_value_anywhere_gives_a_located_message_or_a_policy(data: st.DataObject) -> None:
    whole = copy.deepcopy(yamlio.parse(TEXT.encode(), "p.yaml").value)
    *path, last = data.draw(st.sampled_from(sorted(filter(None, nodes(whole)), key=str)))
    inner: Any = whole
    for step in path:
        inner = inner[step]
    inner[last] = data.draw(VALUES)
    judged(loaded(json.dumps(whole).encode()))  # JSON is YAML


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        f"version: 1\nname: p\nrules: [{'{id: x, expect: none}, ' * 5_000}]\n",
        f"version: 1\nname: {'n' * 1_000_000}\nrules: []\n",
        "version: 1\nname: p\nrules:\n" + "".join(f"- id: r{n}\n  exepct: none\n" for n in range(5000)),
        "? " * 50_000,
    ],
    ids=["aliases", "lists", "maps", "items", "repeated", "long", "mistakes", "keys"],
)
def test_files_made_to_cost_much_are_refused_soon(text: str) -> None:
    before = time.process_time()
    assert not loaded(text.encode())
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    "pattern",
    ["~(a+)+$", "~(a|a)*b", "~(.*){20}x", "~a{1000}{1000}", "*a" * 900, "~" + "(a?)" * 400 + "a" * 400],
)
def test_no_pattern_is_catastrophic(pattern: str) -> None:
    rule = {"id": "r", "deny_owners": [{"argv": pattern}, {"exe": pattern}]}
    whole = {"version": 1, "name": "p", "rules": [rule]}
    before = time.process_time()
    name = "/" + "a" * 4000
    wire = snapshot([socket(80, [80])], {80: process(name, argv=["a" * 4000] * 10)})
    for result in evaluate(outcome(wire), loaded(json.dumps(whole).encode())).results:
        assert result.verdict.value in ("pass", "fail")
    assert time.process_time() - before < 5

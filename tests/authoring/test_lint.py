"""Lint: each rule finds what it is for, where it stands, and leaves its correct twin alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.errors import Problem
from fleetaudit.inputs import read_policies
from fleetaudit.policy.lint import LINT_RULES, lint
from fleetaudit.policy.lint.containment import value_covers
from fleetaudit.policy.values import Bindings, Kind, compile_value
from tests.build import policy

ROOT = Path(__file__).parents[2]
HEAD = "version: 1\nname: p\nrules:\n"
TODAY = date(2026, 11, 23)


def linted(rules: str) -> tuple[Problem, ...]:
    text = HEAD + rules
    return lint(yamlio.parse(text.encode(), "p.yaml"), policy(text), text, TODAY)


def found(rules: str) -> list[tuple[str, int, int]]:
    return [
        (problem.code, problem.place.line, problem.place.column)
        for problem in linted(rules)
        if problem.place is not None
    ]


def owners(kind: str, *entries: str) -> str:
    return (
        "- id: a\n  listeners: {port: 80}\n  " + f"{kind}:\n" + "".join(f"  - {item}\n" for item in entries)
    )


def selecting(fields: str, assertion: str = "expect: none") -> str:
    return f"- id: a\n  listeners: {fields}\n  {assertion}\n"


ALLOW, DENY, REQUIRE = "allow_owners", "deny_owners", "require_owners"


@pytest.mark.parametrize(
    ("wrong", "right", "code", "place"),
    [
        (owners(ALLOW, "{comm: nginx}"), owners(ALLOW, "{comm: nginx, exe: /n}"), "claim-only", (7, 5)),
        (owners(REQUIRE, "{argv: '*x*'}"), owners(DENY, "{argv: '*x*'}"), "claim-only", (7, 5)),
        (owners(ALLOW, "{user: root}"), owners(ALLOW, "{user: root, unit: a.service}"), "wide-allow", (7, 5)),
        (owners(ALLOW, "{exe: '*'}"), owners(DENY, "{exe: '*'}"), "wide-allow", (7, 5)),
        (owners(ALLOW, "{exe: {not: /bin/x}}"), owners(DENY, "{exe: {not: /bin/x}}"), "wide-allow", (7, 5)),
        (owners(ALLOW, "{exe: '*/nginx'}"), owners(ALLOW, "{exe: '/opt/*/nginx'}"), "any-directory", (7, 11)),
        (owners(ALLOW, "{exe: [/a, /tmp/x]}"), owners(DENY, "{exe: /tmp/x}"), "writable-path", (7, 16)),
        (
            owners(ALLOW, "{exe: '~^/home/x$'}"),
            owners(ALLOW, "{exe: '~^/homes/x$'}"),
            "writable-path",
            (7, 11),
        ),
        (
            owners(ALLOW, "{exe: /usr/bin/bash}"),
            owners(ALLOW, "{exe: /usr/bin/bash, reason: the rescue console}"),
            "allows-shell",
            (7, 11),
        ),
        (owners(DENY, "{exe: /x, pid: 80}"), owners(DENY, "{exe: /x, pid: 1}"), "pid-changes", (7, 20)),
        (
            owners(DENY, "{ancestor: {exe: {not: /usr/sbin/cron}}}"),
            owners(DENY, "{no_ancestor: {exe: /usr/sbin/cron}}"),
            "negated-ancestor",
            (7, 22),
        ),
        (
            owners(ALLOW, "{exe: [/a, /b]}", "{exe: /b, user: root}"),
            owners(ALLOW, "{exe: [/a, /b], user: www-data}", "{exe: /b, user: root}"),
            "covered-entry",
            (8, 5),
        ),
        (
            owners(REQUIRE, "{exe: /b}", "{exe: /b, reason: twice}"),
            owners(REQUIRE, "{exe: /b}", "{exe: /b, user: root}"),
            "covered-entry",
            (8, 5),
        ),
        (owners(DENY, "{exe: nc}"), owners(DENY, "{exe: '*/nc'}"), "never-matches", (7, 11)),
        (owners(DENY, "{exe: '~^nc'}"), owners(DENY, "{exe: '~/nc'}"), "never-matches", (7, 11)),
        (
            owners(DENY, "{exe: '/x (deleted)'}"),
            owners(DENY, "{exe: /x, exe_deleted: true}"),
            "never-matches",
            (7, 11),
        ),
        (owners(DENY, "{exe: /usr//bin/x}"), owners(DENY, "{exe: /usr/bin/x}"), "never-matches", (7, 11)),
        (owners(DENY, "{unit: cron}"), owners(DENY, "{unit: cron.service}"), "never-matches", (7, 12)),
        (
            owners(DENY, "{comm: a-name-of-sixteen}"),
            owners(DENY, "{comm: a-name-of-15-by*}"),
            "never-matches",
            (7, 12),
        ),
        (
            selecting("{port: 80, owner: {exe: nginx}}"),
            selecting("{port: 80, owner: {exe: /usr/sbin/nginx}}"),
            "never-matches",
            (5, 38),
        ),
        (
            owners(ALLOW, "{exe: ~/usr/sbin/nginx}"),
            owners(ALLOW, "{exe: ~^/usr/sbin/nginx$}"),
            "unanchored-regex",
            (7, 11),
        ),
        (
            selecting("{port: [1, {not: 2}]}"),
            selecting("{port: {not: [1, 2]}}"),
            "not-in-list",
            (5, 25),
        ),
        (selecting("{scope: unix}"), selecting("{scope: unix, protocol: unix}"), "never-selects", (5, 22)),
        (
            selecting("{protocol: unix, port: 80}"),
            selecting("{protocol: [unix, tcp], port: 80}"),
            "never-selects",
            (5, 37),
        ),
        (selecting("{path: /x, port: 80}"), selecting("{path: /x}"), "never-selects", (5, 31)),
        (
            selecting("{protocol: tcp, state: UNCONN}"),
            selecting("{protocol: udp, state: UNCONN}"),
            "never-selects",
            (5, 37),
        ),
        (
            selecting("{protocol: tcp, ephemeral: true}"),
            selecting("{protocol: udp, ephemeral: true}"),
            "never-selects",
            (5, 41),
        ),
        (
            selecting("{family: inet, address: '::1'}"),
            selecting("{family: inet6, address: '::1'}"),
            "never-selects",
            (5, 38),
        ),
        (
            selecting("{container: abc}"),
            selecting("{container: abc, netns: any}"),
            "container-netns",
            (5, 26),
        ),
        ("- id: a\n  expect: none\n", selecting("{port: 1}"), "no-selector", (5, 11)),
        (
            "- id: a\n  allow_owners: [{exe: /a}]\n- id: b\n  listeners: {approved: false}\n  expect: none\n",
            "- id: a\n  allow_owners: [{exe: /a}]\n",
            "approves-everything",
            (5, 17),
        ),
        (
            selecting("{port: [80, 81]}") + "- id: b\n  listeners: {port: 80}\n  expect: none\n",
            selecting("{port: [80, 81]}") + "- id: b\n  listeners: {port: 82}\n  expect: none\n",
            "shadowed-rule",
            (7, 3),
        ),
        (
            selecting("{port: 1-65535}", "allow_owners: [{exe: /n}]")
            + "- id: b\n  listeners: {port: 22}\n  allow_owners: [{exe: /s}]\n",
            selecting("{port: 1-65535}", "allow_owners: [{exe: /n}]")
            + "- id: b\n  listeners: {port: 22}\n  allow_owners: [{exe: /n, user: root}]\n",
            "no-override",
            (9, 18),
        ),
        (
            owners(ALLOW, "{exe: /a, reviewed: 2024-01-01}"),
            owners(ALLOW, "{exe: /a, reviewed: 2026-01-01}"),
            "expired-review",
            (7, 25),
        ),
        (
            owners(ALLOW, "{exe: /a, reviewed: 2027-01-01}"),
            owners(ALLOW, "{exe: /a, reviewed: 2025-11-23}"),
            "expired-review",
            (7, 25),
        ),
        (owners(ALLOW, "{exe: /a, reviewed: soon}"), owners(ALLOW, "{exe: /a}"), "expired-review", (7, 25)),
        (
            owners(ALLOW, "{exe: /a} # fleetaudit: ignore=wide-allow"),
            owners(ALLOW, "{user: root} # fleetaudit: ignore=wide-allow"),
            "idle-ignore",
            (7, 36),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value in LINT_RULES else "",
)
def test_a_lint_rule_finds_the_mistake_and_not_its_correct_twin(
    wrong: str, right: str, code: str, place: tuple[int, int]
) -> None:
    assert found(wrong) == [(code, *place)]
    assert found(right) == []


@pytest.mark.parametrize(
    "rules",
    [
        owners(ALLOW, "{exe: /a}", "{exe: /a, exe_deleted: true}"),
        owners(ALLOW, "{exe: /a, user: root}", "{exe: /a, user: {not: '0'}}"),
        owners(ALLOW, "{exe: '/bin/*'}", "{exe: /bin/x}"),  # which is /usr/bin/x too
        selecting("{port: 80, netns: container}") + "- id: b\n  listeners: {port: 80}\n  expect: none\n",
        selecting("{port: 80}")
        + "- id: b\n  listeners: {port: 80, protocol: unix, path: /x}\n  same: [exe]\n",
        selecting("{port: 80-90}", "owners: {min: 2}")
        + "- id: b\n  listeners: {port: 80}\n  owners: {min: 2}\n",
        selecting("{port: 80-90}", "require_owners: [{exe: /a}]")
        + "- id: b\n  listeners: {port: 80}\n  require_owners: [{exe: /a}]\n",
        selecting("{port: 80}", "hosts: web\n  expect: none")
        + "- id: b\n  listeners: {port: 80}\n  hosts: db\n  expect: none\n",
        selecting("{port: 80}", "when: {os.id: debian}\n  expect: none")
        + "- id: b\n  when: {os.id: rhel}\n  listeners: {port: 80}\n  expect: none\n",
        selecting("{port: '{{ a }}'}") + "- id: b\n  listeners: {port: 80}\n  expect: none\n",
        selecting("{port: 80}", "deny_owners: [{exe: /a}]")
        + "- id: b\n  listeners: {port: 80}\n  allow_owners: [{exe: /a}]\n",
    ],
)
def test_what_only_looks_covered_is_left_alone(rules: str) -> None:
    assert [code for code, *_ in found(rules) if code in ("covered-entry", "shadowed-rule")] == []


@pytest.mark.parametrize(
    "narrow",
    ["hosts: web", "when: {os.id: debian}", "severity: low", "listeners: {port: 80, address: 10.0.0.0/8}"],
)
def test_a_rule_for_fewer_hosts_or_listeners_is_shadowed(narrow: str) -> None:
    listeners = "" if narrow.startswith("listeners") else "  listeners: {port: 80}\n"
    second = f"- id: b\n  {narrow}\n{listeners}  expect: none\n"
    assert [code for code, *_ in found(selecting("{port: 80}") + second)] == ["shadowed-rule"]


def test_what_a_policy_takes_over_is_linted_where_it_is_written(tmp_path: Path) -> None:
    base = HEAD.replace("name: p", "name: base") + owners(ALLOW, "{user: root}")
    (tmp_path / "base.yaml").write_text(base)
    over = "version: 1\nname: over\nextends: base.yaml\nrules:\n- {id: a, severity: low}\n"
    file = tmp_path / "over.yaml"

    def codes(text: str) -> list[str]:
        file.write_text(text)
        (loaded,) = read_policies([str(file)])
        return [item.code for item in lint(yamlio.parse(text.encode(), str(file)), loaded, text, TODAY)]

    assert codes(over) == []
    assert codes(over + "- {id: b, listeners: {port: 81}, allow_owners: [{user: root}]}\n") == ["wide-allow"]
    assert codes(over.replace("severity: low", "allow_owners: [{user: [root]}]")) == ["wide-allow"]


def test_every_lint_rule_is_in_the_table_and_documented() -> None:
    page = (ROOT / "docs" / "authoring.md").read_text()
    assert [code for code in LINT_RULES if f"| `{code}` |" not in page] == []


def test_a_comment_silences_one_lint_rule_on_its_line_or_the_next() -> None:
    wide = owners(ALLOW, "{user: root, pid: 7}")
    assert [code for code, *_ in found(wide)] == ["wide-allow", "pid-changes"]
    above = wide.replace("  - {user", "  # fleetaudit: ignore=pid-changes, wide-allow\n  - {user")
    assert found(above) == []
    beside = owners(ALLOW, "{user: root, pid: 7} # why. fleetaudit: ignore=wide-allow")
    assert [code for code, *_ in found(beside)] == ["wide-allow", "pid-changes"]  # no comment of ours
    assert found(owners(ALLOW, "{user: root, pid: 7} # fleetaudit: ignore=wide-allow")) == [
        ("pid-changes", 7, 23)
    ]


def test_a_comment_with_a_typo_is_told() -> None:
    (problem,) = linted(owners(ALLOW, "{exe: /a} # fleetaudit: ignore=wide-alow"))
    assert problem.hint == "did you mean wide-allow?"


def test_a_comment_speaks_for_the_next_line_only_where_it_stands_alone() -> None:
    rules = owners(ALLOW, "{exe: /a} # fleetaudit: ignore=wide-allow", "{user: root}")
    assert [code for code, *_ in found(rules)] == ["idle-ignore", "wide-allow"]


@pytest.mark.parametrize("file", sorted((ROOT / "policies").glob("*[!t].yaml")), ids=lambda path: path.name)
def test_shipped_policies_are_clean(file: Path) -> None:
    if file.name.endswith(".test.yaml"):
        return
    text = file.read_text()
    assert lint(yamlio.parse(text.encode(), file.name), policy(text), text, TODAY) == ()


WORDS = st.sampled_from(["a", "b", "ab", "a*", "*", "?b", "~a", "~^a$", "[ab]", "0"])
TEXTS = st.recursive(
    WORDS, lambda inner: st.lists(inner, min_size=1, max_size=3) | st.fixed_dictionaries({"not": inner})
)
NUMBERS = st.recursive(
    st.sampled_from([1, 2, 80, "80", "1-80", "70-90", "80-80"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.fixed_dictionaries({"not": inner}),
)
ADDRESSES = st.recursive(
    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "::1", "::/0", "0:0::1", "10.*", "~^10", "*"]),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.fixed_dictionaries({"not": inner}),
)
CASES = (
    st.tuples(st.just(Kind.TEXT), TEXTS, TEXTS, st.lists(st.sampled_from(["a", "b", "ab", "0", "cab", None])))
    | st.tuples(st.just(Kind.PORT), NUMBERS, NUMBERS, st.lists(st.sampled_from([1, 2, 70, 80, 90, 100])))
    | st.tuples(
        st.just(Kind.ADDRESS),
        ADDRESSES,
        ADDRESSES,
        st.lists(st.sampled_from(["10.1.2.3", "10.9.9.9", "::1", "fe80::1", "0.0.0.0"])),
    )
)


@settings(max_examples=400, deadline=None)
@given(case=CASES)
def test_what_is_said_to_cover_does_match_all_that_the_other_matches(
    case: tuple[Kind, object, object, list[object]],
) -> None:
    kind, wide, narrow, subject = case
    if value_covers(wide, narrow, kind):
        matched = compile_value(narrow, kind, (), Bindings({})).match(subject)
        assert not matched or compile_value(wide, kind, (), Bindings({})).match(subject)

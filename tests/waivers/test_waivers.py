"""Waivers: what they cover, for how long, and that nothing passes or fails because of one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError
from fleetaudit.model import HostAudit, Verdict, WaiverStanding
from fleetaudit.policy import waiver_files
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.waivers import Waiver, waive
from fleetaudit.summary import Gate, Tally
from fleetaudit.waiving import Waiving
from tests.build import NGINX, PYTHON, SHELL, Wire, outcome, policy, process, snapshot, socket

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
POLICY = policy(
    """
version: 1
name: p
rules:
  - id: no-shell
    deny_owners: [{shell: true}]
  - id: nothing-else
    listeners: {port: 9999}
    expect: none
  - id: up
    listeners: {port: 1}
    expect: some
  - id: one-program
    listeners: {port: [8080, 8081]}
    same: [exe]
"""
)
SHELLED = snapshot(
    [socket(8080, (80, 81)), socket(8081, (80, 82), inode=7), socket(9999, (90,)), socket(1, (90,))],
    {
        80: process(PYTHON),
        81: process(SHELL, ppid=80, start_time=200),
        82: process("/usr/bin/bash", ppid=80, start_time=200, user="root"),
        90: process(NGINX),
    },
)
COVERS_ALL = "{policy: p, rule: no-shell, reason: r, expires: 2026-12-31}"


def waivers(*entries: str, name: str = "w.yaml") -> tuple[Waiver, ...]:
    listed = "".join(f"\n  - {entry}" for entry in entries) or " []"
    text = f"version: 1\nwaivers:{listed}\n"
    return waiver_files.load([yamlio.parse(text.encode(), name)], [POLICY], NOW)


def judged(wire: Wire, *entries: str, now: datetime = NOW, **inventory: Any) -> HostAudit:
    audit = evaluate(outcome(wire, **inventory), [POLICY])
    return waive(audit, waivers(*entries), now)[0]


def verdicts(audit: HostAudit) -> dict[str, str]:
    return {result.rule: result.verdict.value for result in audit.results}


def findings(audit: HostAudit, rule: str) -> list[tuple[str, int | None]]:
    (found,) = (result for result in audit.results if result.rule == rule)
    ports = [item.listener.port if item.listener else None for item in found.findings]
    return [
        (item.verdict.value, port if isinstance(port, int) else None)
        for item, port in zip(found.findings, ports, strict=True)
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (COVERS_ALL, {"waived"}),
        ("{policy: p, rule: no-shell, reason: r, hosts: 'web*'}", {"waived"}),
        ("{policy: p, rule: no-shell, reason: r, hosts: db}", {"fail"}),
        ("{policy: p, rule: no-shell, reason: r, hosts: prod}", {"waived"}),
        ("{policy: other, rule: no-shell, reason: r}", {"fail"}),
        ("{policy: p, rule: nothing-else, reason: r}", {"fail"}),
        ("{policy: p, rule: no-shell, reason: r, listeners: {port: 8080}}", {"waived", "fail"}),
        ("{policy: p, rule: no-shell, reason: r, listeners: {port: '8080-8081'}}", {"waived"}),
        ("{policy: p, rule: no-shell, reason: r, listeners: {port: 8080, netns: container}}", {"fail"}),
        ("{policy: p, rule: no-shell, reason: r, owners: {exe: /usr/bin/dash}}", {"waived", "fail"}),
        ("{policy: p, rule: no-shell, reason: r, owners: [{exe: '*/dash'}, {user: root}]}", {"waived"}),
        ("{policy: p, rule: no-shell, reason: r, owners: {exe: /usr/bin/python3.11}}", {"fail"}),
    ],
)
def test_what_a_waiver_covers(entry: str, expected: set[str]) -> None:
    audit = judged(SHELLED, entry, groups=["prod"])
    assert {verdict for verdict, _ in findings(audit, "no-shell")} == expected
    gravest = "fail" if "fail" in expected else "waived"
    assert verdicts(audit) == {
        **verdicts(evaluate(outcome(SHELLED, groups=["prod"]), [POLICY])),
        "no-shell": gravest,
        **({"nothing-else": "waived"} if "nothing-else" in entry else {}),
    }


def test_every_owner_that_breaks_the_rule_has_to_match() -> None:
    wire = snapshot(
        [socket(8080, (81, 82))],
        {81: process(SHELL), 82: process("/usr/bin/bash", user="root")},
    )
    one = "{policy: p, rule: no-shell, reason: r, owners: {exe: /usr/bin/dash}}"
    assert verdicts(judged(wire, one))["no-shell"] == "fail"
    other = "{policy: p, rule: no-shell, reason: r, owners: {exe: /usr/bin/bash}}"
    assert verdicts(judged(wire, one, other))["no-shell"] == "fail"  # two waivers do not add up
    both = "{policy: p, rule: no-shell, reason: r, owners: [{exe: /usr/bin/dash}, {exe: /usr/bin/bash}]}"
    assert verdicts(judged(wire, both))["no-shell"] == "waived"


def test_a_path_that_the_agent_could_not_verify_is_not_waived_by_its_name() -> None:
    wire = snapshot([socket(8080, (81,))], {81: process(SHELL, exe_verified=False)})
    entry = "{policy: p, rule: no-shell, reason: r, owners: {exe: /usr/bin/dash}}"
    assert verdicts(judged(wire, entry))["no-shell"] == "fail"


def test_findings_without_owners_or_listener() -> None:
    expected = "{policy: p, rule: nothing-else, reason: r, owners: {exe: /usr/sbin/nginx}}"
    assert verdicts(judged(SHELLED, expected))["nothing-else"] == "waived"
    missing = snapshot()
    up = "{policy: p, rule: up, reason: r%s}"
    assert verdicts(judged(missing, up % ""))["up"] == "waived"
    assert verdicts(judged(missing, up % ", owners: {user: root}"))["up"] == "fail"
    assert verdicts(judged(missing, up % ", listeners: {port: 1}"))["up"] == "fail"


@pytest.mark.parametrize("rule", ["no-shell", "one-program"])
def test_what_is_not_known_beside_a_waived_owner_stays_unknown(rule: str) -> None:
    """Somebody else may hold it too."""
    wire = SHELLED | {"coverage": {"complete": False, "gaps": [{"code": "denied_process"}], "euid": 1000}}
    entry = f"{{policy: p, rule: {rule}, reason: r}}"
    before = judged(wire)
    assert verdicts(before)[rule] == "fail"
    after = judged(wire, entry)
    assert verdicts(after)[rule] == "unknown"
    (result,) = (result for result in after.results if result.rule == rule)
    assert any("beyond what is waived: " in finding.reason for finding in result.findings)


def test_unknown_and_errors_cannot_be_waived() -> None:
    wire = snapshot([socket(8080, ())], {})
    assert verdicts(judged(wire))["no-shell"] == "unknown"
    assert verdicts(judged(wire, COVERS_ALL))["no-shell"] == "unknown"


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=timezone.utc), "waived"),
        (datetime(2027, 1, 1, tzinfo=timezone.utc), "fail"),
        # The same moment as the first, where it is tomorrow already.
        (datetime(2027, 1, 1, 13, 59, 59, tzinfo=timezone(timedelta(hours=14))), "waived"),
        (datetime(2026, 12, 31, 12, tzinfo=timezone(timedelta(hours=-12))), "fail"),
    ],
)
def test_a_waiver_ends_with_its_day_in_utc(now: datetime, verdict: str) -> None:
    audit = judged(SHELLED, COVERS_ALL, now=now)
    assert verdicts(audit)["no-shell"] == verdict
    (result,) = (result for result in audit.results if result.rule == "no-shell")
    if verdict == "fail":
        assert result.findings[0].reason.endswith("; waiver w.yaml:3:5 expired at 2027-01-01T00:00:00Z")
    else:
        assert result.findings[0].waiver == "w.yaml:3:5: r (until 2026-12-31)"


def standings(*entries: str, wires: int = 1, now: datetime = NOW, lost: bool = False) -> list[WaiverStanding]:
    waiving = Waiving(waivers(*entries), now, timedelta(days=14), [POLICY])
    outcomes = [outcome(SHELLED | {"host": {"name": f"web{number}"}}) for number in range(wires)]
    audits = [evaluate(item, [POLICY]) for item in outcomes]
    if lost:
        audits.append(
            HostAudit(
                outcome({"schema": "fleetaudit.outcome/1", "host": {"name": "webx"}, "status": "unreachable"})
            )
        )
    tally = Tally(Gate(strict_waivers=True), waiving=waiving)
    list(tally.over(audits))
    return list(tally.summary().waivers)


NARROW = "{policy: p, rule: no-shell, reason: r, %s owners: [{exe: '/usr/bin/*'}]}"
OVER = NARROW % "expires: 2026-11-22,"
SOON = NARROW % "expires: 2026-11-30, listeners: {port: 5},"
WEB = "{policy: p, rule: nothing-else, reason: r, owners: {exe: /usr/sbin/nginx}}"
ANYBODY = "{policy: p, rule: nothing-else, reason: r}"
OTHER = "{policy: q, rule: x, reason: r, owners: {user: root}}"


@pytest.mark.parametrize(
    ("entry", "wires", "states", "detail"),
    [
        (NARROW % "", 1, ["used", "over_broad"], "it covers a shell"),
        (WEB, 5, ["used"], ""),
        (WEB, 6, ["used", "over_broad"], "it is for 6 of 6 hosts"),
        (ANYBODY, 1, ["used", "over_broad"], "it accepts whoever owns it: name owners"),
        (NARROW % "hosts: db,", 1, ["not_targeted"], "it is for no host of this run"),
        (NARROW % "listeners: {port: 5},", 1, ["unused"], "nothing it covers was found"),
        (OVER, 1, ["expired", "over_broad"], "it expired at 2026-11-23T00:00:00Z; it covers a shell"),
        (SOON, 1, ["expiring", "unused"], "it ends at 2026-12-01T00:00:00Z; nothing it covers was found"),
        (OTHER, 1, ["other_policy"], "no policy of this run is called 'q'"),
    ],
)  # fmt: skip
def test_what_became_of_a_waiver(entry: str, wires: int, states: list[str], detail: str) -> None:
    (standing,) = standings(entry, wires=wires)
    assert (list(standing.states), standing.detail) == (states, detail)


def test_a_waiver_is_not_called_unused_while_a_host_of_it_was_not_audited() -> None:
    (standing,) = standings(NARROW % "listeners: {port: 5},", lost=True)
    assert standing.states == ("open",)
    assert not standing.wants_attention


def test_the_policy_bounds_how_long_a_waiver_may_be() -> None:
    strict = policy(
        "version: 1\nname: p\nmax_waiver_days: 30\nrules: [{id: no-shell, deny_owners: [{shell: true}]}]"
    )
    audit = evaluate(outcome(SHELLED), [strict])
    for entry, verdict, said in (
        ("expires: 2026-12-23", "waived", ""),
        ("expires: 2026-12-24", "fail", "it has 31 days left, and policy 'p' allows 30 days"),
        ("ticket: 1", "fail", "it has no end, and policy 'p' allows 30 days"),
    ):
        text = f"version: 1\nwaivers: [{{policy: p, rule: no-shell, reason: r, {entry}}}]"
        loaded = waiver_files.load([yamlio.parse(text.encode(), "w.yaml")], [strict], NOW)
        (result,) = waive(audit, loaded, NOW)[0].results
        assert result.verdict.value == verdict
        assert said in result.findings[0].reason


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{policy: p, rule: no-shel, reason: r}", "3:23: policy 'p' has no rule 'no-shel' (did you mean no-"),
        ("{policy: p, rule: no-shell}", "reason"),
        ("{policy: p, rule: no-shell, reason: ''}", "reason"),
        ("{rule: no-shell, reason: r}", "policy"),
        ("{policy: p, rule: no-shell, reason: r, expires: 2026-02-30}", "'2026-02-30' is no date (write"),
        ("{policy: p, rule: no-shell, reason: r, expires: 20261231}", "w.yaml:3:"),
        ("{policy: p, rule: no-shell, reason: r, expires: 2026-W52-1}", "is no date"),
        ("{policy: p, rule: no-shell, reason: r, hosts: 'web['}", "a bracket is not closed"),
        ("{policy: p, rule: no-shell, reason: r, hosts: 'web[0]'}", "depend on the order in an inventory"),
        ("{policy: p, rule: no-shell, reason: r, owners: {exe: '~('}}", "the regular expression is wrong"),
        ("{policy: p, rule: no-shell, reason: r, owners: []}", "owners"),
        ("{policy: p, rule: no-shell, reason: r, owners: {}}", "owners"),
        ("{policy: p, rule: no-shell, reason: r, owners: {user: '{{ x }}'}}", "takes no inventory variables"),
        ("{policy: p, rule: no-shell, reason: r, listeners: {prot: 1}}", "did you mean"),
        ("{policy: p, rule: no-shell, reason: r, listeners: {approved: true}}", "approved"),
        ("{policy: p, rule: no-shell, reason: r, until: 2026-12-31}", "until"),
    ],
)  # fmt: skip
def test_mistakes_are_located(entry: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        waivers(entry)
    assert message in str(caught.value)
    assert "w.yaml:3" in str(caught.value)


ENTRY = st.sampled_from(
    [
        COVERS_ALL,
        NARROW % "listeners: {port: 8080},",
        NARROW % "hosts: db,",
        NARROW % "expires: 2020-01-01,",
        "{policy: p, rule: nothing-else, reason: r, owners: {exe: /usr/sbin/nginx}}",
        "{policy: p, rule: up, reason: r}",
        "{policy: p, rule: one-program, reason: r}",
    ]
)
_RANK = {Verdict.FAIL: 3, Verdict.ERROR: 2, Verdict.UNKNOWN: 1}


@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRY, max_size=4), ENTRY, st.booleans())
def test_one_more_waiver_never_makes_anything_worse(entries: list[str], more: str, hidden: bool) -> None:
    wire = SHELLED
    if hidden:
        wire = wire | {"coverage": {"complete": False, "gaps": [{"code": "hidepid"}], "euid": 0}}
    before, after = judged(wire, *entries), judged(wire, *entries, more)
    for old, new in zip(before.results, after.results, strict=True):
        assert _RANK.get(new.verdict, 0) <= _RANK.get(old.verdict, 0)
        assert new.verdict is not Verdict.PASS or old.verdict is Verdict.PASS

"""A rule that lint calls shadowed never finds what the other one does not: on any host, whatever is there."""

from __future__ import annotations

import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.lint import lint
from tests.authoring.strategies import hosts, matcher, rule
from tests.build import Wire, outcome, policy


@st.composite
def alike(draw: st.DrawFn) -> tuple[Wire, Wire]:
    """Two rules, the second the first with little changed: unrelated ones seldom cover each other."""
    one, other = draw(rule("one")), draw(rule("two"))
    two = dict(one, id="two")
    for name in draw(st.sets(st.sampled_from(["listeners", "hosts"]), max_size=1)):
        two.pop(name, None)
        two |= {name: other[name]} if name in other else {}
    for name in set(one) & {"allow_owners", "deny_owners", "require_owners"}:
        two[name] = draw(st.permutations(one[name] + draw(st.lists(matcher(), max_size=1))))
    if draw(st.booleans()):
        return one, two
    return dict(two, id="one"), dict(one, id="two")


@settings(max_examples=60, deadline=None)
@given(rules=alike(), wire=hosts(), group=st.sampled_from(["web", "db"]))
def test_what_is_shadowed_is_found_by_the_other(rules: tuple[Wire, Wire], wire: Wire, group: str) -> None:
    text = json.dumps({"version": 1, "name": "p", "rules": list(rules)})
    judged = policy("#version: 1\n" + text)
    found = lint(yamlio.parse(text.encode(), "p.yaml"), judged)
    idle = [item for item in found if item.code == "shadowed-rule"]
    assume(idle)
    weak = "one" if "all that 'one' does" in idle[0].message else "two"
    verdicts = {
        result.rule: result.verdict.value
        for result in evaluate(outcome(wire, groups=[group], variables={}), [judged]).results
    }
    strong = verdicts["two" if weak == "one" else "one"]
    if verdicts[weak] == "fail":
        assert strong == "fail"
    if verdicts[weak] == "unknown":
        assert strong in ("fail", "unknown")

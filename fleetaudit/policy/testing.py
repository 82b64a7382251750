"""Unit tests beside a policy (`*.test.yaml`): snapshots written short, the expected verdict per rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleetaudit import schema
from fleetaudit.errors import Place, PolicyError, Problem
from fleetaudit.model import Outcome, Result
from fleetaudit.policy.evaluate import evaluate
from fleetaudit.policy.model import Policy
from fleetaudit.policy.shorthand import ShorthandError, line_of
from fleetaudit.yamlio import Document


@dataclass(frozen=True, slots=True)
class TestCase:
    """One expectation: a rule's verdict on a host written short, and what came out."""

    __test__ = False  # not a pytest class

    name: str
    rule: str
    expected: str
    found: str
    reason: str
    place: Place

    @property
    def passed(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.found == self.expected


def run(document: Document, policy: Policy, read: Callable[[bytes], Outcome]) -> tuple[TestCase, ...]:
    """Every expectation of a test file, judged. `read` turns a snapshot line into a derived outcome.

    Raises PolicyError when the file is not a policy test.
    """
    problems = schema.problems(document, "policy-test")
    if problems or not isinstance(document.value, Mapping):
        raise PolicyError(problems)
    return tuple(
        case
        for place, test in enumerate(document.value["tests"])
        for case in _cases(document, ("tests", place), test, policy, read)
    )


def _cases(
    document: Document,
    path: tuple[str | int, ...],
    test: Mapping[str, object],
    policy: Policy,
    read: Callable[[bytes], Outcome],
) -> Iterator[TestCase]:
    inventory = {"groups": test.get("groups", []), "variables": test.get("variables", {})}
    try:
        line = line_of(
            str(test.get("host", "host")), _texts(test, "listeners"), _texts(test, "gaps"), inventory
        )
    except ShorthandError as error:
        raise PolicyError(Problem(str(error), document.place((*path, "listeners")))) from None
    results = {result.rule: result for result in evaluate(read(json.dumps(line).encode()), [policy]).results}
    expected = test["expect"]
    for rule, verdict in expected.items() if isinstance(expected, Mapping) else ():
        place = document.place((*path, "expect", rule), key=True)
        found = results.get(rule)
        if found is None and rule not in {known.id for known in policy.rules}:
            hint = f"rules: {', '.join(known.id for known in policy.rules)}"
            raise PolicyError(Problem(f"policy '{policy.name}' has no rule '{rule}'", place, hint))
        yield TestCase(
            name=str(test["name"]),
            rule=rule,
            expected=str(verdict),
            found=found.verdict.value if found else "not selected",
            reason=_reason(found),
            place=place,
        )


def _texts(test: Mapping[str, object], key: str) -> Sequence[str]:
    value = test.get(key, [])
    return [str(item) for item in value] if isinstance(value, list) else []


def _reason(result: Result | None) -> str:
    if result is None:
        return "the policy's hosts pattern does not select this host"
    return "; ".join(finding.reason for finding in result.findings)

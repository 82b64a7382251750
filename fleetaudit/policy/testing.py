"""Unit tests beside a policy (`*.test.yaml`): hosts written short or saved, the expected verdict per rule."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import re2

from fleetaudit import schema
from fleetaudit.errors import ConfigError, OutputError, Place, PolicyError, Problem
from fleetaudit.model import Finding, HostContext, Outcome, Result
from fleetaudit.policy.entry_use import entry_lists, used
from fleetaudit.policy.evaluate import cases, evaluate
from fleetaudit.policy.model import Policy, Rule
from fleetaudit.policy.shorthand import ShorthandError, line_of
from fleetaudit.policy.values import Path
from fleetaudit.yamlio import Document

ReadLine = Callable[[bytes], Outcome]
ReadLines = Callable[[str], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class TestCase:
    """One expectation: a rule's verdict on a host, and what came out. `findings` is what the rule said.

    `wanted_reason` is a text that some reason must hold, or a ~regex that must be found in one.
    """

    __test__ = False  # not a pytest class

    name: str
    rule: str
    expected: str
    found: str
    reason: str
    place: Place
    wanted_reason: str = ""
    findings: tuple[Finding, ...] = ()
    checked: int = 0

    @property
    def passed(self) -> bool:
        """Whether the verdict is the expected one, for the expected reason."""
        return self.found == self.expected and self.reason_fits

    @property
    def reason_fits(self) -> bool:
        """Whether the reason is the wanted one, if any is."""
        if not self.wanted_reason.startswith("~"):
            return self.wanted_reason in self.reason
        return re2.compile(self.wanted_reason[1:]).search(self.reason) is not None


@dataclass(frozen=True, slots=True)
class Point:
    """Something that the tests of a policy should show, and whether one does."""

    place: Place
    text: str
    covered: bool


@dataclass(slots=True)
class Coverage:
    """What the tests of one policy have shown so far: verdicts of rules, entries that matched."""

    policy: Policy
    verdicts: set[tuple[str, str]] = field(default_factory=set)
    matched: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, outcome: Outcome, expected: Mapping[str, str]) -> None:
        """Take in one test: the host, and the verdicts that were expected and found there."""
        self.verdicts |= set(expected.items())
        for _, rule, compiled, case in cases(outcome, [self.policy]):
            if rule.id in expected:
                for name, entries, trust in entry_lists(compiled):
                    self.matched |= {(rule.id, name, place) for place in used(entries, trust, case)}

    def points(self) -> tuple[Point, ...]:
        """Each rule must pass once and fail once, each entry of an owner list match once.

        Rules that the policy takes over as they are count with the policy that has them.
        """
        own = [rule for rule in self.policy.rules if rule.place.file == self.policy.file]
        return tuple(point for rule in own for point in self._points(rule))

    def _points(self, rule: Rule) -> Iterator[Point]:
        for verdict in ("pass", "fail"):
            text = f"rule {rule.id}: no test expects it to {verdict}"
            yield Point(rule.place, text, (rule.id, verdict) in self.verdicts)
        for name in ("allow_owners", "deny_owners", "require_owners"):
            listed = rule.spec.get(name)
            for place in range(len(listed) if isinstance(listed, list | tuple) else 0):
                text = f"rule {rule.id}: entry {place + 1} of {name} matches nobody in any test"
                yield Point(rule.place, text, (rule.id, name, place) in self.matched)


def run(
    document: Document,
    policy: Policy,
    read: ReadLine,
    *,
    lines: ReadLines | None = None,
    coverage: Coverage | None = None,
) -> tuple[TestCase, ...]:
    """Every expectation of a test file, judged. `read` turns a snapshot line into a derived outcome,
    `lines` gives the lines of a snapshot file that a test names.

    Raises PolicyError with every mistake when the file is not a policy test.
    """
    problems = list(schema.problems(document, "policy-test"))
    if problems or not isinstance(document.value, Mapping):
        raise PolicyError(problems)
    found: list[TestCase] = []
    for place, test in enumerate(document.value["tests"]):
        one = _Test(document, ("tests", place), test, policy)
        try:
            outcome = one.outcome(read, lines)
            found += one.judge(outcome, coverage)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Test:
    """One test of a file: a host, and what is expected there."""

    document: Document
    path: Path
    spec: Mapping[str, object]
    policy: Policy

    def outcome(self, read: ReadLine, lines: ReadLines | None) -> Outcome:
        """The host, derived. Raises PolicyError."""
        if ("listeners" in self.spec) == ("snapshot" in self.spec):
            raise self._mistake(
                "a test is about a host: listeners written short, or a snapshot file",
                (),
                "write one of the two",
            )
        if "snapshot" in self.spec:
            return self._saved(read, lines)
        inventory = {"groups": self.spec.get("groups", []), "variables": self.spec.get("variables", {})}
        name = str(self.spec.get("host", "host"))
        gaps = [str(item) for item in _listed(self.spec, "gaps")]
        listeners = [str(item) for item in _listed(self.spec, "listeners")]
        for place, text in enumerate(listeners):
            try:
                line_of(name, [text], (), {})
            except ShorthandError as error:
                raise self._mistake(str(error), ("listeners", place)) from None
        try:
            facts = _mapping(self.spec.get("facts"))
            return read(json.dumps(line_of(name, listeners, gaps, inventory, facts)).encode())
        except ShorthandError as error:
            raise self._mistake(str(error), ("listeners",)) from None

    def _saved(self, read: ReadLine, lines: ReadLines | None) -> Outcome:
        file, wanted = str(self.spec["snapshot"]), self.spec.get("host")
        for key in ("gaps", "facts"):
            if key in self.spec:
                raise self._mistake(f"{key} are for listeners written short", (key,), "leave them out")
        if lines is None:
            raise self._mistake("snapshot files cannot be read here", ("snapshot",), "write listeners")
        hosts: dict[str, Outcome] = {}
        try:
            for line in lines(file):
                outcome = read(line)
                hosts[outcome.host] = outcome
        except (OutputError, ConfigError) as error:
            raise self._mistake(f"{file}: {error}", ("snapshot",)) from None
        if wanted is None and len(hosts) == 1:
            wanted = next(iter(hosts))
        found = hosts.get(str(wanted))
        if found is None:
            names = ", ".join(sorted(hosts)[:10]) or "none"
            message = f"{file} has no host '{wanted}'" if wanted else f"{file} has {len(hosts)} hosts"
            raise self._mistake(message, ("host" if wanted else "snapshot",), f"write host: one of {names}")
        return replace(found, context=self._context(found.context))

    def _context(self, saved: HostContext) -> HostContext:
        """What the test says of the inventory, else what the snapshot's line does."""
        groups, variables = self.spec.get("groups"), self.spec.get("variables")
        if isinstance(groups, list):
            saved = replace(saved, groups=tuple(sorted(map(str, groups))))
        if isinstance(variables, Mapping):
            frozen = {key: tuple(v) if isinstance(v, list) else v for key, v in variables.items()}
            saved = replace(saved, variables=frozen)
        return saved

    def judge(self, outcome: Outcome, coverage: Coverage | None) -> Iterator[TestCase]:
        """Its expectations. Raises PolicyError for rules that the policy does not have."""
        results = {result.rule: result for result in evaluate(outcome, [self.policy]).results}
        known = [rule.id for rule in self.policy.rules]
        met: dict[str, str] = {}
        for rule, wanted in _mapping(self.spec["expect"]).items():
            if rule not in known:
                raise self._unknown_rule(rule, known)
            case = self._case(rule, wanted, results.get(rule))
            if case.passed:
                met[rule] = case.found
            yield case
        if coverage is not None:
            coverage.add(outcome, met)

    def _case(self, rule: str, wanted: object, result: Result | None) -> TestCase:
        verdict, reason = (wanted, "") if isinstance(wanted, str) else _verdict_and_reason(_mapping(wanted))
        self._check_regex(rule, reason)
        return TestCase(
            name=str(self.spec["name"]),
            rule=rule,
            expected=str(verdict),
            found=result.verdict.value if result else "not selected",
            reason=_reason(result),
            place=self.document.place((*self.path, "expect", rule), key=True),
            wanted_reason=reason,
            findings=result.findings if result else (),
            checked=result.checked if result else 0,
        )

    def _check_regex(self, rule: str, reason: str) -> None:
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(reason.removeprefix("~") if reason.startswith("~") else "", options)
        except re2.error:
            raise self._mistake(
                f"'{reason}' is not a regular expression",
                ("expect", rule, "reason"),
                "RE2 syntax after the ~",
            ) from None

    def _unknown_rule(self, rule: str, known: Sequence[str]) -> PolicyError:
        near = difflib.get_close_matches(rule, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"rules: {', '.join(known)}"
        message = f"policy '{self.policy.name}' has no rule '{rule}'"
        place = self.document.place((*self.path, "expect", rule), key=True)
        return PolicyError(Problem(message, place, hint))

    def _mistake(self, message: str, path: Path, hint: str = "") -> PolicyError:
        return PolicyError(Problem(message, self.document.place((*self.path, *path)), hint))


def _listed(spec: Mapping[str, object], key: str) -> Sequence[object]:
    value = spec.get(key, [])
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _verdict_and_reason(wanted: Mapping[str, object]) -> tuple[str, str]:
    return str(wanted["verdict"]), str(wanted.get("reason", ""))


def _reason(result: Result | None) -> str:
    if result is None:
        return "the policy's hosts pattern does not select this host"
    return "; ".join(finding.reason for finding in result.findings)

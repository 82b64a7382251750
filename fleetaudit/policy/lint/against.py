"""What a fleet's snapshots say of policies: rules that are about nothing, entries that nobody used.

An accumulator of one pass over the hosts. It grows with the policies and with how many different
executables the hosts run, not with the number of hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from fleetaudit.errors import Problem
from fleetaudit.model import Outcome, Owner, Process, Verdict
from fleetaudit.policy.checks.base import Case
from fleetaudit.policy.entry_use import entry_lists, used
from fleetaudit.policy.evaluate import cases, evaluate
from fleetaudit.policy.lint.base import Entry, Leaf, Subject, entries, leaves, matchers
from fleetaudit.policy.lint.overlap import covers, implies
from fleetaudit.policy.matchers import Trust, compile_owner
from fleetaudit.policy.model import CompiledRule, Policy, Rule
from fleetaudit.policy.values import Bindings

FLEET_RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "policy-idle": "a policy that is for none of the hosts",
        "rule-idle": "a rule that was not applicable on any host",
        "entry-unused": "an allow entry that no owner in the whole fleet used",
        "rule-shadowed": "a rule that judged nothing on any host that another one did not judge as strictly",
        "path-unseen": "a literal path that no process runs, where /proc shows another one",
    }
)
_MOST_PATHS: Final = 20_000  # different executables that are remembered: hosts choose them
_VERSION: Final = re.compile(r"[-_.]?[0-9][A-Za-z0-9._+-]*\Z")


@dataclass(slots=True)
class _Use:
    """What one rule did: on how many hosts it judged, which allow entries were used, who judges as much."""

    judged: int = 0
    checked: int = 0
    used: set[int] = field(default_factory=set)
    shadowed_by: list[Rule] | None = None


class FleetUse:
    """Takes in hosts one by one; `problems` then says what of a policy was idle on all of them."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = tuple(policies)
        self._hosts: dict[str, int] = {policy.name: 0 for policy in policies}
        self._uses: dict[tuple[str, str], _Use] = {
            (policy.name, rule.id): _Use() for policy in policies for rule in policy.rules
        }
        self._paths: set[str] = set()
        self.hosts = 0
        self.without_snapshot = 0

    def add(self, outcome: Outcome) -> None:
        """Take in a derived outcome. A host without a snapshot says nothing about rules."""
        self.hosts += 1
        for policy in self._policies:
            self._hosts[policy.name] += policy.hosts.matches(outcome.host, outcome.context.groups)
        if outcome.snapshot is None:
            self.without_snapshot += 1
            return
        for result in evaluate(outcome, self._policies).results:
            self._uses[result.policy, result.rule].judged += result.verdict is not Verdict.NOT_APPLICABLE
        judged = list(cases(outcome, self._policies))
        for policy, rule, compiled, case in judged:
            self._add_case(self._uses[policy.name, rule.id], compiled, case)
        self._compare(judged)
        for process in outcome.snapshot.processes.values():
            if isinstance(process.exe, str) and len(self._paths) < _MOST_PATHS:
                self._paths.add(process.exe)

    def _add_case(self, use: _Use, compiled: CompiledRule, case: Case) -> None:
        use.checked += len(case.listeners)
        for name, listed, trust in entry_lists(compiled):
            if name == "allow_owners":
                use.used |= used(listed, trust, case)

    def _compare(self, judged: Sequence[tuple[Policy, Rule, CompiledRule, Case]]) -> None:
        """Keep, for each rule, those others that looked at all it looked at, on every host so far."""
        seen = [(policy, rule, {id(item) for item in case.listeners}) for policy, rule, _, case in judged]
        for policy, rule, listeners in seen:
            if not listeners:
                continue
            use = self._uses[policy.name, rule.id]
            others = [other for _, other, theirs in seen if other is not rule and listeners <= theirs]
            if use.shadowed_by is None:
                use.shadowed_by = [other for other in others if implies(other, rule)]
            else:
                use.shadowed_by = [
                    other for other in use.shadowed_by if any(other is item for item in others)
                ]

    def problems(self, subject: Subject) -> Iterator[Problem]:
        """What was idle in this policy, in its own order."""
        policy = subject.policy
        if not self._hosts[policy.name]:
            yield subject.problem(
                "policy-idle",
                f"policy '{policy.name}' is for none of the {self.hosts} hosts: its hosts are "
                f"'{policy.hosts.text}'",
                ("hosts",),
                "see `fleetaudit inventory list`",
            )
            return
        if self.hosts == self.without_snapshot:
            return
        for rule in subject.rules:
            use = self._uses[policy.name, rule.id]
            if not use.judged:
                yield subject.problem(
                    "rule-idle",
                    f"rule '{rule.id}' was not applicable on any of the {self._hosts[policy.name]} hosts",
                    (*rule.path, "listeners") if "listeners" in rule.spec else rule.path,
                    "check what it selects, or remove it",
                )
                continue
            yield from self._shadowed(subject, rule, use)
            if use.checked:
                yield from self._unused(subject, rule, use)
            yield from self._unseen(subject, rule)

    def _shadowed(self, subject: Subject, rule: Rule, use: _Use) -> Iterator[Problem]:
        for other in use.shadowed_by or ():
            if covers(other, rule) and any(other is item for item in subject.rules):
                continue  # that is so whatever the fleet: `shadowed-rule` tells it
            mutual = self._uses_of(other).shadowed_by or []
            if any(item is rule for item in mutual) and _place(other) > _place(rule):
                continue  # each shadows the other: said once, at the later
            yield subject.problem(
                "rule-shadowed",
                f"all that rule '{rule.id}' judged, '{other.id}' ({other.place}) judged as strictly",
                rule.path,
                "keep one of the two",
            )
            return

    def _uses_of(self, rule: Rule) -> _Use:
        return next(
            self._uses[policy.name, rule.id]
            for policy in self._policies
            if any(item is rule for item in policy.rules)
        )

    def _unused(self, subject: Subject, rule: Rule, use: _Use) -> Iterator[Problem]:
        for place, entry in enumerate(entries(rule, "allow_owners")):
            if place not in use.used:
                yield subject.problem(
                    "entry-unused",
                    f"no owner in the whole fleet used this entry, of {use.checked} listeners",
                    entry.path,
                    self._other_path(entry) or "remove it, or keep it with a reason",
                )

    def _other_path(self, entry: Entry) -> str:
        for leaf in leaves(("exe",), entry.fields.get("exe")):
            seen = self._similar(leaf)
            if seen:
                return f"/proc shows resolved paths: here {', '.join(seen)}"
        return ""

    def _unseen(self, subject: Subject, rule: Rule) -> Iterator[Problem]:
        """Outside of allow lists (their unused entries are told): a deny entry misses what it means."""
        for entry in matchers(rule):
            if entry.assertion == "allow_owners":
                continue
            for leaf in leaves((*entry.path, "exe"), entry.fields.get("exe")):
                seen = self._similar(leaf)
                if seen:
                    yield subject.problem(
                        "path-unseen",
                        f"no process runs '{leaf.value}', but some run {', '.join(seen)}: /proc shows "
                        "resolved paths",
                        leaf.path,
                        f"write {_glob(str(leaf.value), seen)}",
                    )

    def _similar(self, leaf: Leaf) -> list[str]:
        """Paths that hosts run where the policy names one that none runs: what a symlink may lead to."""
        if not leaf.is_literal:
            return []
        wanted = str(leaf.value)
        name = wanted.rsplit("/", 1)[-1]
        same = compile_owner({"exe": wanted}, (), Bindings({}))
        if any(same.match(Owner(Process(0, exe=path)), Trust.DENY) for path in self._paths):
            return []
        return sorted(path for path in self._paths if _resolves(wanted, name, path))[:3]


def _resolves(wanted: str, name: str, path: str) -> bool:
    """Whether `path` may be what a symlink at `wanted` leads to: a version more, or another directory."""
    if path.startswith(wanted) and _VERSION.match(path[len(wanted) :]):
        return True
    return path.rsplit("/", 1)[-1] == name


def _glob(wanted: str, seen: Sequence[str]) -> str:
    versions = [path for path in seen if path.startswith(wanted)]
    return f"{wanted}*, or the path itself" if versions else seen[0]


def _place(rule: Rule) -> tuple[str, int]:
    return (rule.place.file, rule.place.line)

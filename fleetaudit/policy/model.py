"""Policies and rules as values, compiled for a host when they name inventory variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetaudit.errors import Place
from fleetaudit.model import HostContext, Severity
from fleetaudit.patterns import HostPattern
from fleetaudit.policy.checks import CHECKS
from fleetaudit.policy.checks.base import Check
from fleetaudit.policy.expressions import Expression, compile_expression
from fleetaudit.policy.facts import NO_CONDITIONS, Conditions, compile_conditions
from fleetaudit.policy.matchers import Selector, compile_selector
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to judge: what it selects, what it asserts, and whether it approves what it selects."""

    selector: Selector
    checks: tuple[Check, ...]
    approves: bool
    when: Conditions = NO_CONDITIONS
    expression: Expression | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written. `compiled` is None when inventory variables decide what it says.

    `when` are the policy's own conditions, beside the rule's. A rule that is not `judged` was left out of the
    run: what it approves is approved all the same.
    """

    id: str
    title: str
    severity: Severity
    spec: Mapping[str, object]
    place: Place
    path: Path
    remediation: str = ""
    controls: Mapping[str, tuple[str, ...]] | None = None
    hosts: HostPattern | None = None
    compiled: CompiledRule | None = None
    when: Mapping[str, object] | None = None
    tags: frozenset[str] = frozenset()
    references: tuple[str, ...] = ()
    judged: bool = True

    def for_host(self, context: HostContext) -> CompiledRule:
        """The rule for this host. Raises MissingVariable or ValueMistake when its variables do not fit."""
        return self.compiled or compile_rule(self.spec, self.path, Bindings(context.variables), self.when)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file. `hosts` says for which hosts, `max_waiver_days` for how long it may be waived."""

    name: str
    description: str
    hosts: HostPattern
    rules: tuple[Rule, ...]
    file: str
    sha256: str
    max_waiver_days: int | None = None


def compile_rule(
    spec: Mapping[str, object], path: Path, bindings: Bindings, when: Mapping[str, object] | None = None
) -> CompiledRule:
    """Compile a rule that the policy schema has accepted; `when` is the policy's own.

    Raises ValueMistake or MissingVariable.
    """
    listeners = spec.get("listeners")
    selects = listeners if isinstance(listeners, Mapping) else None
    expect = spec.get("expect")
    wants_some = expect == "some" or (isinstance(expect, Mapping) and expect.get("min", 0) > 0)
    return CompiledRule(
        selector=compile_selector(selects, (*path, "listeners"), bindings),
        checks=tuple(
            compile_check(spec[name], (*path, name), bindings)
            for name, compile_check in CHECKS.items()
            if name in spec
        ),
        when=compile_conditions(when, ("when",), bindings)
        + compile_conditions(spec.get("when"), (*path, "when"), bindings),
        expression=compile_expression(spec.get("when_expr"), (*path, "when_expr")),
        approves=("allow_owners" in spec or wants_some) and "approved" not in (selects or {}),
    )

"""`scope`: where the selected listeners may be bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, holders, judge_groups, one_by_one
from fleetaudit.policy.checks.wording import names_of, way_of
from fleetaudit.policy.fields import SCOPES
from fleetaudit.policy.values import Bindings, Kind, Path, Test, compile_value


@dataclass(frozen=True, slots=True)
class Scope:
    """Compiled `scope`."""

    allowed: Test
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per listener bound elsewhere."""
        return judge_groups(case, self._listener, one_by_one)

    def _listener(self, group: Group) -> Finding | None:
        (listener,) = group
        within = self.allowed.match((listener.scope,))
        if within:
            return None
        if within is None:
            return Finding(
                Verdict.UNKNOWN, "the snapshot does not say where it is bound", listener, listener.owners
            )
        owners = holders(group)
        held = f"; held by {names_of(owners)}{way_of(owners)}" if owners else ""
        reason = f"bound to scope {listener.scope}, wanted is {self.allowed.text}{held}"
        return Finding(Verdict.FAIL, reason, listener, listener.owners)


def compile_scope(spec: object, path: Path, bindings: Bindings) -> Scope:
    """The check for a rule's `scope`."""
    return Scope(compile_value(spec, Kind.TEXT, path, bindings, SCOPES))

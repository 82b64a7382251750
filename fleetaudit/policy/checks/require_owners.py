"""`require_owners`: each entry must match an owner of each selected endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, apart, judge_groups
from fleetaudit.policy.checks.entries import compile_entries
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.truth import any_of
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class RequireOwners:
    """Compiled `require_owners`. What was seen suffices: a hidden owner cannot take a seen one away."""

    entries: tuple[OwnerMatcher, ...]
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = False

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per endpoint that lacks a required owner, or may lack it."""
        return judge_groups(case, lambda group: self._endpoint(case, group), apart)

    def _endpoint(self, case: Case, group: Group) -> Finding | None:
        owners = tuple(owner for listener in group for owner in listener.owners)
        found = [
            (entry, any_of(entry.match(owner, Trust.ALLOW) for owner in owners)) for entry in self.entries
        ]
        missing = [entry.text for entry, seen in found if seen is False]
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        if missing and not doubt:
            reason = f"no owner is {' and none is '.join(missing)}"
            return Finding(Verdict.FAIL, reason, group[0], owners)
        open_ = [entry.text for entry, seen in found if not seen]
        if open_:
            why = doubt or "the snapshot lacks what would decide"
            return Finding(
                Verdict.UNKNOWN, f"whether an owner is {' and '.join(open_)}: {why}", group[0], owners
            )
        return None


def compile_require_owners(spec: object, path: Path, bindings: Bindings) -> RequireOwners:
    """The check for a rule's `require_owners` list."""
    return RequireOwners(compile_entries(spec, path, bindings))

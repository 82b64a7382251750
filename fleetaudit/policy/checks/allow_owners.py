"""`allow_owners`: every holder of a selected listener must match one of the entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, holders, judge_groups, names_of, one_by_one
from fleetaudit.policy.checks.entries import compile_entries
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.truth import any_of
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class AllowOwners:
    """Compiled `allow_owners`."""

    entries: tuple[OwnerMatcher, ...]
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per listener with a holder that no entry allows, or may not allow."""
        return judge_groups(case, lambda group: self._listener(case, group), one_by_one)

    def _listener(self, case: Case, group: Group) -> Finding | None:
        (listener,) = group
        if listener.owner_state == "kernel" and not holders(group):
            if any(entry.kernel for entry in self.entries):
                return None
            return Finding(Verdict.FAIL, "the kernel owns it, and no entry says {kernel: true}", listener)
        verdicts = [
            (owner, any_of(entry.match(owner, Trust.ALLOW) for entry in self.entries))
            for owner in holders(group)
        ]
        foreign = tuple(owner for owner, allowed in verdicts if allowed is False)
        if foreign:
            return Finding(Verdict.FAIL, f"no allow entry matches {names_of(foreign)}", listener, foreign)
        unclear = tuple(owner for owner, allowed in verdicts if allowed is None)
        if unclear:
            reason = f"the snapshot lacks what would decide about {names_of(unclear)}"
            return Finding(Verdict.UNKNOWN, reason, listener, unclear)
        doubt = case.view.doubt(listener)
        return Finding(Verdict.UNKNOWN, doubt, listener, listener.owners) if doubt else None


def compile_allow_owners(spec: object, path: Path, bindings: Bindings) -> AllowOwners:
    """The check for a rule's `allow_owners` list."""
    return AllowOwners(compile_entries(spec, path, bindings))

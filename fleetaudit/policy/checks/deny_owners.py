"""`deny_owners`: no holder of a selected listener may match any of the entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Owner, Verdict
from fleetaudit.policy.checks.base import Case, Group, holders, judge_groups, one_by_one
from fleetaudit.policy.checks.entries import compile_entries, matching, reason_of, undecided
from fleetaudit.policy.checks.wording import names_of, wanted, way_of
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class DenyOwners:
    """Compiled `deny_owners`."""

    entries: tuple[OwnerMatcher, ...]
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per listener with a holder that an entry denies, or may deny."""
        ask = matching(case.view, self.entries, Trust.DENY)
        return judge_groups(case, lambda group: self._listener(case, group, ask), one_by_one)

    def _listener(self, case: Case, group: Group, ask: Callable[[Owner], Truth]) -> Finding | None:
        (listener,) = group
        judged = [(owner, ask(owner)) for owner in holders(group)]
        denied = tuple(owner for owner, found in judged if found)
        if denied:
            met = [entry for entry in self.entries if any(entry.match(owner, Trust.DENY) for owner in denied)]
            reason = f"{names_of(denied)} may not hold it: denied is {wanted(met)}{way_of(denied)}"
            beyond = reason_of(undecided(case, listener, judged, self.entries, Trust.DENY))
            return Finding(Verdict.FAIL, reason, listener, denied, beyond=beyond)
        return undecided(case, listener, judged, self.entries, Trust.DENY)


def compile_deny_owners(spec: object, path: Path, bindings: Bindings) -> DenyOwners:
    """The check for a rule's `deny_owners` list."""
    return DenyOwners(compile_entries(spec, path, bindings))

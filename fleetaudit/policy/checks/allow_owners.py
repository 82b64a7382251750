"""`allow_owners`: every holder of a selected listener must match one of the entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Owner, Verdict
from fleetaudit.policy.checks.base import Case, Group, holders, judge_groups, one_by_one
from fleetaudit.policy.checks.entries import compile_entries, matching, reason_of, undecided
from fleetaudit.policy.checks.wording import names_of, nearest, way_of
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class AllowOwners:
    """Compiled `allow_owners`."""

    entries: tuple[OwnerMatcher, ...]
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per listener with a holder that no entry allows, or may not allow."""
        ask = matching(case.view, self.entries, Trust.ALLOW)
        return judge_groups(case, lambda group: self._listener(case, group, ask), one_by_one)

    def _listener(self, case: Case, group: Group, ask: Callable[[Owner], Truth]) -> Finding | None:
        (listener,) = group
        if listener.owner_state == "kernel" and not holders(group):
            if any(entry.kernel for entry in self.entries):
                return None
            return Finding(Verdict.FAIL, "the kernel owns it, and no entry says {kernel: true}", listener)
        judged = [(owner, ask(owner)) for owner in holders(group)]
        foreign = tuple(owner for owner, allowed in judged if allowed is False)
        if foreign:
            miss = nearest(self.entries, foreign[0], Trust.ALLOW)
            reason = f"no allow entry matches {names_of(foreign)}{miss}{way_of(foreign)}"
            beyond = reason_of(undecided(case, listener, judged, self.entries, Trust.ALLOW))
            return Finding(Verdict.FAIL, reason, listener, foreign, beyond=beyond)
        return undecided(case, listener, judged, self.entries, Trust.ALLOW)


def compile_allow_owners(spec: object, path: Path, bindings: Bindings) -> AllowOwners:
    """The check for a rule's `allow_owners` list."""
    return AllowOwners(compile_entries(spec, path, bindings))

"""`owners: {min, max}`: how many processes hold each selected endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, apart, endpoints, holders, judge_groups
from fleetaudit.policy.checks.wording import names_of, way_of
from fleetaudit.policy.values import Bindings, Path


@dataclass(frozen=True, slots=True)
class OwnerCount:
    """Compiled `owners`; `maximum` None: no upper bound."""

    minimum: int
    maximum: int | None
    judges_absence: ClassVar[bool] = False
    needs_all: ClassVar[bool] = True

    def judge(self, case: Case) -> Iterator[Finding]:
        """One finding per endpoint with too few or too many owners, or maybe so."""
        yield from judge_groups(case, lambda group: self._too_many(case, group), endpoints)
        yield from judge_groups(case, lambda group: self._too_few(case, group), apart)

    def _too_many(self, case: Case, group: Group) -> Finding | None:
        if self.maximum is None:
            return None
        owners = holders(group)
        count = len({owner.process.pid for owner in owners})
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        if count > self.maximum:
            wanted = f"{count} owners, at most {self.maximum} wanted: {names_of(owners)}{way_of(owners)}"
            return Finding(Verdict.FAIL, wanted, group[0], owners, beyond=doubt)
        return Finding(Verdict.UNKNOWN, doubt, group[0], owners) if doubt else None

    def _too_few(self, case: Case, group: Group) -> Finding | None:
        owners = tuple(owner for listener in group for owner in listener.owners)
        count = len({owner.process.pid for owner in owners})
        if count >= self.minimum:
            return None
        held = f": {names_of(owners)}" if owners else ""
        reason = f"{count} owners, at least {self.minimum} wanted{held}"
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        if doubt:
            return Finding(Verdict.UNKNOWN, f"{reason}; {doubt}", group[0], owners)
        return Finding(Verdict.FAIL, reason, group[0], owners)


def compile_owner_count(spec: object, path: Path, bindings: Bindings) -> OwnerCount:
    """The check for a rule's `owners` bounds."""
    bounds = spec if isinstance(spec, Mapping) else {}
    return OwnerCount(bounds.get("min", 0), bounds.get("max"))

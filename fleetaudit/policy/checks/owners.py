"""`owners: {min, max}`: how many processes hold each selected endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, endpoints, holders, judge_groups
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
        return judge_groups(case, lambda group: self._endpoint(case, group), endpoints)

    def _endpoint(self, case: Case, group: Group) -> Finding | None:
        owners = holders(group)
        sure = len({owner.process.pid for listener in group for owner in listener.owners})
        most = len({owner.process.pid for owner in owners})
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        if self.maximum is not None and most > self.maximum:
            return Finding(Verdict.FAIL, f"{most} owners, at most {self.maximum} wanted", group[0], owners)
        if sure < self.minimum:
            reason = f"{sure} owners, at least {self.minimum} wanted"
            if doubt:
                return Finding(Verdict.UNKNOWN, f"{reason}; {doubt}", group[0], owners)
            return Finding(Verdict.FAIL, reason, group[0], owners)
        if self.maximum is not None and doubt:
            return Finding(Verdict.UNKNOWN, doubt, group[0], owners)
        return None


def compile_owner_count(spec: object, path: Path, bindings: Bindings) -> OwnerCount:
    """The check for a rule's `owners` bounds."""
    bounds = spec if isinstance(spec, Mapping) else {}
    return OwnerCount(bounds.get("min", 0), bounds.get("max"))

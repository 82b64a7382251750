"""`require_owners`: each entry must match an owner of each selected endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Owner, Verdict
from fleetaudit.policy.checks.base import Case, Group, apart, judge_groups
from fleetaudit.policy.checks.entries import compile_entries
from fleetaudit.policy.checks.wording import clipped, names_of, nearest, undecided_fields
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
        missing = [entry for entry, seen in found if seen is False]
        doubt = next(filter(None, map(case.view.doubt, group)), "")
        if missing and not doubt:
            reason = f"no owner is {_texts(missing, ' and none is ')}{self._held(missing, owners)}"
            return Finding(Verdict.FAIL, reason, group[0], owners)
        open_ = [entry for entry, seen in found if not seen]
        if open_:
            fields = " and ".join(
                sorted({undecided_fields(open_, owner, Trust.ALLOW) for owner in owners} - {"enough"})
            )
            why = doubt or f"the snapshot does not say {fields or 'enough'} of {names_of(owners)}"
            reason = f"whether an owner is {_texts(open_, ' and ')} is not known: {why}"
            return Finding(Verdict.UNKNOWN, reason, group[0], owners)
        return None

    @staticmethod
    def _held(missing: Sequence[OwnerMatcher], owners: Sequence[Owner]) -> str:
        """Who holds it instead, and by how little the first of them is not who is missed."""
        if not owners:
            return ""
        return f"; held by {names_of(owners)}{nearest(missing[:1], owners[0], Trust.ALLOW)}"


def _texts(entries: Sequence[OwnerMatcher], between: str) -> str:
    return clipped(between.join(entry.text for entry in entries), 200)


def compile_require_owners(spec: object, path: Path, bindings: Bindings) -> RequireOwners:
    """The check for a rule's `require_owners` list."""
    return RequireOwners(compile_entries(spec, path, bindings))

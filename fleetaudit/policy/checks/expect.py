"""`expect`: how many endpoints the selector may or must find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fleetaudit.model import Finding, Verdict
from fleetaudit.policy.checks.base import Case, Group, endpoints, holders
from fleetaudit.policy.checks.wording import names_of, way_of
from fleetaudit.policy.values import Bindings, Path
from fleetaudit.policy.view import sentence


@dataclass(frozen=True, slots=True)
class Expect:
    """Compiled `expect`; `maximum` None: no upper bound. Counts endpoints, not sockets."""

    minimum: int
    maximum: int | None
    judges_absence: ClassVar[bool] = True
    needs_all: ClassVar[bool] = False  # it weighs hidden listeners itself

    def judge(self, case: Case) -> Iterator[Finding]:
        """Findings when the count is wrong, or when what is hidden could make it wrong."""
        sure = endpoints(case.listeners)
        most = len(endpoints((*case.listeners, *case.doubtful), apart=True))
        if self.maximum is not None and len(sure) > self.maximum:
            yield from (self._surplus(group, len(sure)) for group in sure)
        elif most < self.minimum and not case.hidden:
            counted = f"{most} found, at least {self.minimum} expected"
            yield Finding(Verdict.FAIL, f"{counted}: nothing listens there" if not most else counted)
        elif len(sure) < self.minimum:
            counted = f"{len(sure)} found, at least {self.minimum} expected"
            yield Finding(Verdict.UNKNOWN, f"{counted}; {self._doubt(case)}")
        elif self.maximum is not None and (most > self.maximum or case.hidden):
            yield Finding(Verdict.UNKNOWN, f"{len(sure)} found; {self._doubt(case)}")

    def _surplus(self, group: Group, count: int) -> Finding:
        owners = holders(group)
        held = f"; held by {names_of(owners)}{way_of(owners)}" if owners else ""
        wanted = (
            f"at most {self.maximum} expected, {count} found" if self.maximum else "nothing may listen here"
        )
        return Finding(Verdict.FAIL, f"{wanted}{held}", group[0], owners)

    @staticmethod
    def _doubt(case: Case) -> str:
        if case.hidden:
            return f"others may be hidden ({sentence(case.hidden)})"
        if case.doubtful:
            return f"of {len(case.doubtful)} more the snapshot does not say whether the rule selects them"
        return "the snapshot does not say whether some of them are one endpoint"


def compile_expect(spec: object, path: Path, bindings: Bindings) -> Expect:
    """The check for a rule's `expect`."""
    if isinstance(spec, Mapping):
        return Expect(spec.get("min", 0), spec.get("max"))
    return Expect(1, None) if spec == "some" else Expect(0, 0)

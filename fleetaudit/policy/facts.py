"""Facts of a host, as its snapshot and the inventory tell them, and conditions over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fleetaudit.model import UNKNOWN, Outcome, Snapshot
from fleetaudit.policy.truth import Truth, all_of
from fleetaudit.policy.values import Bindings, Candidates, Kind, Path, Test, compile_value

FACTS: Final[Mapping[str, Callable[[Snapshot], str | None]]] = MappingProxyType(
    {
        "os.id": lambda snapshot: snapshot.os_id,
        "os.version_id": lambda snapshot: snapshot.os_version,
        "kernel": lambda snapshot: snapshot.kernel,
        "arch": lambda snapshot: snapshot.arch,
        "hostname": lambda snapshot: snapshot.hostname,
        "machine_id": lambda snapshot: snapshot.machine_id,
    }
)
"""What reads each fact that a host tells of itself; None is a fact that is not known."""

GROUPS: Final = "groups"
"""The fact that the inventory tells: the host's groups, one of which has to match."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Facts with the value each is to have; all have to hold."""

    tests: tuple[tuple[str, Test], ...] = ()

    def hold(self, outcome: Outcome) -> Truth:
        """Whether they do for this host; None when a fact that decides is not known."""
        return all_of(test.match(_candidates(fact, outcome)) for fact, test in self.tests)

    def unmet(self, outcome: Outcome) -> str:
        """What does not hold, or is not known to, in words."""
        return ", ".join(
            f"{fact} is {_shown(_candidates(fact, outcome))} (wanted: {test.text})"
            for fact, test in self.tests
            if test.match(_candidates(fact, outcome)) is not True
        )

    def __add__(self, other: Conditions) -> Conditions:
        return Conditions((*self.tests, *other.tests))


NO_CONDITIONS: Final = Conditions()


def compile_conditions(spec: object, path: Path, bindings: Bindings) -> Conditions:
    """Conditions that the policy schema has accepted. Raises ValueMistake or MissingVariable."""
    pairs = spec.items() if isinstance(spec, Mapping) else ()
    return Conditions(
        tuple((fact, compile_value(value, Kind.TEXT, (*path, fact), bindings)) for fact, value in pairs)
    )


def _candidates(fact: str, outcome: Outcome) -> Candidates:
    if fact == GROUPS:
        return ("all", *outcome.context.groups)
    told = FACTS[fact](outcome.snapshot) if outcome.snapshot else None
    return (UNKNOWN if told is None else told,)


def _shown(candidates: Candidates) -> str:
    return " and ".join("not known" if value is UNKNOWN else str(value) for value in candidates)

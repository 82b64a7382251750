"""Which hosts are judged, by what they said of themselves: `--where os.id=debian`. Pure.

Inventory patterns choose who is asked; this leaves out, afterwards, hosts that are known to be others. A host
that was not reached, or does not tell the fact, stays: what is not known is never left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import UNKNOWN, Outcome
from fleetaudit.policy.facts import FACTS
from fleetaudit.policy.values import Bindings, Kind, MissingVariable, Test, ValueMistake, compile_value
from fleetaudit.text import visible


@dataclass(frozen=True, slots=True)
class Where:
    """Conditions that all have to hold; without any, no host is left out."""

    conditions: tuple[tuple[str, Test], ...] = ()

    def leaves_out(self, outcome: Outcome) -> bool:
        """Whether the host is known not to be meant."""
        snapshot = outcome.snapshot
        return snapshot is not None and any(
            test.match((UNKNOWN if (told := FACTS[fact](snapshot)) is None else told,)) is False
            for fact, test in self.conditions
        )


EVERYWHERE: Final = Where()


def parse(texts: Sequence[str]) -> Where:
    """Conditions as written: FACT=VALUE or FACT!=VALUE, a value being a literal, a glob or ~regex.

    Raises ConfigError, with every mistake.
    """
    problems: list[Problem] = []
    conditions: list[tuple[str, Test]] = []
    for text in texts:
        fact, equals, value = text.partition("=")
        name = fact.removesuffix("!").strip()
        value = value.strip()
        if not equals or not value:
            problems.append(_mistake(text, "this is no condition", "write for example os.id=debian"))
        elif name not in FACTS:
            near = difflib.get_close_matches(name, FACTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(FACTS)}"
            problems.append(_mistake(text, f"no fact is called '{visible(name)}'", hint))
        else:
            spec = {"not": value} if fact.endswith("!") else value
            try:
                conditions.append((name, compile_value(spec, Kind.TEXT, (), Bindings({}))))
            except ValueMistake as mistake:
                problems.append(_mistake(text, mistake.message, mistake.hint))
            except MissingVariable:
                problems.append(_mistake(text, "a condition takes no variables", "write the value itself"))
    if problems:
        raise ConfigError(problems)
    return Where(tuple(conditions))


def _mistake(text: str, what: str, hint: str) -> Problem:
    return Problem(f"where '{visible(text)}': {what}", hint=hint)

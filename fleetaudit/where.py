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
from fleetaudit.model import Outcome
from fleetaudit.policy.facts import FACTS, NO_CONDITIONS, Conditions, compile_conditions
from fleetaudit.policy.values import Bindings, MissingVariable, ValueMistake
from fleetaudit.text import visible


@dataclass(frozen=True, slots=True)
class Where:
    """Without conditions no host is left out."""

    conditions: Conditions = NO_CONDITIONS

    def leaves_out(self, outcome: Outcome) -> bool:
        """Whether the host is known not to be meant."""
        return outcome.snapshot is not None and self.conditions.hold(outcome) is False


EVERYWHERE: Final = Where()


def parse(texts: Sequence[str]) -> Where:
    """Conditions as written: FACT=VALUE or FACT!=VALUE, a value being a literal, a glob or ~regex.

    Raises ConfigError, with every mistake.
    """
    problems: list[Problem] = []
    conditions = NO_CONDITIONS
    for text in texts:
        fact, equals, value = text.partition("=")
        name = fact.removesuffix("!").strip()
        value = value.strip()
        if not equals or not value or value.startswith("="):
            problems.append(_mistake(text, "this is no condition", "write for example os.id=debian"))
        elif name not in FACTS:
            near = difflib.get_close_matches(name, FACTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(FACTS)}"
            problems.append(_mistake(text, f"no fact is called '{visible(name)}'", hint))
        else:
            spec = {"not": value} if fact.endswith("!") else value
            try:
                conditions += compile_conditions({name: spec}, (), Bindings({}))
            except ValueMistake as mistake:
                problems.append(_mistake(text, mistake.message, mistake.hint))
            except MissingVariable:
                problems.append(_mistake(text, "a condition takes no variables", "write the value itself"))
    if problems:
        raise ConfigError(problems)
    return Where(conditions)


def _mistake(text: str, what: str, hint: str) -> Problem:
    return Problem(f"where '{visible(text)}': {what}", hint=hint)

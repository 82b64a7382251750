"""Which rules a run judges: `--tags` and `--skip-tags`. Pure.

A rule that is left out is not judged, and still approves what it approves: otherwise a rule that refuses
whatever nobody approves would fail for a rule that somebody only did not ask for.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.policy.model import Policy, Rule
from fleetaudit.text import visible


def choose(policies: Sequence[Policy], only: Sequence[str], skip: Sequence[str]) -> tuple[Policy, ...]:
    """The policies, with those rules judged that have a tag of `only`, if there are any, and none of `skip`.

    Raises ConfigError for a tag that no rule has, and when no rule is left.
    """
    wanted, unwanted = _words(only), _words(skip)
    known = sorted({tag for policy in policies for rule in policy.rules for tag in rule.tags})
    problems = []
    for tag in sorted({*wanted, *unwanted} - set(known)):
        near = difflib.get_close_matches(tag, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"tags are: {', '.join(known) or 'none'}"
        problems.append(Problem(f"no rule has the tag '{visible(tag)}'", hint=hint))
    if problems:
        raise ConfigError(problems)

    def judged(rule: Rule) -> bool:
        return (not wanted or bool(wanted & rule.tags)) and not unwanted & rule.tags

    chosen = tuple(
        replace(policy, rules=tuple(replace(rule, judged=judged(rule)) for rule in policy.rules))
        for policy in policies
    )
    if not any(rule.judged for policy in chosen for rule in policy.rules):
        raise ConfigError(Problem("--tags and --skip-tags leave no rule to judge", hint="name other tags"))
    return chosen


def _words(given: Sequence[str]) -> frozenset[str]:
    return frozenset(word.strip() for text in given for word in text.split(",") if word.strip())

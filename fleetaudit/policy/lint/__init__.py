"""What is allowed in a policy but surely a mistake. Pure: a policy that loads in, located problems out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Final

from fleetaudit.errors import Problem
from fleetaudit.policy.lint import controls, entries, overlap, review, selectors, values
from fleetaudit.policy.lint.against import FLEET_RULES, FleetUse
from fleetaudit.policy.lint.base import Linter, Subject
from fleetaudit.policy.lint.ignoring import unsilenced
from fleetaudit.policy.model import Policy
from fleetaudit.yamlio import Document


@dataclass(frozen=True, slots=True)
class LintRule:
    """What a lint rule is for, in one line, and the function that looks for it, if one file is enough."""

    summary: str
    find: Linter | None = None


LINT_RULES: Final[Mapping[str, LintRule]] = MappingProxyType(
    {
        "claim-only": LintRule(
            "an allow or require entry of the process's own words alone", entries.claim_only
        ),
        "wide-allow": LintRule(
            "an allow or require entry that does not say which program", entries.wide_allow
        ),
        "any-directory": LintRule(
            "an allow or require entry for a name in any directory", entries.any_directory
        ),
        "writable-path": LintRule(
            "an allow or require entry for a program where users can write", entries.writable_path
        ),
        "allows-shell": LintRule("a shell that may own a listener, without a reason", entries.allows_shell),
        "pid-changes": LintRule("a process id other than 1", entries.pid_changes),
        "negated-ancestor": LintRule(
            "`not` inside `ancestor`, where `no_ancestor` is meant", entries.negated_ancestor
        ),
        "covered-entry": LintRule("an entry that repeats another or is covered by it", entries.covered_entry),
        "never-matches": LintRule("a value that no process can have", values.never_matches),
        "unanchored-regex": LintRule(
            "a regular expression that matches anywhere inside what it approves", values.unanchored
        ),
        "not-in-list": LintRule("`not` as one of several alternatives, or twice", values.not_in_list),
        "never-selects": LintRule("a selector whose fields exclude each other", selectors.never_selects),
        "container-netns": LintRule(
            "a container selected in the host's network namespace", selectors.container_namespace
        ),
        "no-selector": LintRule("`expect` or `scope` over every listener there is", selectors.no_selector),
        "approves-everything": LintRule(
            "an allow list without listeners beside `approved`", selectors.approves_everything
        ),
        "shadowed-rule": LintRule("a rule that another one makes idle", overlap.shadowed_rule),
        "no-override": LintRule("a narrow allow list meant to override a wide one", overlap.no_override),
        "expired-review": LintRule("`reviewed` more than a year ago, or no date", review.expired_review),
        "unknown-control": LintRule(
            "a framework or control that is in no catalogue", controls.unknown_control
        ),
        "idle-ignore": LintRule("a comment that silences nothing"),
    }
    | {code: LintRule(summary) for code, summary in FLEET_RULES.items()}
)


def lint(
    document: Document,
    policy: Policy,
    text: str = "",
    today: date | None = None,
    fleet: FleetUse | None = None,
) -> tuple[Problem, ...]:
    """Every questionable thing in a policy that loads, in reading order.

    `text` is the file's own, for its `# fleetaudit: ignore=ID` comments; without `today` no date is judged,
    and without `fleet` nothing is said of what rules find there.
    """
    subject = Subject(document, policy, today or date.min)
    found = [
        problem
        for code, rule in LINT_RULES.items()
        if rule.find is not None and (today is not None or code != "expired-review")
        for problem in rule.find(subject)
    ]
    unasked = {"expired-review"} if today is None else set()
    if fleet is None:
        unasked |= FLEET_RULES.keys()
    else:
        found += fleet.problems(subject)
    found = [problem for problem in found if subject.is_written_here(problem)]
    return tuple(sorted(unsilenced(found, text, document.file, LINT_RULES, unasked), key=_reading_order))


def _reading_order(problem: Problem) -> tuple[int, int, str]:
    place = problem.place
    return (place.line, place.column, problem.code) if place else (0, 0, problem.code)

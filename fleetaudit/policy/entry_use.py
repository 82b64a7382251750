"""Which entries of an owner list did something: for coverage, for lint against a fleet, for explaining."""

from __future__ import annotations

from collections.abc import Iterator

from fleetaudit.model import Owner
from fleetaudit.policy.checks.allow_owners import AllowOwners
from fleetaudit.policy.checks.base import Case, Check, holders
from fleetaudit.policy.checks.deny_owners import DenyOwners
from fleetaudit.policy.checks.require_owners import RequireOwners
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.model import CompiledRule


def entry_lists(compiled: CompiledRule) -> Iterator[tuple[str, tuple[OwnerMatcher, ...], Trust]]:
    """The owner lists of a rule: its assertion, its entries as written, and how far paths are trusted."""
    for check in compiled.checks:
        found = _list_of(check)
        if found is not None:
            yield found


def _list_of(check: Check) -> tuple[str, tuple[OwnerMatcher, ...], Trust] | None:
    if isinstance(check, AllowOwners):
        return "allow_owners", check.entries, Trust.ALLOW
    if isinstance(check, DenyOwners):
        return "deny_owners", check.entries, Trust.DENY
    if isinstance(check, RequireOwners):
        return "require_owners", check.entries, Trust.ALLOW
    return None


def used(entries: tuple[OwnerMatcher, ...], trust: Trust, case: Case) -> set[int]:
    """The places of the entries that match some holder of a listener that the rule selects."""
    found: set[int] = set()
    for listener in case.listeners:
        held = holders((listener,))
        of_kernel = listener.owner_state == "kernel" and not held
        for place, entry in enumerate(entries):
            if (entry.kernel and of_kernel) or _matches_one(entry, held, trust):
                found.add(place)
    return found


def _matches_one(entry: OwnerMatcher, held: tuple[Owner, ...], trust: Trust) -> bool:
    return any(entry.match(owner, trust) is True for owner in held)

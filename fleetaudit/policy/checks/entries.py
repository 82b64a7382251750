"""Lists of owner matchers, as in allow_owners, deny_owners and require_owners."""

from __future__ import annotations

from collections.abc import Mapping

from fleetaudit.policy.matchers import OwnerMatcher, compile_owner
from fleetaudit.policy.values import Bindings, Path


def compile_entries(spec: object, path: Path, bindings: Bindings) -> tuple[OwnerMatcher, ...]:
    """The matchers of a list that the policy schema has accepted."""
    entries = spec if isinstance(spec, list | tuple) else ()
    return tuple(
        compile_owner(entry, (*path, place), bindings)
        for place, entry in enumerate(entries)
        if isinstance(entry, Mapping)
    )

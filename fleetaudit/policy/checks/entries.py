"""Lists of owner matchers, as in allow_owners, deny_owners and require_owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleetaudit.model import Finding, Listener, Owner, Verdict
from fleetaudit.policy.checks.base import Case
from fleetaudit.policy.checks.wording import names_of, undecided_fields
from fleetaudit.policy.matchers import OwnerMatcher, Trust, compile_owner
from fleetaudit.policy.truth import Truth, any_of
from fleetaudit.policy.values import Bindings, Path


def verdicts(
    owners: Sequence[Owner], entries: Sequence[OwnerMatcher], trust: Trust
) -> tuple[tuple[Owner, Truth], ...]:
    """Each owner with whether some entry matches it."""
    return tuple((owner, any_of(entry.match(owner, trust) for entry in entries)) for owner in owners)


def undecided(
    case: Case,
    listener: Listener,
    judged: Sequence[tuple[Owner, Truth]],
    entries: Sequence[OwnerMatcher],
    trust: Trust,
) -> Finding | None:
    """The finding for owners that the snapshot says too little about, or that may not all have been seen."""
    unclear = tuple(owner for owner, matched in judged if matched is None)
    if unclear:
        fields = undecided_fields(entries, unclear[0], trust)
        reason = f"the snapshot does not say {fields} of {names_of(unclear)}, which decides"
        return Finding(Verdict.UNKNOWN, reason, listener, unclear)
    doubt = case.view.doubt(listener)
    return Finding(Verdict.UNKNOWN, doubt, listener, listener.owners) if doubt else None


def reason_of(finding: Finding | None) -> str:
    """Its reason; empty for none."""
    return finding.reason if finding else ""


def compile_entries(spec: object, path: Path, bindings: Bindings) -> tuple[OwnerMatcher, ...]:
    """The matchers of a list that the policy schema has accepted."""
    entries = spec if isinstance(spec, list | tuple) else ()
    return tuple(
        compile_owner(entry, (*path, place), bindings)
        for place, entry in enumerate(entries)
        if isinstance(entry, Mapping)
    )

"""Lists of owner matchers, as in allow_owners, deny_owners and require_owners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fleetaudit.model import Finding, Listener, Owner, Verdict
from fleetaudit.policy.checks.base import Case
from fleetaudit.policy.checks.wording import names_of, undecided_fields
from fleetaudit.policy.matchers import OwnerMatcher, Trust, compile_owner
from fleetaudit.policy.truth import Truth, any_of
from fleetaudit.policy.values import Bindings, Path
from fleetaudit.policy.view import HostView


def matching(view: HostView, entries: Sequence[OwnerMatcher], trust: Trust) -> Callable[[Owner], Truth]:
    """Asks whether some entry matches an owner; of many processes of one kind only once, where that does."""

    def ask(owner: Owner) -> Truth:
        return any_of(entry.match(owner, trust) for entry in entries)

    if not all(entry.of_kind for entry in entries):
        return ask
    known: dict[int, Truth] = {}

    def ask_of_kind(owner: Owner) -> Truth:
        kind = view.kinds.get(id(owner.process))
        if kind is None:
            return ask(owner)
        if kind not in known:
            known[kind] = ask(owner)
        return known[kind]

    return ask_of_kind


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

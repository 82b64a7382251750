"""The port register: which entry approves an owner of a listener, and what it gives as its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleetaudit.model import Approval, Listener, Owner, Register
from fleetaudit.policy.checks.allow_owners import AllowOwners
from fleetaudit.policy.matchers import OwnerMatcher, Trust
from fleetaudit.policy.model import CompiledRule, Rule
from fleetaudit.policy.truth import Truth
from fleetaudit.policy.view import HostView

_SAYS = ("reason", "owner_team", "reviewed")


@dataclass(frozen=True, slots=True)
class Approving:
    """A rule that approves what it selects, and what it selects: one value for each listener of the view."""

    policy: str
    rule: Rule
    compiled: CompiledRule
    selected: tuple[Truth, ...]


def register(view: HostView, rules: Sequence[Approving]) -> Register:
    """The register of one host. Nothing is matched until it is asked.

    An owner is approved by each entry of an allow list that matches it for certain. A rule that requires
    a listener and has no allow list approves whoever owns it.
    """
    places = {id(listener): place for place, listener in enumerate(view.listeners)}

    def by(listener: Listener, owner: Owner | None) -> tuple[Approval, ...]:
        place = places.get(id(listener))
        if place is None:
            return ()
        selecting = (rule for rule in rules if rule.selected[place] is True)
        return tuple(approval for rule in selecting for approval in _approvals(rule, listener, owner))

    return Register(view.approved, by)


def _approvals(rule: Approving, listener: Listener, owner: Owner | None) -> Iterator[Approval]:
    lists = [check for check in rule.compiled.checks if isinstance(check, AllowOwners)]
    if not lists:
        yield _approval(rule, 0, {})
    written = rule.rule.spec.get("allow_owners")
    specs = written if isinstance(written, list | tuple) else ()
    for check in lists:
        for number, (entry, spec) in enumerate(zip(check.entries, specs, strict=True), 1):
            if isinstance(spec, Mapping) and _matches(entry, listener, owner):
                yield _approval(rule, number, spec)


def _matches(entry: OwnerMatcher, listener: Listener, owner: Owner | None) -> bool:
    if owner is None:
        # Nobody was seen: {kernel: true} approves only what is proved to be the kernel's.
        return entry.kernel and listener.owner_state == "kernel"
    return entry.match(owner, Trust.ALLOW) is True


def _approval(rule: Approving, number: int, entry: Mapping[str, object]) -> Approval:
    said = {name: str(entry.get(name) or rule.rule.spec.get(name) or "") for name in _SAYS}
    return Approval(rule.policy, rule.rule.id, number, **said)

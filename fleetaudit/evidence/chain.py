"""Whether runs follow each other, as their manifests say. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fleetaudit.evidence.checking import Check, State
from fleetaudit.evidence.manifest import Link, Manifest, digest


@dataclass(frozen=True, slots=True)
class Chained:
    """A run in a chain: the digest of its manifest, and the run before it."""

    run: str
    sha256: str
    previous: Link | None


def chained(manifest: Manifest, data: bytes) -> Chained:
    """The place in the chain of a manifest whose bytes are `data`."""
    return Chained(manifest.run.id, digest(data), manifest.previous)


def check_chain(own: Chained, known: Mapping[str, Chained]) -> Check:
    """Whether the run before is what `own` says of it; `known` are manifests by digest, `own` among them."""
    previous = own.previous
    if previous is None:
        detail = "no run before it is named"
        return Check(State.UNCHECKED, "chain", own.run, detail, optional=True)
    others = [it for it in known.values() if it.sha256 != own.sha256]
    for rival in others:
        if rival.previous is not None and rival.previous.manifest_sha256 == previous.manifest_sha256:
            detail = f"{rival.run} follows {previous.run} too: one of the two is no part of the chain"
            return Check(State.CHANGED, "chain", own.run, detail)
    before = _before(own, known)
    if before:
        more = f", and so on for {len(before)} runs back to {before[-1].run}" if len(before) > 1 else ""
        return Check(State.INTACT, "chain", own.run, f"follows {previous.run}{more}")
    # A run that was gone on with follows its own first part, which has the same id.
    if previous.manifest_sha256 in known or any(it.run == previous.run for it in others):
        detail = f"the manifest of {previous.run} is not the one that it follows"
        return Check(State.CHANGED, "chain", own.run, detail)
    detail = f"follows {previous.run}, which was not given"
    return Check(State.UNCHECKED, "chain", own.run, detail, optional=True)


def as_kept(links: Sequence[Link]) -> list[Chained]:
    """The chain that a history has, first run first: each follows the one before."""
    return [Chained(it.run, it.manifest_sha256, links[at - 1] if at else None) for at, it in enumerate(links)]


def check_kept(own: Chained, kept: Sequence[Chained]) -> Check:
    """Whether a manifest is the one that a history has of its run, in the same place."""
    found = next((it for it in kept if it.sha256 == own.sha256), None)
    if found is not None:
        # The first run of a history may follow one that was kept in none.
        if found.previous in (None, own.previous):
            return Check(State.INTACT, "history", own.run, "the history has the same manifest")
        return Check(State.CHANGED, "history", own.run, "the history has it behind another run")
    if any(it.run == own.run for it in kept):
        return Check(State.CHANGED, "history", own.run, "the history has another manifest of this run")
    return Check(State.UNCHECKED, "history", own.run, "the history has no manifest of this run")


def check_gap(own: Chained, given: Collection[Chained], known: Mapping[str, Chained]) -> Check | None:
    """Of runs that were given together one is the last, and leads back to all others: what else ends here?

    None where nothing is wrong.
    """
    followed = {it.sha256 for run in given for it in _before(run, known)}
    ends = {run.sha256 for run in given} - followed
    if len(ends) < 2 or own.sha256 not in ends:
        return None
    detail = "not all that were given lead here: one between them is missing, or they are two chains"
    return Check(State.UNCHECKED, "order", own.run, detail)


def _before(run: Chained, known: Mapping[str, Chained]) -> list[Chained]:
    """The runs before, as far as they are known, latest first."""
    found: list[Chained] = []
    while (link := run.previous) is not None:
        before = known.get(link.manifest_sha256)
        if before is None or before.run != link.run:
            break
        found.append(before)
        run = before
    return found

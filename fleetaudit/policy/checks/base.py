"""The contract of an assertion, and what the assertions share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias

from fleetaudit.model import Finding, Gap, Listener, Missing, NamespaceId, Owner, Verdict
from fleetaudit.policy.values import Bindings, Path
from fleetaudit.policy.view import HostView

EndpointKey: TypeAlias = tuple[NamespaceId, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """What one rule judges on one host.

    `doubtful` are listeners of which the snapshot does not say whether the rule selects them; `hidden` are
    the gaps that could hide a listener that it would select.
    """

    view: HostView
    listeners: tuple[Listener, ...]
    doubtful: tuple[Listener, ...] = ()
    hidden: tuple[Gap, ...] = ()


class Check(Protocol):
    """One assertion of a rule, compiled."""

    judges_absence: ClassVar[bool]
    """Whether "nothing was found" is an answer (expect) or makes the assertion not applicable."""
    needs_all: ClassVar[bool]
    """Whether a listener that a gap hides could break it; if not, what was seen suffices."""

    def judge(self, case: Case) -> Iterator[Finding]:
        """Everything that keeps the assertion from holding; nothing when it holds."""


CompileCheck: TypeAlias = Callable[[object, Path, Bindings], Check]
Group: TypeAlias = tuple[Listener, ...]


def _endpoint_of(listener: Listener, *, apart: bool) -> EndpointKey:
    """What makes listeners one endpoint: several sockets (SO_REUSEPORT) can serve the same one.

    Where the snapshot does not say it all, they may be one or several: `apart` decides.
    """
    where = listener.path if isinstance(listener.path, str) else listener.port
    parts = (listener.family, listener.device, listener.address, where)
    if where is None or (apart and any(isinstance(part, Missing) for part in parts)):
        where = f"inode {listener.inode}"
    family, device, address = ("" if isinstance(part, Missing) else str(part) for part in parts[:3])
    return (listener.netns.id, listener.protocol, family, device, address, str(where))


def endpoints(listeners: Sequence[Listener], *, apart: bool = False) -> tuple[Group, ...]:
    """The listeners grouped by endpoint, in their order: as few groups as may be, or (`apart`) as many."""
    groups: dict[EndpointKey, list[Listener]] = {}
    for listener in listeners:
        groups.setdefault(_endpoint_of(listener, apart=apart), []).append(listener)
    return tuple(tuple(group) for group in groups.values())


def apart(listeners: Sequence[Listener]) -> tuple[Group, ...]:
    """The listeners grouped by endpoint, none together that may not belong together."""
    return endpoints(listeners, apart=True)


def judge_groups(
    case: Case,
    judge: Callable[[Group], Finding | None],
    group: Callable[[Sequence[Listener]], tuple[Group, ...]],
) -> Iterator[Finding]:
    """Judge each group; a group that the rule only may select can make a rule unknown, never fail it."""
    for members in group(case.listeners):
        finding = judge(members)
        if finding is not None:
            yield finding
    if not case.doubtful:
        return
    doubtful = {id(listener) for listener in case.doubtful}
    for members in group((*case.listeners, *case.doubtful)):
        finding = judge(members) if any(id(item) in doubtful for item in members) else None
        if finding is not None:
            reason = f"whether the rule selects this listener is not known; if it does: {finding.reason}"
            yield replace(finding, verdict=Verdict.UNKNOWN, reason=reason)


def one_by_one(listeners: Sequence[Listener]) -> tuple[Group, ...]:
    """Each listener a group of its own."""
    return tuple((listener,) for listener in listeners)


def holders(listeners: Sequence[Listener]) -> tuple[Owner, ...]:
    """Everybody who holds one of the sockets, or could receive it: owners and `held_by`."""
    if len(listeners) == 1 and not listeners[0].held_by:
        return listeners[0].owners  # nearly always
    return tuple(owner for listener in listeners for owner in (*listener.owners, *listener.held_by))

"""One host as the rules see it: its listeners, and what may be hidden from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fleetaudit.model import UNKNOWN, Gap, Listener, Missing, NetworkNamespace, Snapshot
from fleetaudit.policy.fields import PROTOCOLS, kind_of, listener_kind_of
from fleetaudit.policy.truth import Truth

T = TypeVar("T")

# What each gap code may hide. Owners, holders of listeners that were seen: "any", or "queued" ones. (A
# descriptor in flight waits in a unix socket, in whichever namespace that is: who did not look at the unix
# sockets of one does not know every holder of any listener.) Listeners, whole ones: "elsewhere", in a
# namespace other than the host's, or "anywhere". A code that is not here may hide both.
_HIDES: Final[Mapping[str, tuple[str, str]]] = {
    "not_root": ("any", "elsewhere"),
    "no_sys_ptrace": ("any", "elsewhere"),
    "denied_process": ("any", "elsewhere"),
    "denied_fd": ("any", "elsewhere"),
    "hidepid": ("any", "elsewhere"),
    "pid_namespace": ("any", "elsewhere"),
    "budget": ("any", "elsewhere"),  # the walk stops, not the lists of the namespaces that are known
    "hidden_holders": ("any", "elsewhere"),  # what is in flight can be all that keeps its namespace alive
    "netns_not_entered": ("any", "elsewhere"),  # the unix sockets there were not looked at
    "protocol_not_dumped": ("queued", "anywhere"),
    "dump_interrupted": ("queued", "anywhere"),
}
_HIDES_ALL = ("any", "anywhere")
_TELLS_OWNERS = ("owned", "queue", "io_uring", "kernel")


@dataclass(frozen=True, slots=True)
class HostView:
    """A snapshot with its gaps sorted by what they may hide.

    A *ghost* is a listener that a gap may hide: what is known of it is set, everything else is UNKNOWN. A
    selector that does not rule the ghost out is touched by the gap.

    `kinds` numbers processes and listeners by id(). Of those with one number, a rule that looks at
    nothing but what makes the kind (`fields.kind_of`, `fields.listener_kind_of`) says the same.
    """

    listeners: tuple[Listener, ...]
    owner_gaps: tuple[Gap, ...] = ()
    ghosts: tuple[tuple[Gap, Listener], ...] = ()
    approvals: Mapping[int, Truth] = field(default_factory=dict)  # by id() of the listener
    kinds: Mapping[int, int] = field(default_factory=dict)
    by_port: Mapping[int | None, Sequence[int]] = field(
        default_factory=dict
    )  # places of listeners; None: no port

    def places(self, ports: frozenset[str | int]) -> Iterable[int]:
        """Where in `listeners` those with these ports are, and those without a port; of no ports: all."""
        if not ports or not self.by_port:
            return range(len(self.listeners))
        named = (port for port in ports if isinstance(port, int))
        return [place for port in (None, *named) for place in self.by_port.get(port, ())]

    def doubt(self, listener: Listener) -> str:
        """Why not every holder of the listener may have been seen; empty when all were."""
        if listener.owner_state == "kernel" and not listener.owners and not listener.held_by:
            hidden = [gap for gap in self.owner_gaps if gap.code == "hidden_holders"]
            return f"holders may be hidden ({sentence(hidden)})" if hidden else ""
        if self.owner_gaps:
            return f"holders may be hidden ({sentence(self.owner_gaps)})"
        if listener.owner_state not in (*_TELLS_OWNERS, UNKNOWN):
            return "its owners are not known"
        if not listener.owners and not listener.held_by:
            return "no owner was seen, and nothing proves that there is none"
        return ""

    def owners_known(self, listener: Listener) -> bool:
        """Whether every owner of the listener was seen."""
        return not self.doubt(listener)

    def approved(self, listener: Listener) -> Truth:
        """Whether some rule with an allow list or a required listener selects it."""
        return self.approvals.get(id(listener))


def view_of(snapshot: Snapshot) -> HostView:
    """The view of a derived snapshot, without approvals yet."""
    names = {item.id: item for item in snapshot.namespaces}
    gaps = snapshot.coverage.gaps
    return HostView(
        listeners=snapshot.listeners,
        owner_gaps=tuple(gap for gap in gaps if _hides_owners(gap)),
        ghosts=tuple((gap, _ghost(gap, names)) for gap in gaps),
        kinds={
            **_numbered(snapshot.processes.values(), kind_of),
            **_numbered(snapshot.listeners, listener_kind_of),
        },
        by_port=_places(snapshot.listeners),
    )


def _numbered(items: Iterable[T], kind: Callable[[T], tuple[object, ...]]) -> Mapping[int, int]:
    numbers: dict[tuple[object, ...], int] = {}
    return {id(item): numbers.setdefault(kind(item), len(numbers)) for item in items}


def _places(listeners: Sequence[Listener]) -> Mapping[int | None, Sequence[int]]:
    found: dict[int | None, list[int]] = {}
    for place, listener in enumerate(listeners):
        port = listener.port
        found.setdefault(port if isinstance(port, int) else None, []).append(place)
    return found


def _hides_owners(gap: Gap) -> bool:
    # A protocol that is not told, or that nobody knows, may be that of the unix sockets.
    owners, _ = _HIDES.get(gap.code, _HIDES_ALL)
    return owners == "any" or gap.protocol == "unix" or gap.protocol not in PROTOCOLS


def sentence(gaps: Iterable[Gap]) -> str:
    """The gaps in words, each code once."""
    return "; ".join(sorted({f"{gap.code}: {gap.detail}" if gap.detail else gap.code for gap in gaps}))


def _ghost(gap: Gap, names: Mapping[int | str, NetworkNamespace]) -> Listener:
    _, where = _HIDES.get(gap.code, _HIDES_ALL)
    if not isinstance(gap.netns, Missing):
        netns = names.get(gap.netns) or NetworkNamespace(gap.netns)
    else:
        netns = NetworkNamespace("", host=False if where == "elsewhere" else UNKNOWN)
    protocol = "" if isinstance(gap.protocol, Missing) else gap.protocol
    return Listener(protocol=protocol, inode=0, netns=netns)

"""How listeners and owners are called where a person reads them; nothing here is escaped yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fleetaudit.model import Finding, Listener, Maybe, Missing, Owner, Process

UNKNOWN_CELL = "?"


@dataclass(frozen=True, slots=True)
class Holder:
    """An owner of a finding's listener. `concerned`: the finding is about this one.

    `held_by`: it could receive the socket, or a ring of its holds it, but no descriptor was seen.
    """

    owner: Owner
    concerned: bool
    held_by: bool


def holders(finding: Finding) -> tuple[Holder, ...]:
    """Everybody who holds the finding's listener, whether the finding is about them or not, by pid.

    The finding may be about an endpoint of several sockets; the holders of the others are in its owners.
    """
    return holders_of((finding.listener,) if finding.listener else (), finding.owners)


def holders_of(listeners: Sequence[Listener], concerned: Sequence[Owner] = ()) -> tuple[Holder, ...]:
    """Everybody who holds one of the listeners, and those that a finding is about, by pid."""
    real = [owner for listener in listeners for owner in listener.owners]
    suspects = [owner for listener in listeners for owner in listener.held_by]
    marked = {identity(owner) for owner in concerned}
    only_suspects = {identity(owner) for owner in suspects} - {identity(owner) for owner in real}
    unique = {identity(owner): owner for owner in (*suspects, *real, *concerned)}
    return tuple(Holder(unique[key], key in marked, key in only_suspects) for key in sorted(unique))


def identity(owner: Owner) -> tuple[int, int]:
    """What makes two owners the same process: pid and start time; -1 for one that is not known."""
    start = owner.process.start_time
    return (owner.process.pid, -1 if isinstance(start, Missing) else start)


def program(process: Process) -> str:
    """The name a process goes by: comm (its own word, as in ss), else its executable's, else "?"."""
    for name in (process.comm, base_name(process.exe)):
        if isinstance(name, str) and name:
            return name
    return UNKNOWN_CELL


def base_name(path: Maybe[str | None]) -> str | None:
    """The last part of a path, None when there is none."""
    return path.rsplit("/", 1)[-1] if isinstance(path, str) else None


def account(process: Process) -> str:
    """The user a process acts as: a name, else its effective uid, else "?"."""
    for value in (process.user, process.euid, process.uid):
        if not isinstance(value, Missing) and value is not None and value != "":
            return str(value)
    return UNKNOWN_CELL


def origin(owner: Owner) -> str:
    """How an owner came to the socket: a value of `Inherited`, or "" when that is not known."""
    return "" if isinstance(owner.inherited, Missing) else owner.inherited.value


def word(value: Maybe[object]) -> str:
    """A value for a cell: empty when it is known to be none, "?" when the snapshot does not say."""
    if isinstance(value, Missing):
        return UNKNOWN_CELL
    return "" if value is None else str(value)


def namespace(listener: Listener) -> str:
    """Where a listener lives: "host", the name of its network namespace, or its id."""
    netns = listener.netns
    if netns.host is True:
        return "host"
    return netns.name if isinstance(netns.name, str) and netns.name else str(netns.id)


def endpoint(listener: Listener) -> str:
    """One listener in words: tcp 0.0.0.0:8080, tcp [::]:80, unix /run/x.sock, udp 0.0.0.0%eth0:68."""
    device = f"%{listener.device}" if isinstance(listener.device, str) and listener.device else ""
    if isinstance(listener.path, str):
        where = listener.path
    elif listener.address is None and listener.port is None:
        where = f"inode {listener.inode}"
    else:
        address = word(listener.address)
        address = f"[{address}]" if ":" in address else address
        where = f"{address}{device}" + (f":{word(listener.port)}" if listener.port is not None else "")
    space = "" if listener.netns.host is True else f" in network namespace {namespace(listener)}"
    return f"{listener.protocol} {where}{space}"


_STATES: Final = {
    "kernel": "the kernel's own: no process can hold it",
    "queue": "held in a queue: see who could receive it",
    "io_uring": "held by an io_uring ring",
    "vanished": "its owner ended while the host was read",
    "unknown": "not every owner could be seen",
}


def unowned(listener: Listener) -> str:
    """What its owners do not say about who holds a listener; "" when they are all there is."""
    state = listener.owner_state
    if isinstance(state, Missing):
        return "" if listener.owners else "no owner was seen"
    if state == "owned":
        return ""
    return _STATES.get(state, state)


def controls(references: Mapping[str, Sequence[str]]) -> str:
    """Control references in words: "cis_controls_8 4.8; pci_dss_4 2.2.4, 2.2.5"."""
    return "; ".join(f"{name} {', '.join(references[name])}".rstrip() for name in sorted(references))

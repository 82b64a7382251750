"""What a snapshot implies: scope, ephemeral, unit, container, ancestry and how owners came to their sockets.

Pure. The agent reports facts; everything here is judged on the controller, so that a saved snapshot
and a fresh one give the same answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from fleetaudit.cgroup import below, container_of, is_claimed, unit_of
from fleetaudit.model import (
    UNKNOWN,
    Boundary,
    Coverage,
    Gap,
    Inherited,
    Listener,
    Maybe,
    Missing,
    Outcome,
    Owner,
    Process,
    Snapshot,
)
from fleetaudit.model import HostStatus as Status
from fleetaudit.quick import changed
from fleetaudit.usr_merge import is_merged

_Chain: TypeAlias = tuple[Process, ...]  # from the parent up
_MAX_ANCESTORS = 64
_LONGEST_ADDRESS = 45  # INET6_ADDRSTRLEN without its end
_CARRIER_NAT = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_PRIVATE = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


def derive(outcome: Outcome) -> Outcome:
    """The outcome with its snapshot completed, and its status refined to ok or partial by coverage."""
    snapshot = outcome.snapshot
    if snapshot is None:
        return outcome
    coverage = _coverage(snapshot, outcome.context.boundary)
    root = _root_of(snapshot) if outcome.context.boundary is Boundary.CONTAINER else ""
    merged = is_merged(snapshot.os_id, snapshot.os_version, snapshot.processes.values())
    processes = {pid: _placed(process, root, merged) for pid, process in snapshot.processes.items()}
    known: dict[int, _Chain] = {}
    inside = [item for item in snapshot.listeners if not _lies_outside(item, outcome.context.boundary)]
    snapshot = replace(
        snapshot,
        coverage=coverage,
        processes=processes,
        listeners=tuple(_listener(item, processes, known) for item in inside),
    )
    status = Status.OK if coverage.complete else Status.PARTIAL
    detail = "" if coverage.complete else "; ".join(_sentence(gap) for gap in coverage.gaps)
    return replace(outcome, snapshot=snapshot, status=status, detail=detail)


def scope_of(
    address: Maybe[str | None], family: Maybe[str | None], device: Maybe[str | None]
) -> Maybe[str | None]:
    """Who can reach a listener, from its address alone: loopback, link_local, multicast, private, any,
    public or unix; `None` for families without an address.
    """
    if family == "unix":
        return "unix"
    if device == "lo":
        return "loopback"
    if not isinstance(address, str):
        return address
    bare = address.split("%")[0]
    return _scope_of(bare) if len(bare) <= _LONGEST_ADDRESS else UNKNOWN


@lru_cache(1024)
def _scope_of(address: str) -> Maybe[str | None]:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return _ip_scope(ip)


def _ip_scope(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if ip.is_unspecified:
        return "any"
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link_local"
    if ip.is_multicast:
        return "multicast"
    if any(ip in network for network in (*_PRIVATE, _CARRIER_NAT)):
        return "private"
    return "public"


def _sentence(gap: Gap) -> str:
    return f"{gap.code}: {gap.detail}" if gap.detail else gap.code


def _coverage(snapshot: Snapshot, boundary: Boundary) -> Coverage:
    coverage = snapshot.coverage
    gaps = coverage.gaps
    if boundary is Boundary.CONTAINER:
        outside = {item.id for item in snapshot.namespaces if item.outside}
        gaps = tuple(gap for gap in gaps if not _is_outside(gap, outside))
    if not coverage.complete and not coverage.gaps:
        gaps = (Gap("incomplete", "the agent says that coverage is incomplete, without saying why"),)
    if not gaps:
        gaps = _contradictions(coverage)
    return replace(coverage, gaps=gaps, complete=not gaps)


def _contradictions(coverage: Coverage) -> tuple[Gap, ...]:
    """What a host that claims to have seen everything admits not to have seen."""
    unreadable = coverage.unreadable
    if isinstance(unreadable, int) and unreadable > 0:
        return (Gap("denied_process", f"{unreadable} processes could not be looked into"),)
    if isinstance(coverage.euid, int) and coverage.euid != 0:
        return (Gap("not_root", f"ran as uid {coverage.euid}"),)
    return ()


def _is_outside(gap: Gap, outside: set[int | str]) -> bool:
    """Whether a gap is about what lies outside a container, where the container is all that is audited."""
    if gap.code == "pid_namespace":
        return True
    return gap.code == "netns_not_entered" and not isinstance(gap.netns, Missing) and gap.netns in outside


def _lies_outside(item: Listener, boundary: Boundary) -> bool:
    """Whether a listener lives in a namespace that nobody inside the audited container owns."""
    return boundary is Boundary.CONTAINER and item.netns.outside


def _root_of(snapshot: Snapshot) -> str:
    """The root of the groups of an audited container's own systemd, which as pid 1 is in its init.scope.

    A container without a cgroup namespace of its own reads the host's paths.
    """
    init = snapshot.processes.get(1)
    cgroup = init.cgroup if init is not None and isinstance(init.cgroup, str) else ""
    return cgroup.removesuffix("/init.scope") if cgroup.endswith("/init.scope") else ""


def _placed(process: Process, root: str, merged: Maybe[bool]) -> Process:
    """The process with unit and container read from its cgroup where the host did not give them.

    That the host has merged /usr says nothing of a path that is not verified: it may be of another root.
    """
    merged = merged if process.exe_verified is True else UNKNOWN
    if not isinstance(process.cgroup, str):
        return changed(process, usr_merged=merged)
    short = len(process.cgroup) + len(root) <= _REMEMBERED_LENGTH
    read = _read_cgroup if short else _read_cgroup.__wrapped__
    unit, user_unit, container, runtime, pod = read(process.cgroup, root)
    return changed(
        process,
        unit=unit if process.unit is UNKNOWN else process.unit,
        user_unit=user_unit if process.user_unit is UNKNOWN else process.user_unit,
        container=container if process.container is UNKNOWN else process.container,
        runtime=runtime,
        pod=pod,
        usr_merged=merged,
    )


# Hosts choose the text: bounded in length too.
_REMEMBERED_LENGTH = 512
_Words: TypeAlias = Maybe[str | None]
_NOWHERE = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)


@lru_cache(1024)
def _read_cgroup(path: str, root: str) -> tuple[_Words, _Words, _Words, _Words, _Words]:
    """(unit, user unit, container, its runtime, its pod) of a cgroup; outside of `root` nothing is known."""
    inside = below(root, path)
    if inside is None:
        return _NOWHERE
    container = container_of(inside)
    if container is None:
        return *unit_of(inside), None, None, None
    # Below user@UID.service a container's name is the user's own claim: not known.
    told = (UNKNOWN, UNKNOWN, UNKNOWN) if is_claimed(inside) else container
    return *unit_of(inside), *told


def _listener(item: Listener, processes: Mapping[int, Process], known: dict[int, _Chain]) -> Listener:
    owners = [_with_ancestors(owner, processes, known) for owner in item.owners]
    holders = {owner.process.pid: owner for owner in owners}
    return changed(
        item,
        owners=tuple(_with_origin(owner, holders, processes) for owner in owners),
        held_by=tuple(_with_ancestors(owner, processes, known) for owner in item.held_by),
        scope=scope_of(item.address, item.family, item.device),
        ephemeral=_ephemeral(item),
    )


def _ephemeral(item: Listener) -> Maybe[bool]:
    if item.protocol not in ("udp", "udplite"):
        return False
    ports = item.netns.ephemeral_ports
    if isinstance(ports, Missing) or not isinstance(item.port, int):
        return UNKNOWN
    return ports[0] <= item.port <= ports[1]


# ---------------------------------------------------------------- ancestry


def _with_ancestors(owner: Owner, processes: Mapping[int, Process], known: dict[int, _Chain]) -> Owner:
    process = processes.get(owner.process.pid, owner.process)
    chain, cut = _lineage(process, processes, known)
    return Owner(process, owner.fds, chain, cut, cloexec=owner.cloexec)


def _lineage(
    process: Process, processes: Mapping[int, Process], known: dict[int, _Chain]
) -> tuple[_Chain, bool]:
    """The ancestors of a process, and whether the chain is cut. Chains that are whole are `known` by pid."""
    parent = process.ppid
    above = known.get(parent) if isinstance(parent, int) else None
    if isinstance(parent, int) and above is not None and len(above) < _MAX_ANCESTORS:
        chain = (processes[parent], *above)  # the process is not in it: it ends at the first of all
        return chain, is_reparented(process, chain)
    chain, cut = _climb(process, processes)
    if not cut:
        known.update((link.pid, chain[place + 1 :]) for place, link in enumerate(chain))
    return chain, cut


def _climb(process: Process, processes: Mapping[int, Process]) -> tuple[_Chain, bool]:
    chain: list[Process] = []
    seen = {process.pid}
    current, cut = process, False
    while True:
        parent = current.ppid
        if isinstance(parent, Missing):
            cut = True
            break
        if parent == 0:
            break
        if parent not in processes or parent in seen or len(chain) >= _MAX_ANCESTORS:
            cut = True
            break
        current = processes[parent]
        seen.add(parent)
        chain.append(current)
    cut = cut or any(is_reparented(link, chain[place:]) for place, link in enumerate([process, *chain]))
    return tuple(chain), cut


def is_reparented(process: Process, ancestors: Sequence[Process]) -> bool:
    """Whether the process lost its parent: its session's leader is neither itself nor an ancestor.

    A new process stays in its parent's session (setsid(2)), so a leader that is no ancestor means that the
    chain was cut by re-parenting. Session 0 is a leader outside the pid namespace and proves nothing.
    """
    session = process.session
    if isinstance(session, Missing) or session <= 0 or session == process.pid:
        return False
    return all(ancestor.pid != session for ancestor in ancestors)


# ---------------------------------------------------------------- how an owner came to its socket


def _with_origin(owner: Owner, holders: Mapping[int, Owner], processes: Mapping[int, Process]) -> Owner:
    inherited, certain, by = _origin(owner, holders)
    if inherited is Inherited.ORIGINAL and not certain and _left_its_session(owner, processes):
        inherited = Inherited.ORPHAN
    if isinstance(inherited, Missing) and isinstance(owner.process.inherited, str):
        hint = owner.process.inherited
        if hint in {kind.value for kind in Inherited}:
            inherited, certain = Inherited(hint), False
    return Owner(
        owner.process,
        owner.fds,
        owner.ancestors,
        owner.ancestry_cut,
        inherited,
        certain,
        by,
        owner.cloexec,
    )


def _origin(owner: Owner, holders: Mapping[int, Owner]) -> tuple[Maybe[Inherited], bool, int | None]:
    process = owner.process
    giver = next((item for item in owner.ancestors if item.pid in holders), None)
    if giver is not None:
        return _handed(process, giver), True, giver.pid
    if process.ppid is UNKNOWN:
        return UNKNOWN, False, None
    if is_reparented(process, owner.ancestors):
        return _adrift(owner, holders)
    return _top(owner, holders)


def _handed(process: Process, giver: Process) -> Maybe[Inherited]:
    """What it means that `process` holds a socket that its ancestor `giver` holds too."""
    if _is_systemd(giver):
        return Inherited.ACTIVATION
    same = _same_executable(process, giver)
    if same is True:
        return Inherited.WORKER
    signs = [process.shell, _differs(process.unit, giver.unit), _foreign_user(process, giver)]
    if True in signs:
        return Inherited.LEAK
    if isinstance(same, Missing) or UNKNOWN in signs:
        return UNKNOWN
    return Inherited.HANDED_DOWN


def _same_executable(one: Process, other: Process) -> Maybe[bool]:
    """By file identity where both have it; else by path, of which one that is not verified proves nothing."""
    if isinstance(one.exe_file, str) and isinstance(other.exe_file, str):
        return one.exe_file == other.exe_file
    if isinstance(one.exe, str) and isinstance(other.exe, str):
        unverified = one.exe_verified is False or other.exe_verified is False
        return UNKNOWN if unverified and one.exe == other.exe else one.exe == other.exe
    return UNKNOWN


def _is_systemd(process: Process) -> bool:
    """The system manager or a user's: a program of that name elsewhere hands down like any other."""
    return process.exe in _SYSTEMD and process.exe_verified is not False and process.exe_deleted is not True


def _differs(mine: Maybe[object], theirs: Maybe[object]) -> Maybe[bool]:
    if isinstance(mine, Missing) or isinstance(theirs, Missing):
        return UNKNOWN
    return mine != theirs


def _foreign_user(process: Process, giver: Process) -> Maybe[bool]:
    """Another user than the giver's, though the giver could not have changed users itself."""
    if giver.euid == 0:
        return False
    return _differs(process.euid, giver.euid)


def _adrift(owner: Owner, holders: Mapping[int, Owner]) -> tuple[Maybe[Inherited], bool, int | None]:
    """A holder whose parent is gone: handed down by a session mate that still holds, or an orphan."""
    process = owner.process
    mate = holders.get(process.session) if isinstance(process.session, int) else None
    if mate is not None:
        return _handed(process, mate.process), False, mate.process.pid
    if any(not is_reparented(other.process, other.ancestors) for other in holders.values()):
        return (Inherited.LEAK if process.shell is True else UNKNOWN), False, None
    if process.shell is True:
        return Inherited.ORPHAN, True, None
    return (UNKNOWN if isinstance(process.shell, Missing) else Inherited.ORIGINAL), False, None


def _left_its_session(owner: Owner, processes: Mapping[int, Process]) -> bool:
    """Whether a process without its parent is of another unit than the leader of its session.

    `original` and not certain is said of those alone, when all holders have lost their parents.
    """
    process = owner.process
    leader = processes.get(process.session) if isinstance(process.session, int) else None
    if leader is None or leader.pid == process.pid or not is_reparented(process, owner.ancestors):
        return False
    return _differs(process.unit, leader.unit) is True


def _top(owner: Owner, holders: Mapping[int, Owner]) -> tuple[Maybe[Inherited], bool, int | None]:
    """A holder none of whose ancestors holds: the one that opened the socket, or one it was passed to."""
    tops = [
        other.process
        for other in holders.values()
        if all(item.pid not in holders for item in other.ancestors)
        and not is_reparented(other.process, other.ancestors)
    ]
    if isinstance(owner.process.shell, Missing):
        return UNKNOWN, False, None
    if owner.process.shell:
        # No shell opens a listener: whoever did is gone, or not an ancestor any more.
        return (Inherited.LEAK if len(tops) > 1 else Inherited.ORPHAN), False, None
    if len(tops) <= 1:
        return Inherited.ORIGINAL, not owner.ancestry_cut, None
    if owner.process.listen_fds is True:
        return Inherited.ACTIVATION, False, None
    if any(isinstance(top.start_time, Missing) for top in tops):
        return UNKNOWN, False, None
    first = min(tops, key=_age)
    if owner.process.pid == first.pid:
        return Inherited.ORIGINAL, False, None
    return Inherited.PASSED, False, first.pid


def _age(process: Process) -> tuple[int, int]:
    return (process.start_time if isinstance(process.start_time, int) else 0, process.pid)

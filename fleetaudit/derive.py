"""What a snapshot implies: scope, ephemeral, unit, container, ancestry and how owners came to their sockets.

Pure. The agent reports facts; everything here is judged on the controller, so that a saved snapshot
and a fresh one give the same answer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from fleetaudit.cgroup import below, container_of, is_claimed, unit_of
from fleetaudit.model import (
    UNKNOWN,
    Boundary,
    Coverage,
    Gap,
    Listener,
    Maybe,
    Missing,
    Outcome,
    Process,
    Snapshot,
)
from fleetaudit.model import HostStatus as Status
from fleetaudit.origins import Chain, with_ancestors, with_origin
from fleetaudit.quick import changed
from fleetaudit.usr_merge import is_merged

_LONGEST_ADDRESS = 45  # INET6_ADDRSTRLEN without its end
_CARRIER_NAT = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_PRIVATE = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def derive(outcome: Outcome) -> Outcome:
    """The outcome with its snapshot completed, and its status refined to ok or partial by coverage."""
    snapshot = outcome.snapshot
    if snapshot is None:
        return outcome
    coverage = _coverage(snapshot, outcome.context.boundary)
    root = _root_of(snapshot) if outcome.context.boundary is Boundary.CONTAINER else ""
    merged = is_merged(snapshot.os_id, snapshot.os_version, snapshot.processes.values())
    processes = {pid: _placed(process, root, merged) for pid, process in snapshot.processes.items()}
    known: dict[int, Chain] = {}
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


def _listener(item: Listener, processes: Mapping[int, Process], known: dict[int, Chain]) -> Listener:
    owners = [with_ancestors(owner, processes, known) for owner in item.owners]
    holders = {owner.process.pid: owner for owner in owners}
    return changed(
        item,
        owners=tuple(with_origin(owner, holders, processes) for owner in owners),
        held_by=tuple(with_ancestors(owner, processes, known) for owner in item.held_by),
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

"""Wire JSON to `Snapshot`: validated and untrusted. Absent becomes `UNKNOWN`, null stays `None`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from fleetaudit.errors import OutputError
from fleetaudit.model import (
    UNKNOWN,
    AgentInfo,
    Coverage,
    Gap,
    HostContext,
    HostStatus,
    Listener,
    Maybe,
    Missing,
    NamespaceId,
    NetworkNamespace,
    Outcome,
    Owner,
    Process,
    Snapshot,
)
from fleetaudit.text import visible
from fleetaudit.wire import (
    OUTCOME_SCHEMA,
    SNAPSHOT_SCHEMA,
    WireCoverage,
    WireEnvelope,
    WireInventory,
    WireNamespace,
    WireOutcome,
    WireOwner,
    WireProcess,
    WireSnapshot,
    WireSocket,
)

T = TypeVar("T")

_FIELDS = WireProcess.__struct_fields__
_NAMESPACES = _FIELDS.index("namespaces")
# Fields for which null can only mean that the agent could not tell.
_NEVER_NONE = tuple(
    _FIELDS.index(name)
    for name in (
        *("ppid", "start_time", "started_at", "session", "comm", "exe_verified", "exe_file", "shell"),
        *("uid", "euid", "gid", "capabilities", "self_audit", "listen_fds", "inherited"),
    )
)

# Made here, by the one thread that imports: msgspec 0.22 crashes the interpreter when several threads are
# the first to decode into a struct at the same time, as the hosts of a fleet are.
_ENVELOPE = msgspec.json.Decoder(WireEnvelope)
_OUTCOME = msgspec.json.Decoder(WireOutcome)
_SNAPSHOT = msgspec.json.Decoder(WireSnapshot)


def decode(data: bytes) -> Snapshot:
    """A snapshot as an agent sent it. Raises OutputError naming the first thing that is wrong."""
    return _snapshot(_wire(data))


def check(data: bytes) -> None:
    """Raise what `decode` would raise, without making the snapshot: all that is validated is on the wire."""
    _wire(data)


def outline(data: bytes) -> tuple[Outcome, str | None]:
    """What `decode_line` would return, without its snapshot, and when that was taken; raises what it would.

    A tenth of the cost: for who wants to know which hosts a file is about.
    """
    if _parse(data, _ENVELOPE).schema == OUTCOME_SCHEMA:
        return decode_line(data), None
    wire = _wire(data)
    context = context_of(wire.inventory)
    outcome = Outcome(wire.host.name, HostStatus.OK, context=context, received_at=wire.received_at)
    return outcome, wire.collected_at


def decode_line(data: bytes) -> Outcome:
    """One line of a snapshot file or journal: a snapshot or an outcome. Raises OutputError."""
    schema = _parse(data, _ENVELOPE).schema
    if schema == OUTCOME_SCHEMA:
        failed = _parse(data, _OUTCOME)
        if failed.status in (HostStatus.OK, HostStatus.PARTIAL):
            raise OutputError(f"a host of status {failed.status.value} must come with its snapshot")
        context = context_of(failed.inventory)
        return Outcome(
            failed.host.name,
            failed.status,
            failed.detail,
            context,
            received_at=failed.received_at,
            line=data,
        )
    wire = _wire(data)
    return Outcome(
        host=wire.host.name,
        status=HostStatus.OK,
        context=context_of(wire.inventory),
        snapshot=_snapshot(wire),
        snapshot_sha256=hashlib.sha256(data.rstrip(b"\r\n")).hexdigest(),
        received_at=wire.received_at,
        line=data,
    )


def _parse(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OutputError(f"not a valid snapshot: {visible(str(error))[:300]}") from error


def _wire(data: bytes) -> WireSnapshot:
    found = _parse(data, _ENVELOPE).schema
    if found != SNAPSHOT_SCHEMA:
        raise OutputError(f"schema is {visible(found)[:80]!r}; this version reads {SNAPSHOT_SCHEMA!r}")
    return _parse(data, _SNAPSHOT)


def _maybe(value: T | UnsetType) -> Maybe[T]:
    return UNKNOWN if value is UNSET else value


def _known(value: T | UnsetType | None) -> Maybe[T]:
    """For fields where null can only mean that the agent could not tell."""
    return UNKNOWN if value is None or value is UNSET else value


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def context_of(wire: WireInventory) -> HostContext:
    """What the wire says of the inventory."""
    variables = MappingProxyType({name: _frozen(value) for name, value in wire.variables.items()})
    return HostContext(tuple(sorted(set(wire.groups) - {"all"})), variables, wire.boundary)


def _snapshot(wire: WireSnapshot) -> Snapshot:
    namespaces = _namespaces(wire.network_namespaces)
    processes = {pid: _process(pid, item) for pid, item in wire.processes.items()}
    host, agent = wire.host, wire.agent
    return Snapshot(
        host=host.name,
        coverage=_coverage(wire.coverage),
        listeners=_listeners(wire.sockets, namespaces, processes),
        processes=MappingProxyType(processes),
        namespaces=tuple(namespaces.values()),
        collected_at=wire.collected_at,
        hostname=host.hostname,
        machine_id=host.machine_id,
        boot_id=host.boot_id,
        kernel=host.kernel,
        arch=host.arch,
        os_id=host.os.id if host.os else None,
        os_version=host.os.version_id if host.os else None,
        agent=AgentInfo(
            agent.version,
            agent.sha256,
            agent.mode,
            agent.interpreter,
            agent.wall_seconds,
            agent.cpu_seconds,
            agent.stale,
        ),
    )


def _coverage(wire: WireCoverage) -> Coverage:
    counts = wire.processes
    return Coverage(
        complete=wire.complete,
        gaps=tuple(Gap(gap.code, gap.detail, _known(gap.netns), _known(gap.protocol)) for gap in wire.gaps),
        euid=_maybe(wire.euid),
        seen=_maybe(counts.seen),
        unreadable=_maybe(counts.unreadable),
        vanished=_maybe(counts.vanished),
    )


def _namespaces(wire: tuple[WireNamespace, ...]) -> dict[NamespaceId, NetworkNamespace]:
    """Namespaces by id; of one that is described in two ways nothing is known."""
    found: dict[NamespaceId, NetworkNamespace] = {}
    for item in map(_namespace, wire):
        other = found.setdefault(item.id, item)
        if other != item:
            found[item.id] = NetworkNamespace(item.id)
    return found


def _namespace(wire: WireNamespace) -> NetworkNamespace:
    return NetworkNamespace(
        wire.id, _maybe(wire.host), _maybe(wire.name), _known(wire.ephemeral_ports), wire.outside
    )


def _listeners(
    sockets: tuple[WireSocket, ...],
    namespaces: Mapping[NamespaceId, NetworkNamespace],
    processes: Mapping[int, Process],
) -> tuple[Listener, ...]:
    """Listeners in a stated order (namespace, protocol, address, port, path, inode), whatever the host's."""
    listeners = [_listener(item, namespaces, processes) for item in sockets]
    return tuple(sorted(listeners, key=_order))


def _order(item: Listener) -> tuple[bool, str, str, str, int, str, int]:
    port = item.port if isinstance(item.port, int) else -1
    host = item.netns.host is True
    return (not host, str(item.netns.id), item.protocol, str(item.address), port, str(item.path), item.inode)


def _listener(
    wire: WireSocket, namespaces: Mapping[NamespaceId, NetworkNamespace], processes: Mapping[int, Process]
) -> Listener:
    return Listener(
        protocol=wire.protocol,
        inode=wire.inode,
        netns=namespaces.get(wire.netns) or NetworkNamespace(wire.netns),
        family=_maybe(wire.family),
        state=wire.state,
        address=_maybe(wire.address),
        port=_maybe(wire.port),
        path=_maybe(wire.path),
        device=_maybe(wire.device),
        v6only=_maybe(wire.v6only),
        uid=_known(wire.uid),
        backlog=_maybe(wire.backlog),
        owner_state=_maybe(wire.owner_state),
        owners=_owners(wire.owners, processes),
        held_by=_owners(wire.held_by, processes),
    )


def _owners(wire: tuple[WireOwner, ...], processes: Mapping[int, Process]) -> tuple[Owner, ...]:
    by_pid: dict[int, list[WireOwner]] = {}
    for item in wire:
        by_pid.setdefault(item.pid, []).append(item)
    return tuple(_owner(processes.get(pid) or Process(pid), items) for pid, items in sorted(by_pid.items()))


def _owner(process: Process, items: list[WireOwner]) -> Owner:
    """One owner, even of a host that names a process twice."""
    fds = {fd for item in items for fd in item.fds}
    closing = [_known(item.cloexec) for item in items]
    told = [some for some in closing if not isinstance(some, Missing)]
    cloexec = tuple(sorted(fds.intersection(*told))) if len(told) == len(closing) else UNKNOWN
    return Owner(process, tuple(sorted(fds)), cloexec=cloexec)


def _process(pid: int, wire: WireProcess) -> Process:
    """The fields of a process are on the wire in the order of the model's."""
    values: list[Any] = [UNKNOWN if value is UNSET else value for value in astuple(wire)]
    for place in _NEVER_NONE:
        if values[place] is None:
            values[place] = UNKNOWN
    if values[_NAMESPACES] is not UNKNOWN:
        values[_NAMESPACES] = tuple(sorted(wire.namespaces.items())) if wire.namespaces else UNKNOWN
    return Process(pid, *values)

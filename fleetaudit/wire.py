"""The snapshot as JSON: the structs that validate it *are* its published schema.

Decoding and validation are one pass (msgspec); JSON Schema on this path would cost 150 times as much.
A field that may be absent is `UNSET` then; unknown fields are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from fleetaudit.model import Boundary, HostContext, HostStatus

SNAPSHOT_SCHEMA = "fleetaudit.snapshot/1"
OUTCOME_SCHEMA = "fleetaudit.outcome/1"

Count = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=0, le=65535)]
# A field that may be absent (unknown) or null (known to be none).
Text: TypeAlias = str | UnsetType | None
Number: TypeAlias = Count | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None
NetnsId = Annotated[int | str, Meta(description="Inode number of the network namespace; opaque")]


class WireOs(Struct):
    """Operating system."""

    id: str | None = None
    version_id: str | None = None


class WireHost(Struct):
    """Who the host says it is."""

    name: str
    hostname: str | None = None
    machine_id: str | None = None
    boot_id: str | None = None
    kernel: str | None = None
    arch: str | None = None
    os: WireOs | None = None


class WireAgent(Struct):
    """Which agent wrote this. `stale` is added by the controller, of a pinned agent."""

    version: str | None = None
    sha256: str | None = None
    mode: str | None = None
    interpreter: str | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    stale: str | None = None


class WireGap(Struct):
    """Something that could not be seen."""

    code: str
    detail: str = ""
    netns: NetnsId | UnsetType | None = UNSET
    protocol: Text = UNSET


class WireProcesses(Struct):
    """Process counters of the walk."""

    seen: Count | UnsetType = UNSET
    unreadable: Count | UnsetType = UNSET
    vanished: Count | UnsetType = UNSET


class WireCoverage(Struct):
    """How much was seen."""

    complete: bool
    gaps: tuple[WireGap, ...]
    euid: Count | UnsetType = UNSET
    processes: WireProcesses = field(default_factory=WireProcesses)


class WireNamespace(Struct):
    """One network namespace."""

    id: NetnsId
    host: bool | UnsetType = UNSET
    name: Text = UNSET
    ephemeral_ports: tuple[Port, Port] | UnsetType | None = UNSET
    outside: bool = False


class WireOwner(Struct):
    """A process and the descriptors by which it holds a socket."""

    pid: Count
    fds: tuple[Count, ...]
    cloexec: tuple[Count, ...] | UnsetType | None = UNSET


class WireSocket(Struct):
    """One listening socket: one inode, one row."""

    protocol: str
    state: str
    inode: Count
    netns: NetnsId
    owners: tuple[WireOwner, ...]
    family: Text = UNSET
    address: Text = UNSET
    port: Port | UnsetType | None = UNSET
    path: Text = UNSET
    device: Text = UNSET
    v6only: Flag = UNSET
    uid: Number = UNSET
    backlog: Number = UNSET
    owner_state: str | UnsetType = UNSET
    held_by: tuple[WireOwner, ...] = ()


class WireProcess(Struct):
    """One owner or one of its ancestors."""

    ppid: Number = UNSET
    start_time: Number = UNSET
    comm: Text = UNSET
    exe: Text = UNSET
    exe_deleted: bool | UnsetType = UNSET
    exe_verified: Flag = UNSET
    exe_file: Text = UNSET
    exe_in_container: Text = UNSET
    argv: tuple[str, ...] | UnsetType | None = UNSET
    argv_cut: bool = False
    uid: Number = UNSET
    euid: Number = UNSET
    user: Text = UNSET
    gid: Number = UNSET
    group: Text = UNSET
    session: int | UnsetType | None = UNSET
    started_at: Text = UNSET
    tty: Text = UNSET
    loginuid: Number = UNSET
    capabilities: Text = UNSET
    lsm: Text = UNSET
    namespaces: dict[str, Count] | UnsetType | None = UNSET
    cgroup: Text = UNSET
    unit: Text = UNSET
    user_unit: Text = UNSET
    container: Text = UNSET
    shell: Flag = UNSET
    self_audit: Flag = field(default=UNSET, name="self")
    listen_fds: Flag = UNSET
    inherited: Text = UNSET


class WireInventory(Struct):
    """What the controller adds: the inventory side of the host."""

    groups: tuple[str, ...] = ()
    variables: dict[str, Any] = field(default_factory=dict)
    boundary: Boundary = Boundary.HOST


def inventory_of(context: HostContext) -> WireInventory:
    """What goes on the wire of the inventory."""
    return WireInventory(context.groups, dict(context.variables), context.boundary)


class WireSnapshot(Struct):
    """One host at one moment."""

    schema: str
    host: WireHost
    coverage: WireCoverage
    sockets: tuple[WireSocket, ...]
    processes: dict[Count, WireProcess]
    network_namespaces: tuple[WireNamespace, ...] = ()
    collected_at: str | None = None
    agent: WireAgent = field(default_factory=WireAgent)
    inventory: WireInventory = field(default_factory=WireInventory)
    received_at: str | None = None


class WireOutcomeHost(Struct):
    """The host an outcome is about."""

    name: str


class WireOutcome(Struct):
    """A host without a snapshot."""

    schema: str
    host: WireOutcomeHost
    status: HostStatus
    detail: str = ""
    inventory: WireInventory = field(default_factory=WireInventory)
    received_at: str | None = None


class WireEnvelope(Struct):
    """Just enough to tell the two kinds of line apart."""

    schema: str


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one snapshot, generated from the structs that validate it."""
    schema = msgspec.json.schema(WireSnapshot)
    (root,) = [schema["$defs"].pop("WireSnapshot")]
    root["properties"]["schema"] = {"const": SNAPSHOT_SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://fleetaudit.example/schemas/snapshot.schema.json",
        **root,
        "title": "fleetaudit snapshot",
        "description": "Every listening socket of one host with every owner. "
        "Absent is unknown, null is known to be none, unknown fields are ignored.",
        "$defs": schema["$defs"],
    }

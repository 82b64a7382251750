"""A snapshot in two parts: what lasts over restarts, and what does not (pid, descriptors, inodes). Pure.

What lasts is canonical JSON, so that equal content has an equal digest and is stored once. It says of each
endpoint who holds it as a set: a pool of workers that grows is no change, nor is a container made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import astuple

from fleetaudit.model import UNKNOWN, Inherited, Listener, Maybe, Owner, Process, Snapshot

FORMAT: Final = 1
EPHEMERAL: Final = "ephemeral"  # in place of a UDP port that the kernel chose
UNKNOWN_WORD: Final = "?"

# A container's or pod's id; the number of a login session; the name systemd-run makes up.
_MADE_UP = re.compile(
    r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{12,}"
    r"|(?<=^session-)\d+(?=\.scope$)|(?<=^run-)[ru]?[0-9a-f-]+(?=\.(?:scope|service)$)"
)


class Holder(msgspec.Struct, frozen=True, array_like=True):
    """Who holds a socket, as it stays over a restart. Empty: known to be none; "?": not known.

    `marks`: d executable deleted, u path not verified, s shell, h could receive it (no descriptor was seen).
    """

    exe: str
    user: str
    unit: str
    container: str
    inherited: str
    marks: str


class Endpoint(msgspec.Struct, frozen=True, array_like=True):
    """A place to listen at. `holders` are places in `Normal.holders`; `states` are those of its owners."""

    netns: str
    protocol: str
    family: str
    device: str
    address: str
    port: str
    path: str
    scope: str
    states: tuple[str, ...]
    holders: tuple[int, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two endpoints the same place."""
        return (self.netns, self.protocol, self.family, self.device, self.address, self.port, self.path)


class Normal(msgspec.Struct, frozen=True, array_like=True):
    """What lasts. `complete` and `gaps` (codes) say how much of the host was seen."""

    format: int
    complete: bool
    gaps: tuple[str, ...]
    holders: tuple[Holder, ...]
    endpoints: tuple[Endpoint, ...]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A process at an endpoint: place of its holder, pid, start in clock ticks since boot (-1: not known)."""

    holder: int
    pid: int
    start: int
    fds: tuple[int, ...]
    container: str


class Sockets(msgspec.Struct, frozen=True, array_like=True):
    """The sockets of one endpoint: (inode, port or -1), and the processes that hold them."""

    sockets: tuple[tuple[int, int], ...]
    held: tuple[Held, ...]


class Volatile(msgspec.Struct, frozen=True, array_like=True):
    """What does not last; `endpoints` are in the order of `Normal.endpoints`."""

    boot_id: str
    endpoints: tuple[Sockets, ...]


def endpoint_words(endpoint: Endpoint) -> str:
    """An endpoint as a person reads it: tcp 0.0.0.0:80, tcp [::]:80, unix /run/x.sock."""
    return _words(endpoint.key)


def listener_words(listener: Listener) -> str:
    """The endpoint of a listener in the same words."""
    return _words(_place(listener))


def _words(key: Sequence[str]) -> str:
    netns, protocol, _, device, address, port, path = key
    where = path
    if not path or path == UNKNOWN_WORD:
        shown = f"[{address}]" if ":" in address else address
        where = (
            shown + (f"%{device}" if device not in ("", UNKNOWN_WORD) else "") + (f":{port}" if port else "")
        )
    space = "" if netns == "host" else f" in network namespace {netns or '(unnamed)'}"
    return f"{protocol} {where}{space}".strip()


_HolderKey: TypeAlias = tuple[str, str, str, str, str, str]
_EndpointKey: TypeAlias = tuple[str, str, str, str, str, str, str]
_HeldBy: TypeAlias = list[tuple[_HolderKey, Owner]]
_ORIGINS: Final[Mapping[Maybe[Inherited], str]] = {
    UNKNOWN: UNKNOWN_WORD,
    **{it: it.value for it in Inherited},
}
_NORMAL = msgspec.json.Decoder(Normal)


def lasting_part(snapshot: Snapshot) -> bytes:
    """What lasts of a derived snapshot."""
    return _split(snapshot)[0]


def normal_and_volatile(snapshot: Snapshot) -> tuple[Normal, Volatile]:
    """Both parts of a derived snapshot."""
    lasting, ordered, held, index = _split(snapshot)
    return _NORMAL.decode(lasting), _volatile(snapshot, ordered, held, index)


def _split(snapshot: Snapshot) -> tuple[bytes, list[list[Listener]], list[_HeldBy], Mapping[_HolderKey, int]]:
    groups: dict[_EndpointKey, list[Listener]] = {}
    for listener in snapshot.listeners:
        groups.setdefault(_place(listener), []).append(listener)
    ordered = sorted(groups.items())
    held = [_held(listeners) for _, listeners in ordered]
    holders = sorted({holder for some in held for holder, _ in some})
    index = {holder: place for place, holder in enumerate(holders)}
    endpoints = [
        (*key, _scope(listeners), _states(listeners), sorted({index[holder] for holder, _ in some}))
        for (key, listeners), some in zip(ordered, held, strict=True)
    ]
    coverage = snapshot.coverage
    gaps = sorted({gap.code for gap in coverage.gaps})
    lasting = msgspec.json.encode((FORMAT, coverage.complete, gaps, holders, endpoints))
    return lasting, [listeners for _, listeners in ordered], held, index


def read_normal(data: bytes) -> Normal:
    """What lasts, decoded. Raises ValueError for what is none."""
    try:
        return _NORMAL.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def _volatile(
    snapshot: Snapshot,
    groups: Iterable[list[Listener]],
    held: Iterable[_HeldBy],
    index: Mapping[_HolderKey, int],
) -> Volatile:
    rows = [
        Sockets(
            tuple(sorted((it.inode, it.port if isinstance(it.port, int) else -1) for it in listeners)),
            tuple(sorted((_process_row(index[holder], owner) for holder, owner in some), key=astuple)),
        )
        for listeners, some in zip(groups, held, strict=True)
    ]
    return Volatile(snapshot.boot_id or "", tuple(rows))


def _process_row(holder: int, owner: Owner) -> Held:
    process = owner.process
    start = process.start_time if isinstance(process.start_time, int) else -1
    container = process.container[:12] if isinstance(process.container, str) else ""
    return Held(holder, process.pid, start, owner.fds, container)


def _held(listeners: Iterable[Listener]) -> list[tuple[_HolderKey, Owner]]:
    found = []
    for listener in listeners:
        found += [(_holder(owner, ""), owner) for owner in listener.owners]
        if listener.held_by:
            real = {owner.process.pid for owner in listener.owners}
            found += [
                (_holder(owner, "h"), owner) for owner in listener.held_by if owner.process.pid not in real
            ]
    return found


def _holder(owner: Owner, mark: str) -> _HolderKey:
    process = owner.process
    exe, unit, container = process.exe, process.unit, process.container
    # As in the fingerprint of a finding: a user without a name is its number.
    user = process.euid if process.user is None else process.user
    if process.exe_deleted is True or process.exe_verified is False or process.shell is True:
        mark = _marks(process) + mark
    return (
        exe if type(exe) is str else _word(exe),
        user if type(user) is str else _word(user),
        _lasting(unit if type(unit) is str else _word(unit)),
        "" if container is None else _container(process),
        _ORIGINS[owner.inherited],
        mark,
    )


def _marks(process: Process) -> str:
    told = (process.exe_deleted is True, process.exe_verified is False, process.shell is True)
    return "".join(mark for mark, holds in zip("dus", told, strict=True) if holds)


def _container(process: Process) -> str:
    """Which kind of container; its id is new each time it is made."""
    if not isinstance(process.container, str):
        return _word(process.container)
    return process.runtime if isinstance(process.runtime, str) and process.runtime else "container"


@lru_cache(4096)
def _lasting(unit: str) -> str:
    return _MADE_UP.sub("*", unit)


def _place(listener: Listener) -> _EndpointKey:
    netns = listener.netns
    port = EPHEMERAL if listener.ephemeral is True else _word(listener.port)
    return (
        "host" if netns.host is True else _word(netns.name),
        listener.protocol,
        _word(listener.family),
        _word(listener.device),
        _word(listener.address),
        port,
        _word(listener.path),
    )


def _scope(listeners: Sequence[Listener]) -> str:
    if len(listeners) == 1:
        return _word(listeners[0].scope)
    return "/".join(sorted({_word(listener.scope) for listener in listeners}))


def _states(listeners: Sequence[Listener]) -> list[str]:
    if len(listeners) == 1:
        return [_word(listeners[0].owner_state)]
    return sorted({_word(listener.owner_state) for listener in listeners})


def _word(value: Maybe[object]) -> str:
    return "" if value is None else UNKNOWN_WORD if value is UNKNOWN else str(value)

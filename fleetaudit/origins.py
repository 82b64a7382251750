"""Ancestry, and how owners came to their sockets: what a snapshot implies of processes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fleetaudit.model import UNKNOWN, Inherited, Maybe, Missing, Owner, Process

Chain: TypeAlias = tuple[Process, ...]  # from the parent up
_MAX_ANCESTORS = 64
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


def with_ancestors(owner: Owner, processes: Mapping[int, Process], known: dict[int, Chain]) -> Owner:
    """The owner with its process as in `processes` and that one's ancestors; `known` chains are added to."""
    process = processes.get(owner.process.pid, owner.process)
    chain, cut = _lineage(process, processes, known)
    return Owner(process, owner.fds, chain, cut, cloexec=owner.cloexec)


def _lineage(
    process: Process, processes: Mapping[int, Process], known: dict[int, Chain]
) -> tuple[Chain, bool]:
    """The ancestors of a process, and whether the chain is cut. Chains that are whole are `known` by pid."""
    parent = process.ppid
    above = known.get(parent) if isinstance(parent, int) else None
    if isinstance(parent, int) and above is not None and len(above) < _MAX_ANCESTORS:
        chain = (processes[parent], *above)  # the process is not in it: it ends at the first of all
        return chain, _is_reparented(process, chain)
    chain, cut = _climb(process, processes)
    if not cut:
        known.update((link.pid, chain[place + 1 :]) for place, link in enumerate(chain))
    return chain, cut


def _climb(process: Process, processes: Mapping[int, Process]) -> tuple[Chain, bool]:
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
    cut = cut or any(_is_reparented(link, chain[place:]) for place, link in enumerate([process, *chain]))
    return tuple(chain), cut


def _is_reparented(process: Process, ancestors: Sequence[Process]) -> bool:
    """Whether the process lost its parent: its session's leader is neither itself nor an ancestor.

    A new process stays in its parent's session (setsid(2)), so a leader that is no ancestor means that the
    chain was cut by re-parenting. Session 0 is a leader outside the pid namespace and proves nothing.
    """
    session = process.session
    if isinstance(session, Missing) or session <= 0 or session == process.pid:
        return False
    return all(ancestor.pid != session for ancestor in ancestors)


# ---------------------------------------------------------------- how an owner came to its socket


def with_origin(owner: Owner, holders: Mapping[int, Owner], processes: Mapping[int, Process]) -> Owner:
    """The owner with how it came to the socket, which `holders` (by pid, it among them) all hold."""
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
    if _is_reparented(process, owner.ancestors):
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
    if any(not _is_reparented(other.process, other.ancestors) for other in holders.values()):
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
    if leader is None or leader.pid == process.pid or not _is_reparented(process, owner.ancestors):
        return False
    return _differs(process.unit, leader.unit) is True


def _top(owner: Owner, holders: Mapping[int, Owner]) -> tuple[Maybe[Inherited], bool, int | None]:
    """A holder none of whose ancestors holds: the one that opened the socket, or one it was passed to."""
    tops = [
        other.process
        for other in holders.values()
        if all(item.pid not in holders for item in other.ancestors)
        and not _is_reparented(other.process, other.ancestors)
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

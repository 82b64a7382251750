"""What other tools would say of a listener: of several owners each names one, and not the same one.

Pure: the order in which each tool meets processes, and which one it keeps, is a fact of its source:
- netstat (net-tools, `prg_cache_add`): walks /proc by ascending pid and keeps the first holder of an inode.
- psutil (`_pslinux.NetConnections.get_all_inodes`): walks the same way, `update` keeps the last.
- osquery (`procGetSocketInodeToProcessInfoMap`): pids are a set of *strings*, the last of them wins.
- InSpec (`resources/port.rb`): the last of ss's `users:((…))`, which ss prints from the last met back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from fleetaudit.model import Listener, Owner, Verdict
from fleetaudit.policy.checks.base import Case
from fleetaudit.policy.model import CompiledRule
from fleetaudit.policy.view import HostView

_TCP_UDP = ("tcp", "udp")


Pick: TypeAlias = Callable[[Sequence[Owner]], Owner]


def _first_met(owners: Sequence[Owner]) -> Owner:
    return min(owners, key=lambda owner: owner.process.pid)


def _last_met(owners: Sequence[Owner]) -> Owner:
    return max(owners, key=lambda owner: owner.process.pid)


def _last_in_string_order(owners: Sequence[Owner]) -> Owner:
    return max(owners, key=lambda owner: str(owner.process.pid))


@dataclass(frozen=True, slots=True)
class Tool:
    """`pick` says whom it names of several owners; `everywhere`: it looks into all network namespaces."""

    pick: Pick
    everywhere: bool
    protocols: tuple[str, ...]


TOOLS: Final[Mapping[str, Tool]] = MappingProxyType(
    {
        "netstat": Tool(_first_met, everywhere=False, protocols=_TCP_UDP),
        "psutil": Tool(_last_met, everywhere=False, protocols=_TCP_UDP),
        "osquery": Tool(_last_in_string_order, everywhere=True, protocols=(*_TCP_UDP, "udplite", "unix")),
        "InSpec": Tool(_first_met, everywhere=False, protocols=_TCP_UDP),
    }
)


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a tool names as the owner; None: it lists the listener without owner, or (`listed`) not at all."""

    tool: str
    listed: bool
    owner: Owner | None


def named_by(listener: Listener) -> tuple[Named, ...]:
    """What each tool says of the listener, in the order of the table."""
    return tuple(_named(name, tool, listener) for name, tool in TOOLS.items())


def _named(name: str, tool: Tool, listener: Listener) -> Named:
    listed = listener.protocol in tool.protocols and (tool.everywhere or listener.netns.host is True)
    if not listed or not listener.owners:
        return Named(name, listed, None)
    return Named(name, listed, tool.pick(listener.owners))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule would say if it saw only what a tool lists: pass, fail, or not_applicable.

    `failing` are the endpoints (see `place_of`) that it would say it of.
    """

    verdict: Verdict
    failing: frozenset[tuple[object, ...]]


def judged_by_tool(compiled: CompiledRule, case: Case) -> Mapping[str, Seen]:
    """The rule by what each tool lists: it knows of no gaps, and of no holder that it does not name."""
    return {name: _judged(compiled, _as_seen(name, case)) for name in TOOLS}


def place_of(listener: Listener) -> tuple[object, ...]:
    """What makes listeners one endpoint to a reader, whatever socket serves it."""
    where = (listener.family, listener.device, listener.address, listener.port, listener.path)
    return (listener.netns.id, listener.protocol, *where)


def _as_seen(name: str, case: Case) -> Case:
    seen: list[Listener] = []
    for listener in case.listeners:
        found = _named(name, TOOLS[name], listener)
        if found.listed:
            owners = (found.owner,) if found.owner else ()
            seen.append(replace(listener, owners=owners, held_by=()))
    return Case(view=HostView(listeners=tuple(seen)), listeners=tuple(seen))


def _judged(compiled: CompiledRule, case: Case) -> Seen:
    findings = [finding for check in compiled.checks for finding in check.judge(case)]
    # Who does not look for what may be hidden has no word for "unknown": what does not fail passes there.
    failing = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    places = frozenset(place_of(finding.listener) for finding in failing if finding.listener is not None)
    if failing:
        return Seen(Verdict.FAIL, places)
    if not case.listeners and not any(check.judges_absence for check in compiled.checks):
        return Seen(Verdict.NOT_APPLICABLE, places)
    return Seen(Verdict.PASS, places)

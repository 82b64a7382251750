"""Who holds a listener, drawn as the tree of processes that it went through. Pure.

The lines of descent of all holders are laid over each other, from the first known ancestor down: who opened
the socket stands above who got it from there. Holders that differ in nothing but their pid are one node.
argv is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, TypeAlias

from fleetaudit.model import Finding, Inherited, Listener, Missing, Owner, Process
from fleetaudit.report import wording
from fleetaudit.report.phrases import clipped
from fleetaudit.report.wording import Holder

_MOST: Final = 40  # nodes of one tree
_DEEPEST: Final = 24
_FACT: Final = 300  # characters
_FDS: Final = 6

_CAME_BY: Final = {
    Inherited.ORIGINAL: "opened it",
    Inherited.WORKER: "inherited it: same program as its opener",
    Inherited.HANDED_DOWN: "inherited it: another program, handed down",
    Inherited.ACTIVATION: "was given it by systemd at start",
    Inherited.LEAK: "inherited it: a leak",
    Inherited.ORPHAN: "inherited it: a leak, and its opener is gone",
    Inherited.PASSED: "was sent it over a unix socket",
}


class Mark(IntEnum):
    """What a node has to do with the socket; a number in the page's data too."""

    ANCESTOR = 0
    HOLDER = 1
    CONCERNED = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """What a person sees of a process besides its pid: all of it visible text."""

    name: str
    user: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A process in the tree; `alike` more differ from it only in their pid."""

    kind: Kind
    pid: int
    mark: Mark
    words: str
    children: tuple[Node, ...] = ()
    alike: int = 0


@dataclass(frozen=True, slots=True)
class Tree:
    """All roots, what is not shown (`left_out` processes), and what the owners do not say."""

    roots: tuple[Node, ...]
    left_out: int = 0
    note: str = ""


def tree(finding: Finding) -> Tree:
    """The tree of a finding's listener, or of the owners that it names."""
    forest: _Forest = {}
    for holder in wording.holders(finding):
        line = (*reversed(holder.owner.ancestors[:_DEEPEST]), holder.owner.process)
        _grow(forest, line, holder)
    room = _Room(_MOST)
    roots = _nodes(forest, room)
    return Tree(roots, room.refused, _note(finding.listener) if finding.listener else "")


_Key: TypeAlias = tuple[int, int]


@dataclass(slots=True)
class _Branch:
    process: Process
    holder: Holder | None = None
    children: dict[_Key, _Branch] = field(default_factory=dict)


_Forest: TypeAlias = dict[_Key, _Branch]


@dataclass(slots=True)
class _Room:
    left: int
    refused: int = 0

    def take(self) -> bool:
        self.left -= 1
        self.refused += self.left < 0
        return self.left >= 0


def _grow(forest: _Forest, line: Sequence[Process], holder: Holder) -> None:
    level, branch = forest, None
    for process in line:
        branch = level.setdefault(_key(process), _Branch(process))
        level = branch.children
    if branch is not None:
        branch.process, branch.holder = line[-1], holder


def _key(process: Process) -> _Key:
    return (process.pid, -1 if isinstance(process.start_time, Missing) else process.start_time)


def _nodes(level: _Forest, room: _Room) -> tuple[Node, ...]:
    """The nodes of one level by pid: those concerned come first when there is no room for all."""
    found: dict[tuple[object, ...], Node] = {}
    for key in sorted(level, key=lambda key: (not _concerned(level[key]), key)):
        branch = level[key]
        kind, words = _kind(branch.process), _words(branch)
        shape = (kind, words, branch.holder is not None and branch.holder.concerned)
        if not branch.children and shape in found:
            found[shape] = replace(found[shape], alike=found[shape].alike + 1)
        elif room.take():
            node = Node(kind, branch.process.pid, _mark(branch), words, _nodes(branch.children, room))
            found[key if branch.children else shape] = node
        else:
            room.refused += sum(1 for _ in _below(branch))
    return tuple(sorted(found.values(), key=lambda node: node.pid))


def _below(branch: _Branch) -> Iterable[_Branch]:
    for child in branch.children.values():
        yield child
        yield from _below(child)


def _concerned(branch: _Branch) -> bool:
    found = branch.holder is not None and branch.holder.concerned
    return found or any(_concerned(child) for child in branch.children.values())


def _mark(branch: _Branch) -> Mark:
    if branch.holder is None:
        return Mark.ANCESTOR
    return Mark.CONCERNED if branch.holder.concerned else Mark.HOLDER


def _kind(process: Process) -> Kind:
    facts = []
    if isinstance(process.exe, str):
        doubt = " (deleted)" if process.exe_deleted is True else ""
        doubt += " (a claim: not the file at that path)" if process.exe_verified is False else ""
        facts.append(process.exe + doubt)
    facts += [f"unit {process.unit}"] if isinstance(process.unit, str) else []
    facts += [f"container {process.container}"] if isinstance(process.container, str) else []
    facts += ["a shell"] if process.shell is True else []
    facts += ["the audit itself"] if process.self_audit is True else []
    return Kind(
        clipped(wording.program(process), _FACT),
        clipped(wording.account(process), _FACT),
        tuple(clipped(fact, _FACT) for fact in facts),
    )


def _words(branch: _Branch) -> str:
    """What the process has to do with the socket; empty for one that does not hold it."""
    if branch.holder is None:
        return ""
    owner = branch.holder.owner
    if branch.holder.held_by:
        return "could receive it: no descriptor of its own was seen"
    said = [_came_by(owner)]
    if owner.fds:
        more = f" and {len(owner.fds) - _FDS} more" if len(owner.fds) > _FDS else ""
        said.append(f"holds it as fd {', '.join(map(str, owner.fds[:_FDS]))}{more}")
    if owner.ancestry_cut:
        said.append("its descent is cut off")
    return "; ".join(filter(None, said)) or "holds it"


def _came_by(owner: Owner) -> str:
    if isinstance(owner.inherited, Missing):
        return ""
    giver = f" from pid {owner.handed_by}" if owner.handed_by is not None else ""
    return f"{_CAME_BY[owner.inherited]}{giver}{'' if owner.certain else ' (not certain)'}"


def _note(listener: Listener) -> str:
    return clipped(wording.unowned(listener), _FACT)

"""The processes around a socket as a picture: who opened it, who inherited it, who holds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from fleetaudit.model import Inherited, Missing, Process
from fleetaudit.policy.explain import OwnerView
from fleetaudit.report.page import Style
from fleetaudit.report.wording import account, program
from fleetaudit.text import visible

_PIDS_SHOWN = 4
_LINES_SHOWN = 60
_DEEPEST = 30  # columns of indentation


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line of the picture, escaped and cut to its width, and what it stands for."""

    text: str
    style: Style


@dataclass(frozen=True, slots=True)
class _Node:
    """A process; `holder` None: it holds nothing. `cut`: its parent is not known."""

    process: Process
    holder: OwnerView | None
    cut: bool


@dataclass(frozen=True, slots=True)
class _Tree:
    """The processes by pid, and the children of each."""

    nodes: Mapping[int, _Node]
    children: Mapping[int, Sequence[int]]

    def alike(self, pids: Iterable[int]) -> list[list[int]]:
        """The pids in order, those of leaves that a reader cannot tell apart together."""
        groups: dict[object, list[int]] = {}
        for pid in sorted(pids):
            leaf = pid not in self.children and self.nodes[pid].holder is not None
            groups.setdefault(_shape(self.nodes[pid]) if leaf else pid, []).append(pid)
        return list(groups.values())


def picture(owners: Sequence[OwnerView], width: int) -> Iterator[TreeLine]:
    """The tree of the owners and their ancestors; alike siblings without children are one line.

    Each line begins with "> " (the rule says something against it), "* " (it holds the socket) or blanks.
    """
    tree = _tree(owners)
    below = {pid for listed in tree.children.values() for pid in listed}
    drawn: set[int] = set()
    lines = [line for group in tree.alike(tree.nodes.keys() - below) for line in _branch(group, tree, drawn)]
    for pid in sorted(tree.nodes):  # what a host says can be a circle, which has no beginning
        if pid not in drawn:
            lines += _branch([pid], tree, drawn)
    for line in lines[:_LINES_SHOWN]:
        yield TreeLine(fitted(line.text, width), line.style)
    if len(lines) > _LINES_SHOWN:
        yield TreeLine(f"  and {len(lines) - _LINES_SHOWN} more lines", Style.QUIET)


def fitted(text: str, width: int) -> str:
    """The text, escaped, in at most `width` columns of a terminal."""
    shown = visible(text)
    if len(shown) <= width and cell_len(shown) <= width:
        return shown
    kept, used = [], 0
    for char in shown:
        used += max(1, cell_len(char))
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def _tree(owners: Sequence[OwnerView]) -> _Tree:
    nodes: dict[int, _Node] = {}
    children: dict[int, list[int]] = {}
    for view in owners:
        chain = (view.owner.process, *view.owner.ancestors)
        for place, process in enumerate(chain):
            holder = view if place == 0 else None
            last = place + 1 == len(chain)
            if process.pid not in nodes or holder is not None:
                nodes[process.pid] = _Node(process, holder, cut=last and view.owner.ancestry_cut)
            if not last:
                siblings = children.setdefault(chain[place + 1].pid, [])
                if process.pid not in siblings:
                    siblings.append(process.pid)
    return _Tree(nodes, children)


def _shape(node: _Node) -> object:
    holder, process = node.holder, node.process
    if holder is None:
        return process.pid
    told = (program(process), account(process), process.exe, process.exe_deleted, process.exe_verified)
    return (*told, holder.owner.inherited, holder.concerned, holder.held_by)


def _branch(
    group: Sequence[int], tree: _Tree, drawn: set[int], stem: str = "", below: str = ""
) -> Iterator[TreeLine]:
    """The lines of a process, or of several alike, and of what is below."""
    drawn |= set(group)
    node = tree.nodes[group[0]]
    mark, style = "  ", Style.QUIET
    if node.holder is not None:
        mark, style = ("> ", Style.BAD) if node.holder.concerned else ("* ", Style.PLAIN)
    yield TreeLine(f"{mark}{stem}{_label(group, node)}", style)
    groups = tree.alike(pid for pid in tree.children.get(group[0], ()) if pid not in drawn)
    deep = len(below) >= _DEEPEST  # from here on a picture would leave no room for names
    for place, inner in enumerate(groups):
        last = place + 1 == len(groups)
        arm, rest = ("» ", "") if deep else ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _branch(inner, tree, drawn, below + arm, below + rest)


def _label(group: Sequence[int], node: _Node) -> str:
    process = node.process
    pids = ", ".join(map(str, group[:_PIDS_SHOWN])) + (", …" if len(group) > _PIDS_SHOWN else "")
    many = f" x{len(group)}" if len(group) > 1 else ""
    words = [f"{'… ' if node.cut else ''}{program(process)}{many}[{pids}] {account(process)}"]
    if node.holder is not None:
        words.append(_story(node.holder))
    if isinstance(process.exe, str):
        words.append(process.exe + (" (deleted)" if process.exe_deleted is True else ""))
    return "  ".join(words)


def _story(view: OwnerView) -> str:
    """How the process came to the socket."""
    if view.held_by:
        return "could receive it"
    inherited, giver = view.owner.inherited, view.owner.handed_by
    if isinstance(inherited, Missing):
        return "holds it, how is not known"
    by = f" from {giver}" if giver is not None else ""
    told = {
        Inherited.ORIGINAL: "opened it",
        Inherited.WORKER: f"worker, inherited it{by}",
        Inherited.HANDED_DOWN: f"handed down{by}",
        Inherited.ACTIVATION: "activation, by systemd",
        Inherited.LEAK: f"LEAK, inherited it{by}",
        Inherited.ORPHAN: "ORPHAN, who opened it is gone",
        Inherited.PASSED: f"passed to it{by}",
    }[inherited]
    return told if view.owner.certain else f"{told} (probably)"

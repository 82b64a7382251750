"""The fleet map: hosts by policies, folded to inventory groups when there are many. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fleetaudit.model import HostAudit, Source, Verdict
from fleetaudit.report.phrases import clipped

_HOSTS_SHOWN: Final = 60
_ROWS_SHOWN: Final = 100
_COLUMNS_SHOWN: Final = 24
_NAME: Final = 60
UNGROUPED: Final = "(in no group)"
NOT_AUDITED: Final = "not audited"
_WORST_FIRST: Final = (
    Verdict.FAIL.value,
    Verdict.ERROR.value,
    NOT_AUDITED,
    Verdict.UNKNOWN.value,
    Verdict.WAIVED.value,
    Verdict.PASS.value,
    Verdict.NOT_APPLICABLE.value,
)
_SHORT: Final = {Verdict.NOT_APPLICABLE.value: "n/a"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One host or group under one policy. `tone` is the worst verdict there, or "" when nothing applies.

    `counts` are (what, how many): results of a host, hosts of a group by their worst result.
    """

    tone: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One host or group; `hosts` is 1 for a host."""

    name: str
    hosts: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """`by_group` says what the rows are. What had no place is counted."""

    by_group: bool
    policies: tuple[str, ...]
    rows: tuple[Row, ...]
    rows_left_out: int = 0
    policies_left_out: int = 0


_Cells: TypeAlias = dict[str, Counter[str]]


@dataclass(slots=True)
class FleetMap:
    """Counts host by host. Hosts are named only as long as they are few, so memory follows the groups."""

    _hosts: list[tuple[str, _Cells]] | None = field(default_factory=list)
    _groups: dict[str, tuple[Counter[str], _Cells]] = field(default_factory=dict)
    _policies: dict[str, None] = field(default_factory=dict)

    def add(self, audit: HostAudit) -> None:
        """Take in one host."""
        cells: _Cells = {}
        reached = audit.outcome.snapshot is not None
        for result in audit.results:
            said = result.verdict.value if reached else NOT_AUDITED
            cells.setdefault(result.policy, Counter())[said] += 1
            self._policies[result.policy] = None
        if self._hosts is not None:
            self._hosts.append((audit.outcome.host, cells))
            if len(self._hosts) > _HOSTS_SHOWN:
                self._hosts = None
        for group in audit.outcome.context.groups or (UNGROUPED,):
            hosts, folded = self._groups.setdefault(group, (Counter(), {}))
            hosts["hosts"] += 1
            for policy, counts in cells.items():
                folded.setdefault(policy, Counter())[_worst(counts)] += 1

    def drawn(self, policies: Sequence[Source]) -> Map:
        """The map: the run's policies in their order, the worst rows first."""
        names = list(dict.fromkeys([*(source.name for source in policies if source.name), *self._policies]))
        shown = names[:_COLUMNS_SHOWN]
        if self._hosts is not None:
            rows = [_row(host, 1, cells, shown) for host, cells in self._hosts]
        else:
            rows = [
                _row(group, hosts["hosts"], cells, shown) for group, (hosts, cells) in self._groups.items()
            ]
        rows.sort(key=_gravity)
        return Map(
            self._hosts is None,
            tuple(clipped(name, _NAME) for name in shown),
            tuple(rows[:_ROWS_SHOWN]),
            max(0, len(rows) - _ROWS_SHOWN),
            len(names) - len(shown),
        )


def _row(name: str, hosts: int, cells: Mapping[str, Counter[str]], policies: Sequence[str]) -> Row:
    return Row(clipped(name, _NAME), hosts, tuple(_cell(cells.get(policy)) for policy in policies))


def _cell(counts: Counter[str] | None) -> Cell:
    if not counts:
        return Cell("", ())
    told = [(_SHORT.get(what, what), counts[what]) for what in _WORST_FIRST if counts[what]]
    return Cell(_worst(counts).replace(" ", "_"), tuple(told))


def _worst(counts: Mapping[str, int]) -> str:
    return next(what for what in _WORST_FIRST if counts.get(what))


def _gravity(row: Row) -> tuple[object, ...]:
    counted: Counter[str] = Counter()
    for cell in row.cells:
        counted.update(dict(cell.counts))
    return (*(-counted[what] for what in _WORST_FIRST[:5]), row.name)

"""Every finding as data in the page, for its search table. Pure.

Texts are written once and named by their number, since most findings of a fleet are alike. The data is
bounded: past the limit the least grave findings give way, and how many did is said.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Hashable, Iterator
from typing import Final, TypeAlias

from fleetaudit.errors import ConfigError
from fleetaudit.model import Finding, HostAudit, Result, Severity, Verdict
from fleetaudit.policy.waiver_writing import entry
from fleetaudit.report import wording
from fleetaudit.report.figures import failure_reason, unjudged_reason
from fleetaudit.report.html_tree import Kind, Node, tree
from fleetaudit.report.phrases import clipped
from fleetaudit.report.record import listener_record, owner_record

VERDICTS: Final = tuple(verdict.value for verdict in Verdict)
SEVERITIES: Final = tuple(severity.value for severity in Severity)
_LIMIT: Final = 9_000_000  # bytes of data in a page
_ORDER: Final = (Verdict.FAIL, Verdict.ERROR, Verdict.UNKNOWN, Verdict.WAIVED)
_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+")
_UNSAFE: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}

_Json: TypeAlias = list[object]
_TABLES: Final = ("texts", "kinds", "rules", "hosts")
_Row: TypeAlias = tuple[
    str, "array[int]"
]  # as JSON, and what it uses: each table's number and the place in it


class Table:
    """Texts and other small values, each kept once, as JSON, for as long as a row uses it.

    `size` is what they take in the page.
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._values: list[str] = []
        self._uses: list[int] = []
        self._free: list[int] = []
        self.size = 0

    def take(self, value: Hashable) -> int:
        """The number of this value, which is used once more."""
        place = self._places.get(value)
        if place is None:
            if not self._free:
                self._free.append(len(self._values))
                self._keys.append(None)
                self._values.append("")
                self._uses.append(0)
            place = self._places[value] = self._free.pop()
            self._keys[place] = value
            self._values[place] = embedded(value)
            self.size += len(self._values[place]) + 1
        self._uses[place] += 1
        return place

    def release(self, place: int) -> None:
        """One use less; a value that nobody uses leaves its number to another."""
        self._uses[place] -= 1
        if not self._uses[place]:
            del self._places[self._keys[place]]
            self.size -= len(self._values[place]) + 1
            self._keys[place], self._values[place] = None, "0"
            self._free.append(place)

    def __str__(self) -> str:
        return f"[{','.join(self._values)}]"


class Rows:
    """Collects findings, host by host."""

    def __init__(self, *, include_pass: bool, limit: int = _LIMIT) -> None:
        self._include_pass = include_pass
        self._limit = limit
        self._tables = {name: Table() for name in _TABLES}
        self._kept: dict[int, list[_Row]] = {}
        self._used = array("L")  # by the row that is being made
        self._size = 0
        self.left_out = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def add(self, audit: HostAudit) -> None:
        """Take in one host: a row for each finding, or the one that says why there is none."""
        reason = failure_reason(audit) or unjudged_reason(audit)
        if reason:
            self._keep(audit, None, Finding(Verdict.UNKNOWN, reason))
            return
        for result in audit.results:
            for finding in result.findings or (Finding(result.verdict, _bare_reason(result)),):
                if self._include_pass or finding.verdict in _ORDER:
                    self._keep(audit, result, finding)

    def encoded(self) -> Iterator[str]:
        """The data as JSON that is safe inside a script element, in parts."""
        heads = {"verdicts": VERDICTS, "severities": SEVERITIES, "leftOut": self.left_out}
        yield embedded(heads)[:-1]
        for name, table in self._tables.items():
            yield f',"{name}":{table}'
        rows = (row for rank in sorted(self._kept) for row, _ in self._kept[rank])
        yield ',"rows":[' + next(rows, "")
        yield from (f",{row}" for row in rows)
        yield "]}"

    def _keep(self, audit: HostAudit, result: Result | None, finding: Finding) -> None:
        self._used = array("L")
        row = embedded(self._row(audit, result, finding))
        self._kept.setdefault(_rank(result, finding), []).append((row, self._used))
        self._size += len(row) + 1
        while self._kept and self._size + sum(table.size for table in self._tables.values()) > self._limit:
            self._drop(max(self._kept))

    def _drop(self, rank: int) -> None:
        row, used = self._kept[rank].pop()
        if not self._kept[rank]:
            del self._kept[rank]
        for number in used:
            place, table = divmod(number, len(_TABLES))
            self._tables[_TABLES[table]].release(place)
        self._size -= len(row) + 1
        self.left_out += 1

    def _take(self, name: str, value: Hashable) -> int:
        place = self._tables[name].take(value)
        self._used.append(place * len(_TABLES) + _TABLES.index(name))
        return place

    def _row(self, audit: HostAudit, result: Result | None, finding: Finding) -> _Json:
        """What the page's script reads by place: see `page.js`."""
        drawn = tree(finding)
        listener = finding.listener
        note = drawn.note
        if drawn.left_out:
            note += f"{'; ' if note else ''}{drawn.left_out} more processes are not shown"
        row: _Json = [
            VERDICTS.index(finding.verdict.value),
            self._host(audit),
            -1 if result is None else self._rule(result),
            self._text(wording.endpoint(listener)) if listener else -1,
            self._text(finding.reason),
            self._text(evidence(finding)),
            [self._node(node) for node in drawn.roots],
            self._text(note),
            self._text(finding.waiver or ""),
            clipped(finding.fingerprint),
            finding.new,
            *([] if result is None else self._waiver(result, finding)),
        ]
        return row

    def _text(self, text: str) -> int:
        return self._take("texts", clipped(text)) if text else -1

    def _host(self, audit: HostAudit) -> int:
        outcome = audit.outcome
        groups = tuple(self._text(group) for group in outcome.context.groups)
        read_at = outcome.snapshot.collected_at if outcome.snapshot else None
        name = clipped(outcome.host)
        return self._take("hosts", (name, outcome.status.value, groups, clipped(read_at or "")))

    def _rule(self, result: Result) -> int:
        return self._take(
            "rules",
            (
                clipped(result.policy),
                clipped(result.rule),
                clipped(result.title),
                SEVERITIES.index(result.severity.value),
                clipped(result.remediation),
                clipped(wording.controls(result.controls)),
                clipped(", ".join(result.references)),
                clipped(result.policy_sha256),
            ),
        )

    def _node(self, node: Node) -> _Json:
        children = [self._node(child) for child in node.children]
        return [
            self._kind(node.kind),
            node.pid,
            int(node.mark),
            self._text(node.words),
            node.alike,
            *children,
        ]

    def _kind(self, kind: Kind) -> int:
        return self._take("kinds", (kind.name, kind.user, *kind.facts))

    def _waiver(self, result: Result, finding: Finding) -> list[object]:
        """A waiver for a violation, in YAML: what stands before its hosts, and after.

        None for a host whose name would have to be a pattern, or if no narrow one can name the owners.
        """
        if finding.verdict is not Verdict.FAIL or not _PLAIN_HOST.fullmatch(result.host):
            return []
        record = {
            "listener": listener_record(finding.listener) if finding.listener else None,
            "owners": [owner_record(holder) for holder in wording.holders(finding)],
        }
        try:
            text = entry({"policy": result.policy, "rule": result.rule, "host": "*"}, record, {})
        except ConfigError:
            return []
        before, _, after = text.partition('    hosts: "*"\n')
        return [self._take("texts", before), self._take("texts", after)]


def evidence(finding: Finding) -> str:
    """What was seen of the listener besides its owners, in words."""
    listener = finding.listener
    if listener is None:
        return ""
    said = [f"socket inode {listener.inode}", f"network namespace {wording.namespace(listener)}"]
    said += [f"state {listener.state}"] if isinstance(listener.state, str) else []
    said += [f"scope {listener.scope}"] if isinstance(listener.scope, str) else []
    return ", ".join(said)


def embedded(value: object) -> str:
    """JSON that stays data inside a script element: whatever the text is, it can end or begin nothing."""
    return json.dumps(value, separators=(",", ":")).translate(_UNSAFE)


def _rank(result: Result | None, finding: Finding) -> int:
    order = _ORDER.index(finding.verdict) if finding.verdict in _ORDER else len(_ORDER)
    return order * 10 + (0 if result is None else SEVERITIES.index(result.severity.value))


def _bare_reason(result: Result) -> str:
    return "" if result.verdict is Verdict.PASS else "no reason was given"

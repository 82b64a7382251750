"""`csv`: one row per finding, one per result without findings, one per host that was not judged.

No row is lost and none reads as a pass that is not one: a host without an audit, and a host that no policy
selects, is one row of verdict `unknown` with an empty rule. Denominators are in the sidecar (`csv_meta`).

Cells: control and bidi characters as \\uNNNN; what a spreadsheet would run as a formula begins with an
apostrophe (OWASP "CSV Injection"); a value that the snapshot does not have is "?", one that is known to be
none is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from fleetaudit.model import Finding, HostAudit, Report, Result, Run, Verdict
from fleetaudit.report import wording
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.record import encode, run_record, summary_record
from fleetaudit.text import visible

COLUMNS: Final = (
    "run_id",
    "time",
    "host",
    "host_status",
    "policy",
    "rule",
    "severity",
    "verdict",
    "protocol",
    "address",
    "port",
    "owners",
    "reason",
    "controls",
    "remediation",
    "waiver",
    "path",
    "netns",
    "device",
    "container",
    "policy_sha256",
    "fingerprint",
    "collected_at",
)
META_SCHEMA: Final = "fleetaudit.csv-meta/1"

_FORMULA: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # full-width forms are formulas in some locales
_SHORT: Final = 200
_CELL_LIMIT: Final = 32_000  # Excel cuts a cell at 32,767 characters without a word


def csv_rows(_options: RenderOptions) -> Renderer:
    """The renderer of `csv`; it has no options: passes are always in it."""
    return _render


def csv_meta(_options: RenderOptions) -> Renderer:
    """The renderer of the sidecar: the run, its denominators, and how many hosts are judged as containers."""
    return _render_meta


def _render(report: Report) -> Iterator[bytes]:
    yield _encode([COLUMNS])
    for audit in report.audits:
        rows = _rows(audit, report.run)
        yield _encode([[_cell(row.get(column, "")) for column in COLUMNS] for row in rows])


def _render_meta(report: Report) -> Iterator[bytes]:
    containers = 0
    for audit in report.audits:
        containers += audit.outcome.context.boundary.value == "container"
        yield b""
    yield encode(
        {
            "schema": META_SCHEMA,
            "run": run_record(report.run),
            "container_hosts": containers,
            "summary": summary_record(report.summary()),
        }
    )
    yield b"\n"


def _rows(audit: HostAudit, run: Run) -> Iterator[dict[str, str]]:
    outcome = audit.outcome
    host = {
        "run_id": run.id,
        "time": run.started_at,
        "host": outcome.host,
        "host_status": outcome.status.value,
        "collected_at": (outcome.snapshot.collected_at or "") if outcome.snapshot else "",
    }
    if outcome.snapshot is None or not audit.results:
        reason = "no policy selects this host"
        if outcome.snapshot is None:
            reason = outcome.detail or f"the host was not audited: {outcome.status.value}"
        yield {**host, "verdict": Verdict.UNKNOWN.value, "reason": reason}
        return
    for result in audit.results:
        about = {**host, **_result_cells(result)}
        for finding in result.findings:
            yield {**about, **_finding_cells(finding, result)}
        if not result.findings:
            yield about


def _result_cells(result: Result) -> dict[str, str]:
    return {
        "policy": result.policy,
        "rule": result.rule,
        "severity": result.severity.value,
        "verdict": result.verdict.value,
        "controls": wording.controls(result.controls),
        "policy_sha256": result.policy_sha256,
    }


def _finding_cells(finding: Finding, result: Result) -> dict[str, str]:
    cells = {
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "owners": _owners(finding),
        "container": _containers(finding),
        "waiver": finding.waiver or "",
        "fingerprint": finding.fingerprint,
    }
    if finding.verdict in (Verdict.FAIL, Verdict.WAIVED):
        cells["remediation"] = result.remediation
    if finding.listener is not None:
        cells |= {
            "protocol": finding.listener.protocol,
            "address": wording.word(finding.listener.address),
            "port": wording.word(finding.listener.port),
            "path": wording.word(finding.listener.path),
            "netns": wording.namespace(finding.listener),
            "device": wording.word(finding.listener.device),
        }
    return cells


def _owners(finding: Finding) -> str:
    """Every owner of the listener: python3[80](www-data); sh[81](www-data)."""
    everybody = [_owner(holder) for holder in wording.holders(finding)]
    state = finding.listener.owner_state if finding.listener else None
    if isinstance(state, str) and state not in ("", "owned"):
        everybody.append(f"({_part(state)})")
    elif finding.listener and not everybody:
        everybody.append("(unknown)")
    return "; ".join(everybody)


def _owner(holder: wording.Holder) -> str:
    process = holder.owner.process
    name = f"{_part(wording.program(process))}[{process.pid}]({_part(wording.account(process))})"
    return f"held_by:{name}" if holder.held_by else name


def _part(text: str) -> str:
    """Text inside a list cell: a process cannot end its entry and begin a false one, nor be a formula."""
    return _harmless(text.replace(";", "\\u003b"))


def _containers(finding: Finding) -> str:
    names = {holder.owner.process.container for holder in wording.holders(finding)}
    return "; ".join(sorted(_part(name) for name in names if isinstance(name, str)))


def _cell(text: str) -> str:
    if not text:
        return ""
    return _short_cell(text) if len(text) <= _SHORT else _written(text)


@lru_cache(4096)
def _short_cell(text: str) -> str:
    """Remembered: most cells of a row are those of the row before, or of the host before."""
    return _written(text)


def _written(text: str) -> str:
    text = _harmless(visible(text))
    if len(text) <= _CELL_LIMIT:
        return text
    return f"{text[:_CELL_LIMIT]}... ({len(text) - _CELL_LIMIT} more characters: see the JSON report)"


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _encode(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode("utf-8")

"""`csv`: one row per finding, one per result without findings, one per host that was not judged.

No row is lost and none reads as a pass that is not one: a host without an audit, and a host that no policy
selects, is one row of verdict `unknown` with an empty rule. Denominators are in the sidecar (`csv_meta`).

Cells: control and bidi characters as \\uNNNN; what a spreadsheet would run as a formula begins with an
apostrophe (OWASP "CSV Injection"); a value that the snapshot does not have is "?", one that is known to be
none is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fleetaudit.model import Finding, HostAudit, Report, Result, Run, Verdict
from fleetaudit.report import wording
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.cells import cell, containers, owners, table
from fleetaudit.report.record import encode, run_record, summary_record

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


def csv_rows(_options: RenderOptions) -> Renderer:
    """The renderer of `csv`; it has no options: passes are always in it."""
    return _render


def csv_meta(_options: RenderOptions) -> Renderer:
    """The renderer of the sidecar: the run, its denominators, and how many hosts are judged as containers."""
    return _render_meta


def _render(report: Report) -> Iterator[bytes]:
    yield table([COLUMNS])
    for audit in report.audits:
        found = rows(audit, report.run)
        yield table([[cell(row.get(column, "")) for column in COLUMNS] for row in found])


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


def rows(audit: HostAudit, run: Run) -> Iterator[dict[str, str]]:
    """The rows of one host by column, not yet escaped."""
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
        "owners": owners(finding),
        "container": containers(finding),
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

"""`xlsx`: a workbook for Excel and its kin, with a summary, findings, hosts and the port register.

Every text is written as text: nothing in it is a formula or a link. The workbook is built in memory, so its
sheets are capped, and say what they leave out; the CSV reports have no cap.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from fleetaudit.errors import ConfigError, Problem
from fleetaudit.model import HostAudit, Report, Run, Summary, Verdict
from fleetaudit.report import csv_rows, listener_rows
from fleetaudit.report.base import CONTAINER_NOTICE, NOTICE, Renderer, RenderOptions
from fleetaudit.report.cells import CELL_LIMIT
from fleetaudit.report.figures import FORMULA, compliance_text, denominators, notes
from fleetaudit.report.phrases import clipped
from fleetaudit.report.times import epoch

ROWS: Final = 20_000  # of one sheet, some 4 KB each in memory; Excel's own limit is 1,048,576

_HOSTS: Final = (
    "host",
    "status",
    "judged",
    "boundary",
    "groups",
    "endpoints",
    "unapproved",
    "collected_at",
    "detail",
)
_RUN: Final = 2  # the first columns of the CSV files, which are the same in every row: run and time
_NUMBERS: Final = frozenset({"port", "pid", "sockets", "endpoints", "unapproved", "count"})
_EPOCH: Final = datetime(1980, 1, 1)  # where the run tells no time: a workbook must have one
_QUIET: Final = (Verdict.PASS.value, Verdict.NOT_APPLICABLE.value)


def xlsx(options: RenderOptions) -> Renderer:
    """The renderer of `xlsx`; `include_pass` adds findings that pass or have nothing to judge.

    Raises ConfigError when xlsxwriter is not installed.
    """
    try:
        import xlsxwriter  # noqa: PLC0415  (an extra, imported only when asked for)
    except ImportError as error:
        problem = Problem("the format xlsx needs xlsxwriter", hint="pip install 'fleetaudit[xlsx]'")
        raise ConfigError(problem) from error

    def render(report: Report) -> Iterator[bytes]:
        buffer = io.BytesIO()
        workbook = xlsxwriter.Workbook(
            buffer,
            {
                "in_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
            },
        )
        workbook.set_properties({"title": "fleetaudit", "created": _created(report.run)})
        bold = workbook.add_format({"bold": True})
        front = _Sheet(workbook.add_worksheet("Summary"), ("what", "count", "meaning"), bold)
        findings = _Sheet(workbook.add_worksheet("Findings"), csv_rows.COLUMNS[_RUN:], bold)
        hosts = _Sheet(workbook.add_worksheet("Hosts"), _HOSTS, bold)
        listeners = _Sheet(workbook.add_worksheet("Listeners"), listener_rows.COLUMNS[_RUN:], bold)
        containers = 0
        for audit in report.audits:
            containers += audit.outcome.context.boundary.value == "container"
            for row in csv_rows.rows(audit, report.run):
                if options.include_pass or row["verdict"] not in _QUIET:
                    findings.write(row)
            hosts.write(_host(audit))
            for row in listener_rows.rows(audit, report.run):
                listeners.write(row)
            yield b""
        for row in _front(report.run, report.summary(), containers):
            front.write(row)
        for sheet in (front, findings, hosts, listeners):
            sheet.finish()
        workbook.close()
        yield buffer.getvalue()

    return render


class _Sheet:
    """A sheet with a frozen header and filters; rows past the cap are counted."""

    def __init__(self, sheet: Any, columns: Sequence[str], bold: Any) -> None:
        self._sheet = sheet
        self._columns = columns
        self._rows = 0
        self._left_out = 0
        for place, name in enumerate(columns):
            sheet.write_string(0, place, name, bold)
            sheet.set_column(place, place, 14 if name != "reason" else 60)
        sheet.freeze_panes(1, 0)

    def write(self, row: Mapping[str, str]) -> None:
        """One more row."""
        if self._rows >= ROWS:
            self._left_out += 1
            return
        self._rows += 1
        for place, name in enumerate(self._columns):
            text = row.get(name, "")
            if name in _NUMBERS and text.isascii() and text.isdecimal():
                self._sheet.write_number(self._rows, place, int(text))
            elif text:
                self._sheet.write_string(self._rows, place, clipped(text, CELL_LIMIT))

    def finish(self) -> None:
        """The filters, and how many rows had no place."""
        self._sheet.autofilter(0, 0, max(self._rows, 1), len(self._columns) - 1)
        if self._left_out:
            text = f"{self._left_out} more rows: the CSV and JSON reports have them all"
            self._sheet.write_string(self._rows + 1, 0, text)


def _host(audit: HostAudit) -> dict[str, str]:
    outcome = audit.outcome
    reached = outcome.snapshot is not None
    return {
        "host": outcome.host,
        "status": outcome.status.value,
        "judged": "yes"
        if reached and any(r.verdict is not Verdict.NOT_APPLICABLE for r in audit.results)
        else "no",
        "boundary": outcome.context.boundary.value,
        "groups": ", ".join(outcome.context.groups),
        "endpoints": str(audit.endpoints) if reached else "",
        "unapproved": str(audit.unapproved) if reached else "",
        "collected_at": (outcome.snapshot.collected_at or "") if outcome.snapshot else "",
        "detail": outcome.detail,
    }


def _front(run: Run, summary: Summary, containers: int) -> Iterator[dict[str, str]]:
    yield from _counts(summary)
    yield {"what": "run", "meaning": f"{run.id}, {run.started_at} to {run.finished_at}"}
    if not run.complete:
        yield {"what": "interrupted", "meaning": "the run was interrupted: hosts are missing"}
    yield {"what": "fleetaudit", "meaning": run.version}
    for source in run.policies:
        yield {"what": "policy", "meaning": f"{source.name} {source.path} sha256 {source.sha256}"}
    for item in summary.waivers:
        if item.wants_attention:
            text = f"{item.file}:{item.line} {item.policy}/{item.rule}: {item.detail}"
            yield {"what": f"waiver {', '.join(item.states)}", "meaning": text}
    for note in (*notes(run, summary), NOTICE):
        yield {"what": "scope", "meaning": note}
    if containers:
        yield {"what": "containers", "count": str(containers), "meaning": CONTAINER_NOTICE}


def _counts(summary: Summary) -> Iterator[dict[str, str]]:
    for about, counts in (
        ("hosts", denominators(summary)),
        ("hosts with status", {name: count for name, count in summary.statuses.items() if count}),
        ("results", summary.results),
        ("failing results of severity", summary.severities),
    ):
        for name, count in counts.items():
            yield {"what": f"{about} {name}", "count": str(count)}
    yield {"what": "compliance", "count": compliance_text(summary), "meaning": FORMULA}
    yield {"what": "exit code", "count": str(int(summary.exit_code))}


def _created(run: Run) -> datetime:
    seconds = epoch(run.started_at)
    if seconds is None:
        return _EPOCH
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)

"""`jsonl`: the objects of the JSON report, one a line, for pipes and log stores.

The first line is the run, then for each host its results and the host itself, and last the summary;
a file without a last line of type `summary` was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetaudit.model import Report
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.record import (
    REPORT_SCHEMA,
    Json,
    encode,
    host_record,
    result_record,
    run_record,
    summary_record,
)


def json_lines(_options: RenderOptions) -> Renderer:
    """The renderer of `jsonl`; it has no options: everything is in it."""
    return _render


def _render(report: Report) -> Iterator[bytes]:
    run = report.run.id
    yield _line("run", run, {"schema": REPORT_SCHEMA, **run_record(report.run)})
    for audit in report.audits:
        results = b"".join(_line("result", run, result_record(result)) for result in audit.results)
        yield results + _line("host", run, host_record(audit))
    yield _line("summary", run, summary_record(report.summary()))


def _line(kind: str, run: str, record: Json) -> bytes:
    return encode({"type": kind, "run": run, **record}) + b"\n"

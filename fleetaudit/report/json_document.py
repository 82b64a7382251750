"""`json`: the whole report as one document (schemas/report.schema.json), streamed.

Results are written as they pass. Hosts come after them, so their records wait as encoded bytes: some
hundred bytes a host.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetaudit.model import Report
from fleetaudit.report.base import Renderer, RenderOptions
from fleetaudit.report.record import (
    REPORT_SCHEMA,
    encode,
    host_record,
    result_record,
    run_record,
    summary_record,
)


def json_document(_options: RenderOptions) -> Renderer:
    """The renderer of `json`; it has no options: everything is in it."""
    return _render


def _render(report: Report) -> Iterator[bytes]:
    head = (encode(REPORT_SCHEMA), encode(run_record(report.run)))
    yield b'{"schema": %b,\n"run": %b,\n"results": [' % head
    separator, hosts = b"\n", []
    for audit in report.audits:
        lines = [encode(result_record(result)) for result in audit.results]
        hosts.append(encode(host_record(audit)))
        yield separator + b",\n".join(lines) if lines else b""
        separator = b",\n" if lines else separator
    yield b'\n],\n"hosts": ['
    for place, host in enumerate(hosts):
        yield (b",\n" if place else b"\n") + host
    yield b'\n],\n"summary": %b}\n' % encode(summary_record(report.summary()))

"""Command lines are in the JSON reports only: not even a reason carries one anywhere else."""

from __future__ import annotations

import io

import pytest
from openpyxl import load_workbook
from pyarrow.parquet import read_table

from fleetaudit.report import RenderOptions, formats, parts
from tests.build import NGINX, judge, process, snapshot, socket
from tests.report.cases import report

POLICY = """
version: 1
name: web
rules:
  - {id: a, listeners: {port: 80}, allow_owners: [{exe: /usr/sbin/nginx, argv: "nginx -g*"}]}
  - {id: b, listeners: {port: 80}, require_owners: [{exe: /usr/sbin/nginx, argv: "nginx -g*"}]}
  - {id: c, listeners: {port: 80}, deny_owners: [{argv: "~--top="}]}
"""


@pytest.mark.parametrize("name", [name for name in formats() if name not in ("json", "jsonl")])
def test_no_reason_carries_a_command_line(name: str) -> None:
    owner = process(NGINX, argv=["nginx", "--top=lorem-ipsum"])
    audit = judge(POLICY, snapshot([socket(80, [80])], {80: owner}))
    assert [result.verdict for result in audit.results] == ["fail"] * 3
    for part in parts(name, RenderOptions(include_pass=True, width=200)):
        data = b"".join(part.renderer(report(audit)))
        if name == "xlsx" and not part.suffix:
            sheets = load_workbook(io.BytesIO(data)).worksheets
            data = repr([list(sheet.values) for sheet in sheets]).encode()
        if name.startswith("parquet"):
            data = repr(read_table(io.BytesIO(data)).to_pylist()).encode()
        assert b"lorem" not in data

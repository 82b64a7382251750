"""Parquet as pyarrow and DuckDB read it: the rows of the CSV files, typed."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from pyarrow.parquet import ParquetFile, read_table

from fleetaudit.errors import ConfigError
from fleetaudit.model import HostAudit
from fleetaudit.report import RenderOptions, csv_rows, listener_rows, parquet_rows, parts
from tests.report.cases import CASES, RUN, render
from tests.report.fleets import few, fleets, reporting

KINDS = {"parquet": "csv", "parquet-listeners": "csv-listeners"}
ROWS = {"parquet": csv_rows.rows, "parquet-listeners": listener_rows.rows}


def rows(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(io.BytesIO(data)).to_pylist()
    return found


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("case", sorted(set(CASES) - {"many", "hostile"}))
def test_the_rows_are_those_of_the_csv_file(name: str, case: str) -> None:
    text = render(KINDS[name], CASES[case]()).decode()
    expected = list(csv.DictReader(io.StringIO(text)))
    found = rows(render(name, CASES[case]()))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        for column in ("host", "host_status", "protocol", "address", "netns"):
            assert mine[column].lstrip("'") == theirs[column].lstrip("'")
        assert str(mine["port"] if mine["port"] is not None else "") == theirs["port"].replace("?", "")


def test_columns_have_types_and_times_are_times() -> None:
    first = rows(render("parquet-listeners", CASES["verdicts"]()))[0]
    assert first["time"] == datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
    assert isinstance(first["port"], int)
    assert isinstance(first["pid"], int)
    assert isinstance(first["exe"], str)


@pytest.mark.parametrize("name", KINDS)
def test_the_denominators_are_in_the_file(name: str) -> None:
    metadata = ParquetFile(io.BytesIO(render(name, CASES["verdicts"]()))).metadata.metadata
    record = json.loads(metadata[b"fleetaudit"])
    sidecar = json.loads(render(KINDS[name], CASES["verdicts"](), part=1))
    assert (record["run"], record["summary"]) == (sidecar["run"], sidecar["summary"])


@pytest.mark.parametrize("name", KINDS)
def test_another_reader_finds_the_same(name: str, tmp_path: Path) -> None:
    data = render(name, CASES["hostile"]())
    (tmp_path / "x.parquet").write_bytes(data)
    found = duckdb.read_parquet(str(tmp_path / "x.parquet")).project("host, reason, port").fetchall()
    assert found == [(row["host"], row["reason"], row["port"]) for row in rows(data)]


def test_row_groups_are_written_as_hosts_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_ROWS", 2)
    (part,) = parts("parquet", RenderOptions())
    chunks = list(part.renderer(CASES["verdicts"]()))
    assert sum(bool(chunk) for chunk in chunks[:-1]) > 1
    whole = ParquetFile(io.BytesIO(b"".join(chunks)))
    assert whole.num_row_groups > 2
    monkeypatch.undo()
    assert whole.read().to_pylist() == rows(render("parquet", CASES["verdicts"]()))


@few
@given(fleets)
def test_any_text_arrives(fleet: list[HostAudit]) -> None:
    for name, raw in ROWS.items():
        expected = [row for audit in fleet for row in raw(audit, RUN)]
        found = rows(render(name, reporting(fleet)))
        assert [row["host"] for row in found] == [
            row["host"].encode("utf-8", "backslashreplace").decode() for row in expected
        ]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"parquet needs pyarrow.*pip install 'fleetaudit\[parquet\]'"):
        parts("parquet", RenderOptions())

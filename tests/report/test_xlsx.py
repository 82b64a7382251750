"""The workbook as openpyxl reads it."""

from __future__ import annotations

import io
import sys
import warnings
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from fleetaudit.cli.outputs import parse_outputs
from fleetaudit.errors import ConfigError
from fleetaudit.model import HostAudit, HostStatus, Report
from fleetaudit.report import RenderOptions, parts, workbook
from fleetaudit.text import visible
from tests.report.cases import (
    CASES,
    HOSTILE,
    NO_SHELL,
    RUN,
    WEB,
    failed,
    leak,
    reached,
    render,
    report,
    result,
)
from tests.report.fleets import few, fleets, reporting

PASSES = RenderOptions(include_pass=True)


def read(of: Report, options: RenderOptions | None = None) -> Workbook:
    return load_workbook(io.BytesIO(render("xlsx", of, options)))


def rows(of: Report, sheet: str, options: RenderOptions | None = None) -> list[dict[str, object]]:
    head, *body = read(of, options)[sheet].iter_rows(values_only=True)
    return [dict(zip(map(str, head), row, strict=True)) for row in body]


def test_every_verdict_and_host_is_there() -> None:
    told = [(row["host"], row["verdict"]) for row in rows(CASES["verdicts"](), "Findings")]
    assert told == [
        ("web1", "fail"),
        ("web1", "fail"),
        ("web2", "fail"),
        ("web3", "unknown"),
        ("web4", "waived"),
        ("web4", "error"),
        ("web6", "unknown"),
    ]
    with_passes = [row["verdict"] for row in rows(CASES["verdicts"](), "Findings", PASSES)]
    assert (with_passes.count("pass"), with_passes.count("not_applicable")) == (3, 1)
    hosts = rows(CASES["verdicts"](), "Hosts")
    assert [(row["host"], row["status"], row["judged"]) for row in hosts][2:] == [
        ("web3", "partial", "yes"),
        ("web4", "ok", "yes"),
        ("web5", "ok", "yes"),
        ("web6", "ok", "no"),
    ]
    down = rows(report(failed("db1", HostStatus.TIMEOUT, "slow")), "Hosts")
    assert [(row["host"], row["status"], row["detail"]) for row in down] == [("db1", "timeout", "slow")]
    assert len(rows(CASES["verdicts"](), "Listeners")) == 13


def test_denominators_and_the_formula_are_on_the_first_sheet() -> None:
    book = read(CASES["verdicts"]())
    assert book.sheetnames == ["Summary", "Findings", "Hosts", "Listeners"]
    front = {row["what"]: row for row in rows(CASES["verdicts"](), "Summary")}
    assert (front["hosts targeted"]["count"], front["hosts judged"]["count"]) == (6, 5)
    assert front["compliance"]["count"] == "37.5 %"
    assert str(front["compliance"]["meaning"]).startswith("pass / (pass + fail")
    assert "interrupted" in {row["what"] for row in rows(CASES["nothing"](), "Summary")}


def test_the_header_is_frozen_and_filtered_and_ports_are_numbers() -> None:
    book = read(CASES["verdicts"]())
    for sheet in book.worksheets:
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref
    assert rows(CASES["verdicts"](), "Findings")[0]["port"] == 8080
    assert rows(CASES["verdicts"](), "Listeners")[0]["pid"] == 80


def test_no_formula_and_no_link_is_ever_live() -> None:
    evil = [*HOSTILE, "http://x.example/", "mailto:a@b.example", "{=1+1}", "_x0041_", "=HYPERLINK(1)"]
    audits = [
        reached(text, result(replace(NO_SHELL, rule=text), text, replace(leak(), reason=text)))
        for text in evil
    ]
    book = read(report(*audits))
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type in ("s", "n")
                assert cell.hyperlink is None
    reasons = {row["reason"] for row in rows(report(*audits), "Findings")}
    assert {visible(text) for text in evil} == reasons


def test_the_time_in_it_is_the_runs_and_the_same_report_gives_the_same_bytes() -> None:
    first = render("xlsx", CASES["verdicts"]())
    assert first == render("xlsx", CASES["verdicts"]())
    assert str(read(CASES["verdicts"]()).properties.created) == "2026-11-22 10:00:00"
    assert str(read(report(run=replace(RUN, started_at="?"))).properties.created) == "1980-01-01 00:00:00"


def test_a_sheet_that_is_full_says_how_many_rows_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "ROWS", 3)
    made = rows(report(reached("h", result(NO_SHELL, "h", *[leak(WEB)] * 5))), "Findings")
    assert [row["host"] for row in made] == ["h"] * 3 + [
        "2 more rows: the CSV and JSON reports have them all"
    ]


def test_argv_is_not_in_it() -> None:
    book = read(CASES["verdicts"](), PASSES)
    cells = [
        str(cell) for sheet in book.worksheets for row in sheet.iter_rows(values_only=True) for cell in row
    ]
    assert not any("app.py" in cell for cell in cells)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ConfigError, match=r"needs xlsxwriter.*pip install 'fleetaudit\[xlsx\]'"):
        parts("xlsx", RenderOptions())
    with pytest.raises(ConfigError, match="needs xlsxwriter"):  # before anything is collected
        parse_outputs(["xlsx=audit.xlsx"], quiet=True)


@few
@given(fleets, st.booleans())
def test_any_text_arrives_as_text(fleet: list[HostAudit], passes: bool) -> None:
    data = render("xlsx", reporting(fleet), RenderOptions(include_pass=passes))
    with warnings.catch_warnings():
        book = load_workbook(io.BytesIO(data))
    assert all(
        cell.data_type in ("s", "n") for sheet in book.worksheets for row in sheet.iter_rows() for cell in row
    )
    hosts = [row[0] for row in book["Hosts"].iter_rows(min_row=2, values_only=True)]
    assert [host or "" for host in hosts[: len(fleet)]] == [visible(audit.outcome.host) for audit in fleet]
